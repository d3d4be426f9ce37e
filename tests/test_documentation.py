"""The documentation names commands, options, files and pages that exist, and its notebooks run."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest
import typer

from docs.hooks.api import exported, face_of, room_page, rooms
from docs.hooks.commands import commands, page as commands_page
from docs.hooks.notebooks import executed, page as notebook_page
from veriserum_hf.cli.app import app
from veriserum_hf.training.settings import TrainingSettings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
COMMANDS = dict(commands())
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}


def shell_lines():
    """Every command line of the blocks, and those in the text; page and line."""
    for page, text in TEXTS.items():
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                yield from ((page, part.strip()) for part in re.sub(r"\s#.*", "", line).split("&&") if part.strip())
        for line in re.findall(r"`((?:veriserum|make) [^`]+)`", text):
            yield page, " ".join(line.split())


def options_of(words):
    return {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}


def test_every_command_line_names_a_command_and_its_options():
    lines = [(page, shlex.split(line)) for page, line in shell_lines() if line.startswith("veriserum ")]
    assert len(lines) > 40
    seen = set()
    of_all = {option for parameter in typer.main.get_command(app).params for option in parameter.opts} | {"--help"}
    for page, words in lines:
        if words[1].startswith("-"):
            assert options_of(words) <= of_all, (page, words)
            continue
        known = [name for name in COMMANDS if words[: len(name.split())] == name.split()]
        if words[1:2] == ["COMMAND"] or words[1:] == ["calibrate", "..."]:
            continue
        assert known, (page, words)
        options = {option for parameter in COMMANDS[known[0]].params for option in parameter.opts} | {"--help"}
        assert options_of(words) <= options, (page, words)
        seen |= set(known)
    assert seen == set(COMMANDS)


def test_every_line_of_training_and_evaluation_names_its_options():
    settings = {f"--{field.name}" for part in fields(TrainingSettings) for field in fields(part.type)} | {"--config"}
    evaluate = (ROOT / "veriserum_hf" / "training" / "evaluate.py").read_text()
    lines = [line for _, line in shell_lines() if "training/" in line]
    assert len(lines) > 3
    for line in lines:
        script, *words = line[line.index("training/") :].split()
        if script == "training/train.py":
            assert options_of(words) <= settings, line
        else:
            assert script == "training/evaluate.py" and all(f'"{option}"' in evaluate for option in options_of(words))
        assert all((ROOT / word).exists() for word in (script, *words) if word.startswith("training/"))


def test_every_target_of_make_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for _, line in shell_lines() if line.startswith("make ") for word in line.split()[1:]}
    named -= {"PYTHON=python3.12", "BEFORE=CHECKOUT", "RUN=RUN", "..."}  # variables
    assert {"demo", "test", "docs"} <= named <= targets


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_links_of_the_repository_lead_to_files(name):
    """Those within the site are checked by `mkdocs build`, which is strict."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text()):
        assert (ROOT / target).is_file(), target


def test_the_api_pages_hold_every_name_of_every_face():
    for room in rooms(ROOT):
        if room != "errors":
            text = room_page(ROOT, room)
            assert all(re.search(rf"\b{name}\b", text) for name in exported(face_of(ROOT, room))), room


def test_code_of_a_repository_is_only_run_at_a_version_that_is_named():
    """By whoever follows the pages or a card."""
    templates = [path.read_text() for path in (ROOT / "veriserum_hf").rglob("*_template.md")]
    lines = [
        line for text in (*TEXTS.values(), *templates) for line in text.splitlines() if "trust_remote_code" in line
    ]
    assert len(lines) >= 3
    assert all("revision=" in line for line in lines)


def test_the_page_of_commands_is_plain_text():
    text = commands_page()
    assert all(f"\n## {name}\n" in text for name in COMMANDS)
    assert "\x1b" not in text and "╭" not in text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(notebook):
    for cell in nbformat.read(notebook, as_version=4).cells:
        assert cell.cell_type == "markdown" or (not cell.outputs and cell.execution_count is None)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook):
    text, images = notebook_page(notebook.stem, executed(notebook.read_text()))
    assert images and all(name in text for name in images)
    assert "/tmp" not in text
    if notebook.stem == "registration":
        assert text.count(" converged ") == 2
