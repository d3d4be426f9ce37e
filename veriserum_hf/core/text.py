"""Text of messages."""

import re
from collections.abc import Iterable

# Characters that are not seen but obeyed: terminal control (line breaks and tabs are text), directions of writing,
# zero width, line separators, tags; and halves of pairs, which stand for bytes that are not UTF-8 in a file's name.
_OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""Text in which characters that a terminal or browser would obey instead of show are escaped, such as \x1b."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    r"""Return `visible` text with its line breaks as \n: a value cannot pretend to be further lines of a message."""
    return visible(text).replace("\n", "\\n")


def code_span(text: object) -> str:
    """Text as code within a line of Markdown; a backtick in it, which would end the code, becomes an apostrophe."""
    return "`" + one_line(str(text)).replace("`", "'") + "`"


def listed(items: Iterable[object], most: int = 5) -> str:
    """Join items as "1, 2, 3, ... (12 in all)"."""
    every = [str(item) for item in items]
    return ", ".join(every) if len(every) <= most else f"{', '.join(every[:most])}, ... ({len(every)} in all)"
