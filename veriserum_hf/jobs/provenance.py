"""What shapes a result in addition to its input and options: this package's source, and the libraries below it."""

import ast
import hashlib
import json
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from veriserum_hf.core import __version__

_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = ("datasets", "manifold3d", "numba", "torch", "trimesh", "transformers")  # some are extras


def library_versions(*libraries: str) -> dict[str, str]:
    """Versions of what rows and frames are made with, and of more libraries by the names of their distributions."""
    import cv2  # here, as it is imported for nothing else where no hash is requested
    import numpy as np
    import pyarrow as pa
    import scipy

    versions = {library.__name__: library.__version__ for library in (cv2, np, pa, scipy)}
    # By their metadata: importing them takes a second.
    return versions | {name: version(name) for name in ("pillow", "simplejpeg", *libraries)}


def source_hash(*sources: str, libraries: tuple[str, ...] = ()) -> str:
    """Hash of what modules of this package do, without comments and docstrings, and of the libraries' versions.

    Parameters
    ----------
    sources : rooms with all that is in them, modules, or folders of YAML files below the package, such as
        ``"geometry"`` or ``"dataset.convert"``.
    libraries : in addition to those of `library_versions`, by the names of their distributions.

    """
    digest = hashlib.sha256(json.dumps(library_versions(*libraries)).encode())
    for source in sources:
        path = _PACKAGE.joinpath(*source.split("."))
        for module in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
            digest.update(_without_comments(module.read_text(encoding="utf-8")).encode())
        for data in sorted(path.glob("*.yaml")):
            digest.update(data.read_bytes())
    return digest.hexdigest()


@cache
def versions() -> dict[str, str]:
    """What processes that share work must have in common, so that the result does not depend on which did what."""
    source = hashlib.sha256()
    for module in sorted(_PACKAGE.rglob("*.py")):
        source.update(module.read_bytes())
    own = {"veriserum_hf": __version__, "source of veriserum_hf": source.hexdigest()[:12]}
    python = {"Python": ".".join(platform.python_version_tuple()[:2])}
    libraries = library_versions(*filter(_is_installed, _LIBRARIES))
    return (
        own | python | {name: found.partition("+")[0] for name, found in libraries.items()}
    )  # torch with CUDA or not


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


@cache  # takes a third of a second for all of them
def _without_comments(source: str) -> str:
    """The syntax tree of a module as text, without comments, layout and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            del node.body[0]
    return ast.dump(tree)
