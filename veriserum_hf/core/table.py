"""Tables: the same rows for a terminal, for Markdown and for HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

from veriserum_hf.core.text import one_line, visible


@dataclass(frozen=True)
class Table:
    """Rows of cells under the names of their columns.

    HTML is written by the template of a page, from the same attributes.

    Attributes
    ----------
    header : names of the columns; empty for a table without any.
    rows : cells of any type, shown as `str`; every row has as many.
    alignment : one letter a column, l (left) or r (right); the last one holds for all further columns.
    note : what the cells are, a paragraph below the table.

    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    alignment: str = "lr"
    note: str = ""

    def alignments(self) -> list[str]:
        """``left`` or ``right`` for each column."""
        columns = len(self.header or (self.rows[0] if self.rows else ()))
        letters = self.alignment + self.alignment[-1] * columns
        return [{"l": "left", "r": "right"}[letter] for letter in letters[:columns]]

    def markdown(self) -> str:
        """Table of GitHub's Markdown, without a line break at its end; the note follows as a paragraph."""
        sides = self.alignments()
        rule = "|".join({"left": "---", "right": "---:"}[side] for side in sides)
        header, *rows = map(_markdown_row, (self.header or [""] * len(sides), *self.rows))
        lines = "\n".join([header, f"|{rule}|", *rows])
        return f"{lines}\n\n{self.note}" if self.note else lines

    def text(self) -> str:
        """Columns of a terminal, as wide as their cells, without a line break at their end; the note follows."""
        cells = [
            [one_line(str(cell)) for cell in row] for row in (*([self.header] if self.header else []), *self.rows)
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        sides = self.alignments()
        lines = [
            "  ".join(
                cell.ljust(width) if side == "left" else cell.rjust(width)
                for cell, width, side in zip(row, widths, sides, strict=True)
            ).rstrip()
            for row in cells
        ]
        return "\n".join([*lines, "", self.note] if self.note else lines)


def _markdown_row(cells: Sequence[object]) -> str:
    """One line; a vertical bar or a line break within a cell would end it, HTML and links would be obeyed."""
    escaped = (
        visible(str(cell)).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("](", "]\\(")
        for cell in cells
    )
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in escaped)}|"
