"""The rooms of the package: what they export is there, and the others use nothing else of them."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import veriserum_hf

PACKAGE = Path(veriserum_hf.__file__).parent
ROOMS = sorted(face.parent.name for face in PACKAGE.glob("*/__init__.py"))


def imports(file):
    """Every (module, name) that a file imports from the package, absolutely."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "veriserum_hf":
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_all_that_a_room_exports_is_there(room):
    face = import_module(f"veriserum_hf.{room}")
    assert face.__doc__
    modules = {file.stem for file in (PACKAGE / room).glob("*.py")}
    for name in face.__all__:
        assert getattr(face, name) is not None
        assert name not in modules or getattr(face, name).__name__ == f"veriserum_hf.{room}.{name}"


@pytest.mark.parametrize("room", ROOMS)
def test_other_rooms_are_used_by_their_faces_alone(room):
    """Not by their modules, which may change."""
    for file in (PACKAGE / room).rglob("*.py"):
        for module, name in imports(file):
            other = module.split(".")[1:]
            if other and other[0] in ROOMS and other[0] != room:
                assert len(other) == 1, f"{file}: {module}"
                assert name in import_module(module).__all__, f"{file}: {module}.{name}"


@pytest.mark.parametrize(
    ("sources", "modules", "phantoms"),
    [
        ("veriserum_hf.dataset.SOURCES_OF_ROWS", ("dataset.convert", "dataset.masks", "dataset.plan"), ()),
        ("veriserum_hf.simulation.SOURCES_OF_FRAMES", ("simulation.write",), ()),
        (
            "veriserum_hf.registration.data_sets.SOURCES_OF_POSES",
            ("registration.data_sets",),
            ("calibration", "recalibration", "dataset.frame_calibration"),
        ),
    ],
)
def test_a_hash_of_sources_covers_every_module_that_is_used(sources, modules, phantoms):
    """But those that only carry words, problems or work, or refuse; without phantoms, also those of phantoms."""
    room, name = sources.rsplit(".", 1)
    named = getattr(import_module(room), name)
    script = f"""
import sys
{"; ".join(f"import veriserum_hf.{module}" for module in modules)}
from {room} import {name}
print(*(set(m.removeprefix("veriserum_hf.") for m in sys.modules if m.startswith("veriserum_hf.")) - set({name})))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    rooms = tuple(f"{room}." for room in ("core", "jobs", *phantoms, *named) if "." not in room)
    others = {name for name in done.stdout.split() if "." in name and not name.startswith(rooms)}
    carrying = {
        "archive.files",
        "archive.layout",
        "archive.problems",
        "dataset.open",
        "dataset.plugin",
        "dataset.provenance",
        "dataset.rows",
    }
    refusing = {f"archive.{name}" for name in ("compared_frames", "conventions", "evidence", "polarity", "readings")}
    assert others <= carrying | refusing | set(phantoms), others - carrying


def test_nothing_large_is_imported_with_the_package():
    script = "import sys, veriserum_hf, veriserum_hf.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert not {"numpy", "pyarrow", "datasets", "torch", "cv2", "scipy", "numba"} & set(done.stdout.split())
