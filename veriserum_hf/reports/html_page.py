"""A self-contained HTML page: a lead, warnings, and sections of blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jinja2

from veriserum_hf.core import __version__
from veriserum_hf.jobs import library_versions, write_file, writing
from veriserum_hf.reports.blocks import Block
from veriserum_hf.reports.motions import Motions

SIMULATED = "The data set is simulated: it contains no measured images or poses."
_TEMPLATE = Path(__file__).with_name("page_template.html")
_SCRIPT = Path(__file__).with_name("motions.js")


@dataclass(frozen=True)
class Section:
    """A part of the page with a title."""

    title: str
    blocks: Sequence[Block]


def html_page(
    title: str,
    lead: str,
    sections: Sequence[Section],
    warnings: Sequence[str] = (),
    motions: Motions | None = None,
) -> str:
    """The page as HTML; ``motions`` are the numbers of its trials, with a script that draws them."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    script = _SCRIPT.read_text(encoding="utf-8")
    return template.render(
        title=title, lead=lead, sections=sections, warnings=warnings, motions=motions, script=script
    )


def save_report(html: str, output: Path) -> None:
    """Write a page, in one step.

    Raises
    ------
    VeriserumError
        If the file cannot be written.

    """
    with writing(output):
        write_file(output, html)


def versions() -> str:
    """Versions of the package and of the libraries that a page depends on."""
    found = {"veriserum_hf": __version__} | {name: version(name) for name in ("datasets", "matplotlib")}
    return ", ".join(f"{name} {number}" for name, number in (found | library_versions()).items())
