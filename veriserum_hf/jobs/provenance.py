"""What shapes the rows beside the archive and the options: this package's source, and the libraries below it."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import scipy

_PACKAGE = Path(__file__).parents[1]
_ROOMS_THAT_SHAPE_ROWS = ("geometry", "calibration", "archive", "dataset")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that shape the rows."""
    return {library.__name__: library.__version__ for library in (cv2, np, pa, scipy)}


def source_hash() -> str:
    """Hash of every module of this package, and every version of a library, that shapes the rows."""
    digest = hashlib.sha256(json.dumps(library_versions()).encode())
    for room in _ROOMS_THAT_SHAPE_ROWS:
        for source in sorted((_PACKAGE / room).glob("*.*")):
            digest.update(source.read_bytes())
    return digest.hexdigest()
