"""What shapes a result beside its input and options: this package's source, and the libraries below it."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import scipy

_PACKAGE = Path(__file__).parents[1]
# Rooms that shape the rows of a data set, and the frames of a simulated archive.
ROOMS_OF_ROWS = ("geometry", "calibration", "archive", "dataset")
ROOMS_OF_SIMULATION = ("geometry", "calibration", "rendering", "simulation")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that shape every result."""
    return {library.__name__: library.__version__ for library in (cv2, np, pa, scipy)}


def source_hash(*rooms: str) -> str:
    """Hash of the modules of these rooms of the package, and of the libraries' versions."""
    digest = hashlib.sha256(json.dumps(library_versions()).encode())
    for room in rooms:
        for source in sorted((_PACKAGE / room).glob("*.*")):
            digest.update(source.read_bytes())
    return digest.hexdigest()
