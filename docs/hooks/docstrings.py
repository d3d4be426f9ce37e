"""Attributes and parameters whose docstring says what they are, not of which type: the code has the types."""

import re
from typing import Any

import griffe

# `size : edge of the image, px.`, but not `reason : str`.
_PROSE = re.compile(r"^(\w+(?:, \w+)*) : (\S+ .+)$", re.MULTILINE)


class ProseAfterColon(griffe.Extension):
    """Turns the text after the colon from a type into a description."""

    def on_instance(self, *, obj: griffe.Object | griffe.Alias, **kwargs: Any) -> None:
        """Rewrite the docstring before it is parsed."""
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = _PROSE.sub(r"\1\n    \2", obj.docstring.value)
