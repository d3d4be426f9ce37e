"""What shapes a result beside its input and options: this package's source, and the libraries below it."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import scipy

_PACKAGE = Path(__file__).parents[1]
# Rooms that shape the rows of a data set, and the frames of a simulated archive.
ROOMS_OF_ROWS = ("geometry", "calibration", "archive", "dataset")
_LIBRARIES_OF_ROOM = {"simulation": ("manifold3d", "numba", "trimesh")}
ROOMS_OF_SIMULATION = ("geometry", "calibration", "rendering", "simulation")


def library_versions(*rooms: str) -> dict[str, str]:
    """Versions of the libraries that shape the results of these rooms of the package."""
    versions = {library.__name__: library.__version__ for library in (cv2, np, pa, scipy)}
    # By their metadata: importing them takes a second.
    return versions | {name: version(name) for room in rooms for name in _LIBRARIES_OF_ROOM.get(room, ())}


def source_hash(*rooms: str) -> str:
    """Hash of the modules of these rooms of the package, and of the libraries' versions."""
    digest = hashlib.sha256(json.dumps(library_versions(*rooms)).encode())
    for room in rooms:
        for source in sorted((_PACKAGE / room).glob("*.*")):
            digest.update(source.read_bytes())
    return digest.hexdigest()
