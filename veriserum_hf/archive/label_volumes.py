"""Surfaces of labels in NIfTI volumes, such as a segmented CT."""

import gzip
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import trimesh
from manifold3d import Manifold
from numpy.typing import NDArray
from scipy import ndimage

from veriserum_hf.core import BoolArray, FloatArray, one_line
from veriserum_hf.errors import FrameError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

MOST_VOXELS = 500_000_000
MOST_STORED_BYTES = 2_000_000_000
_MOST_OF_LABEL = 100_000_000  # voxels of the box around one label: meshing takes 1.5 us each
_ISLAND = 0.01  # of the largest part: what is smaller is noise of a segmentation
_MM = {"meter": 1000.0, "micron": 0.001}
_MOST_NAMED = 12


def is_nifti(data: bytes) -> bool:
    """Whether a file is NIfTI 1 or 2 in one part, compressed by gzip or not, by its first 348 bytes."""
    if data.startswith(b"\x1f\x8b"):
        try:
            data = zlib.decompressobj(wbits=31).decompress(data, 348)
        except zlib.error:
            return False
    return data[344:348] == b"n+1\0" or data[4:8] == b"n+2\0"


def surface_of_label(data: bytes, name: str, label: int | None) -> tuple[FloatArray, tuple[str, ...]]:
    """Corners (n, 3, 3) of the surface around one label, mm, and what was decided on the way, one clause each.

    Coordinates are those of the file's world: right, anterior, superior (RAS), mm. Meshes that 3D Slicer writes are
    left, posterior, superior unless that is changed: x and y have the other sign there.

    The surface lies where a trilinear interpolation of the label passes 1/2, so that it is half a voxel off at most.

    Parameters
    ----------
    data : content of the file.
    name : of the file, for messages.
    label : value of the voxels; None where there is only one besides 0.

    Raises
    ------
    FrameError
        With the reason ``unreadable`` where it is no volume of labels, has several labels of which none or another
        one is asked for, or nibabel is not installed; ``damaged``.

    """
    image = _opened(data, name)
    shape = tuple(size for size in image.shape if size != 1 or len(image.shape) <= 3)
    if len(shape) != 3 or not 0 < np.prod(shape, dtype=float) <= MOST_VOXELS:
        size = " x ".join(map(str, image.shape))
        raise FrameError("unreadable", f"{name} has {size} voxels, expected three axes and at most {MOST_VOXELS:,}")
    values = _values(image, name).reshape(shape)
    inside, changes = _voxels_of(values, name, label)
    to_mm, unit = _to_mm(image)
    return _corners(inside, name, to_mm), (*changes, *unit)


def _opened(data: bytes, name: str) -> "Nifti1Image":
    try:
        import nibabel
    except ImportError as error:
        raise FrameError("unreadable", f'{name} is NIfTI: pip install "veriserum-hf[nifti]"') from error
    kind = nibabel.Nifti2Image if _unzipped(data, 8)[4:8] == b"n+2\0" else nibabel.Nifti1Image
    found: Nifti1Image = _heeded(name, lambda: kind.from_stream(_stream(data)))
    return found


def _unzipped(data: bytes, size: int) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(data, size) if data.startswith(b"\x1f\x8b") else data[:size]


def _stream(data: bytes) -> Any:
    return gzip.GzipFile(fileobj=BytesIO(data)) if data.startswith(b"\x1f\x8b") else BytesIO(data)


def _heeded(name: str, read: Callable[[], Any]) -> Any:
    """Result of a function of nibabel, whose errors for a damaged file are of many kinds."""
    from nibabel.spatialimages import HeaderDataError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except (HeaderDataError, OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise FrameError("damaged", f"reading {name}: {one_line(str(error))}") from error
    except (zlib.error, MemoryError) as error:
        raise FrameError("damaged", f"reading {name}: {one_line(str(error))}") from error


def _values(image: "Nifti1Image", name: str) -> NDArray[Any]:
    """Values of all voxels, in their own type where they are not rescaled."""
    proxy: Any = image.dataobj
    if (size := proxy.dtype.itemsize * np.prod(image.shape, dtype=float)) > MOST_STORED_BYTES:
        raise FrameError("unreadable", f"the voxels of {name} take {size / 1e9:.1f} GB; store labels in 1 or 2 bytes")
    as_stored = proxy.slope in (None, 1) and proxy.inter in (None, 0)
    values = _heeded(name, proxy.get_unscaled if as_stored else lambda: np.asarray(proxy, np.float32))
    found = np.asarray(values)
    if found.dtype.kind not in "uif":
        raise FrameError("unreadable", f"the voxels of {name} are of type {found.dtype}, expected whole numbers")
    return found


def _voxels_of(values: NDArray[Any], name: str, label: int | None) -> tuple[BoolArray, tuple[str, ...]]:
    """Voxels of one label without its islands, and what was decided."""
    labels = _labels(values, name)
    listed = ", ".join(map(str, labels[:_MOST_NAMED])) + ", ..." * (len(labels) > _MOST_NAMED)
    if not labels:
        raise FrameError("unreadable", f"{name} has no label: all of its voxels are 0")
    if label is None and len(labels) > 1:
        raise FrameError("unreadable", f"{name} has the labels {listed}; state which one is the implant (label:)")
    if label is not None and label not in labels:
        raise FrameError("unreadable", f"{name} has no voxels of the label {label}; it has {listed}")
    wanted = labels[0] if label is None else label
    inside: BoolArray = values == wanted
    parts, count = ndimage.label(inside)
    sizes = np.bincount(parts.ravel())[1:]
    kept = sizes >= _ISLAND * sizes.max()
    said = [f"the surface of the label {wanted} was taken ({int(sizes[kept].sum())} voxels)"]
    if not kept.all():
        inside = np.concatenate([[False], kept])[parts]
        said.append(f"{count - kept.sum()} islands of {int(sizes[~kept].max())} voxels at most were left out")
    return inside, tuple(said)


def _labels(values: NDArray[Any], name: str) -> list[int]:
    """The labels besides 0, of which a volume has few."""
    found: set[float] = set()
    for part in values:  # slice by slice, as sorting takes several times the memory
        found.update(np.unique(part).tolist())
        if len(found) > 4096:
            raise FrameError("unreadable", f"{name} has thousands of different values: an image, not labels")
    if odd := next((value for value in found if not np.isfinite(value) or value != int(value)), None):
        raise FrameError("unreadable", f"{name} has the value {odd:g}: not a whole number, so no label")
    return sorted(int(value) for value in found - {0})


def _to_mm(image: "Nifti1Image") -> tuple[FloatArray, tuple[str, ...]]:
    """Affine map (4, 4) from indices to mm of the world, and what is said of it."""
    header: Any = image.header
    factor = _MM.get(str(header.get_xyzt_units()[0]), 1.0)
    affine = np.diag([factor] * 3 + [1.0]) @ np.asarray(image.affine, np.float64)
    said = ["its coordinates are those of the NIfTI file's world (right, anterior, superior)"]
    if factor != 1:
        said = [f"{said[0]}, converted from {header.get_xyzt_units()[0]}s to mm"]
    if not int(header["qform_code"]) and not int(header["sform_code"]):
        said.append("the file states no world, so that its origin is the centre of the volume")
    return affine, tuple(said)


def _corners(inside: BoolArray, name: str, to_mm: FloatArray) -> FloatArray:
    """Corners (n, 3, 3) of the surface, mm: closed, whatever the voxels are."""
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    volume = np.pad(inside[box], 1).astype(np.float32)
    if volume.size > _MOST_OF_LABEL:
        raise FrameError(
            "unreadable",
            f"the label of {name} spans {volume.size:,} voxels, expected {_MOST_OF_LABEL:,}; resample it",
        )
    if not (np.isfinite(to_mm).all() and abs(np.linalg.det(to_mm[:3, :3])) > 0):
        raise FrameError("damaged", f"the affine map of {name} is singular")
    bounds = [0.0, 0.0, 0.0, *(size - 1.0 for size in volume.shape)]
    solid = Manifold.level_set(lambda x, y, z: _above_half(volume, x, y, z), bounds, 1.0)
    mesh = solid.to_mesh64()
    offset = np.array([part.start - 1 for part in box])
    corners = np.asarray(mesh.vert_properties)[:, :3] + offset
    in_mm = trimesh.transform_points(corners, to_mm)
    faces = np.asarray(mesh.tri_verts)
    return np.asarray(in_mm[faces if np.linalg.det(to_mm[:3, :3]) > 0 else faces[:, ::-1]], np.float64)


@numba.njit()
def _above_half(volume: NDArray[np.float32], x: float, y: float, z: float) -> float:
    """Trilinear interpolation at indices, less 1/2."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    if min(i, j, k) < 0 or i >= volume.shape[0] - 1 or j >= volume.shape[1] - 1 or k >= volume.shape[2] - 1:
        return -0.5
    found = 0.0
    for a, of_x in ((0, 1 - x + i), (1, x - i)):
        for b, of_y in ((0, 1 - y + j), (1, y - j)):
            for c, of_z in ((0, 1 - z + k), (1, z - k)):
                found += volume[i + a, j + b, k + c] * of_x * of_y * of_z
    return found - 0.5
