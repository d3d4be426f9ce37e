"""Pieces of a report's page: tables, images, headings, notes, and trials that the page's script draws."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from veriserum_hf.core import Table


class Link(NamedTuple):
    """Cell of a table that leads to a place on the page."""

    text: str
    address: str


@dataclass(frozen=True)
class Block:
    """One piece.

    Attributes
    ----------
    kind : of the piece.
    text : of a heading or a note; description of an image or a trial; what opens a table that is shown closed.
    address : of an image, as a data URL; id of a trial on the page.
    table : content of a table, or of facts; its note is shown below it.

    """

    kind: Literal["table", "facts", "heading", "note", "image", "trial"]
    text: str = ""
    address: str = ""
    table: Table | None = None


def table(content: Table, closed: str = "") -> Block:
    """Return a table; with the text ``closed`` it is shown once this is opened."""
    return Block("table", closed, table=content)


def facts(content: Mapping[str, object]) -> Block:
    """Return a table of names and values."""
    return Block("facts", table=Table([], list(content.items()), alignment="l"))


def heading(text: str) -> Block:
    """Return a heading within a section."""
    return Block("heading", text)


def note(text: str) -> Block:
    """Return a paragraph."""
    return Block("note", text)


def image(address: str, text: str) -> Block:
    """Return an image by its data URL and its description."""
    return Block("image", text, address)


def trial(text: str, id: str) -> Block:
    """Return a trial, closed, which the script draws when it is opened."""
    return Block("trial", text, id)


def number(value: float | None) -> str:
    """Three significant digits; a dash for None."""
    if value is None:
        return "-"
    return (
        f"{value:.0f}" if abs(value) >= 100 else f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"
    )
