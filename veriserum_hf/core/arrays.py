"""Types of arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.intp]
ImageArray = NDArray[Any]  # uint8 or float32; OpenCV's own types cannot express it
ByteImage = NDArray[np.uint8]  # grey (rows, columns), or BGR (rows, columns, 3)
Grey = NDArray[np.uint8] | NDArray[np.uint16]  # levels of one grey channel, (rows, columns)
