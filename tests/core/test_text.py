"""Text that is shown and never obeyed."""

import pytest

from veriserum_hf.core.table import Table
from veriserum_hf.core.text import code_span, one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[/b]x [link=https://example.org]y[/link]", "[/b]x [link=https://example.org]y[/link]"),
        ("\x1b[31mred\x1b[0m\x07", "\\x1b[31mred\\x1b[0m\\x07"),
        ("a\rb\x9bc\x7f", "a\\rb\\x9bc\\x7f"),
        ("\u202egpj.exe\u2066\u200f", "\\u202egpj.exe\\u2066\\u200f"),
        ("zero\u200bwidth\ufeff\u2028", "zero\\u200bwidth\\ufeff\\u2028"),
        ("\udcff.jpg", "\\udcff.jpg"),
        ("\U000e0041", "\\U000e0041"),
        ("Müller, 膝関節, ركبة, 1 µm\tline\nline", "Müller, 膝関節, ركبة, 1 µm\tline\nline"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, shown):
    assert visible(text) == shown
    assert one_line(text) == shown.replace("\n", "\\n")


def test_cells_cannot_break_out_of_their_table():
    table = Table(["task"], [["gait\n| x |\x1b[2J"], ["<img src=x>"], ["[click](https://example.org)"]])
    assert table.text().splitlines()[1] == "gait\\n| x |\\x1b[2J"
    assert table.markdown().splitlines()[2:] == [
        "| gait \\| x \\|\\x1b[2J |",
        "| &lt;img src=x> |",
        "| [click]\\(https://example.org) |",
    ]


def test_code_cannot_break_out_of_its_span():
    assert code_span("a`<img src=x>`\n# b\x1b") == "`a'<img src=x>'\\n# b\\x1b`"
