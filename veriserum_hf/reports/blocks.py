"""Pieces of a report's page: tables, pictures, headings and notes."""

from dataclasses import dataclass
from typing import Literal

from veriserum_hf.core import Table


@dataclass(frozen=True)
class Block:
    """One piece.

    Attributes
    ----------
    kind : what it is.
    text : of a heading or a note; of a picture, what it shows.
    address : of a picture, as a data URL.
    table : of a table; its note is shown below it.

    """

    kind: Literal["table", "heading", "note", "picture"]
    text: str = ""
    address: str = ""
    table: Table | None = None


def table(content: Table) -> Block:
    """Return a table."""
    return Block("table", table=content)


def heading(text: str) -> Block:
    """Return a heading within a section."""
    return Block("heading", text)


def note(text: str) -> Block:
    """Return a paragraph."""
    return Block("note", text)


def picture(address: str, text: str) -> Block:
    """Return a picture by its data URL, and what it shows."""
    return Block("picture", text, address)


def number(value: float | None) -> str:
    """Three significant digits, and a dash where there is no value."""
    if value is None:
        return "-"
    return (
        f"{value:.0f}" if abs(value) >= 100 else f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"
    )
