"""Pieces of a report's page: tables, pictures, headings and notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Block:
    """One piece.

    Attributes
    ----------
    kind : what it is.
    text : of a heading or a note; of a picture, what it shows.
    address : of a picture, as a data URL.
    header, rows : of a table.

    """

    kind: Literal["table", "heading", "note", "picture"]
    text: str = ""
    address: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Block:
    """Return a table; the first cell of a row is its name."""
    return Block("table", header=header, rows=rows)


def heading(text: str) -> Block:
    """Return a heading within a section."""
    return Block("heading", text)


def note(text: str) -> Block:
    """Return a paragraph."""
    return Block("note", text)


def picture(address: str, text: str) -> Block:
    """Return a picture by its data URL, and what it shows."""
    return Block("picture", text, address)


def blocks_of(markdown: str) -> list[Block]:
    """Tables and paragraphs of Markdown as `veriserum_hf.evaluation.tables` writes it."""
    blocks = []
    for part in markdown.strip().split("\n\n"):
        if part.startswith("|"):
            header, _, *rows = [
                [cell.strip() for cell in line.strip().strip("|").split("|")] for line in part.splitlines()
            ]
            blocks.append(table(header, rows))
        else:
            blocks.append(note(part))
    return blocks


def number(value: float | None) -> str:
    """Three significant digits, and a dash where there is no value."""
    if value is None:
        return "-"
    return (
        f"{value:.0f}" if abs(value) >= 100 else f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"
    )
