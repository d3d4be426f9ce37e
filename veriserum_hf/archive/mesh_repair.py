"""Mend a triangle mesh where its shape does not depend on how: duplicates, small holes, orientation."""

from dataclasses import dataclass

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from veriserum_hf.core import BoolArray, FloatArray

_Faces = NDArray[np.int64]
_MOST_OF_SURFACE = 0.01  # that may be closed: the shape of more is a guess
_MOST_EDGES = 10_000  # of holes; triangles that share no corners have more
_MOST_BODIES = 100  # whose orientation is decided one by one


@dataclass(frozen=True)
class Bodies:
    """Connected parts of a closed mesh.

    Attributes
    ----------
    label : (n,) part of every triangle.
    volume_mm3 : (parts,), negative where a part faces inwards.
    low_mm, high_mm : (parts, 3) bounds.

    """

    label: NDArray[np.int64]
    volume_mm3: FloatArray
    low_mm: FloatArray
    high_mm: FloatArray

    def within(self, part: int) -> BoolArray:
        """Whether the bounds of one part are inside those of each."""
        inside: BoolArray = ((self.low_mm[part] > self.low_mm) & (self.high_mm[part] < self.high_mm)).all(axis=1)
        return inside


def repaired(corners_mm: FloatArray) -> tuple[trimesh.Trimesh, tuple[str, ...]]:
    """Mesh of triangles (n, 3, 3) in mm, and what had to be mended; what cannot be mended stays as it is."""
    # Binary STL holds float32: rounded first, what is stored is what was checked.
    corners = corners_mm.astype(np.float32).astype(np.float64).reshape(-1, 3)
    mesh = trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3))
    done: list[str] = []
    if not mesh.is_watertight:
        done += _without_repeated(mesh)
    if not mesh.is_winding_consistent or not mesh.is_watertight:
        done += _made_consistent(mesh)
    if not mesh.is_watertight:
        done += _closed(mesh)
    if mesh.is_watertight and mesh.is_winding_consistent:
        done += _turned_outwards(mesh)
    return mesh, tuple(done)


def _without_repeated(mesh: trimesh.Trimesh) -> list[str]:
    """Remove triangles without three different corners, and second copies of others."""
    faces: _Faces = np.asarray(mesh.faces)
    collapsed = (faces == np.roll(faces, 1, axis=1)).any(axis=1)
    # Rotated so that the smallest index comes first: orientation counts.
    first = faces.argmin(axis=1)
    rotated = np.take_along_axis(faces, (first[:, None] + np.arange(3)) % 3, axis=1)
    kept = np.zeros(len(faces), dtype=bool)
    kept[np.unique(rotated, axis=0, return_index=True)[1]] = True
    twice = ~kept & ~collapsed
    if not (collapsed | twice).any():
        return []
    mesh.update_faces(kept & ~collapsed)
    counts = {"that had collapsed": collapsed.sum(), "that occurred twice": twice.sum()}
    return [f"{count} triangles {what} were removed" for what, count in counts.items() if count]


def _made_consistent(mesh: trimesh.Trimesh) -> list[str]:
    """Turn triangles so that neighbours face the same side; nothing where a surface has only one side."""
    faces: _Faces = np.asarray(mesh.faces)
    count = len(faces)
    a, b, agree = _neighbours(faces)
    # Every triangle twice: as it is, and reversed. Neighbours that agree connect like to like, others crosswise.
    other = np.where(agree, 0, count)
    tail, head = np.concatenate([a, a + count]), np.concatenate([b + other, (b + other + count) % (2 * count)])
    graph = coo_array((np.ones(len(tail), dtype=bool), (tail, head)), (2 * count, 2 * count))
    labels = connected_components(graph, directed=False)[1]
    as_is, reversed_ = labels[:count], labels[count:]
    if (as_is == reversed_).any():
        return []
    # Of the two ways to orient each part, the one that reverses fewer triangles.
    part = np.minimum(as_is, reversed_)
    is_second = as_is != part
    flip = is_second.copy()
    most = np.bincount(part, weights=is_second, minlength=part.max() + 1) > np.bincount(part) / 2
    flip ^= most[part]
    if not flip.any():
        return []
    mesh.faces[flip] = mesh.faces[flip][:, ::-1]
    mesh.faces = mesh.faces.copy()  # which forgets what was computed of the old ones
    return [f"{int(flip.sum())} of {count} triangles that faced the other side than their neighbours were reversed"]


def _neighbours(faces: _Faces) -> tuple[NDArray[np.int64], NDArray[np.int64], BoolArray]:
    """Pairs of triangles that share an edge of two, and whether they pass it in opposite directions."""
    edges = _edges(faces)
    order, starts, counts = _grouped(edges)
    first = starts[counts == 2]
    one, two = order[first], order[first + 1]
    return one // 3, two // 3, edges[one, 0] != edges[two, 0]


def _edges(faces: _Faces) -> _Faces:
    """Directed edges, (3 n, 2); those of triangle k in rows 3 k to 3 k + 2."""
    return faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


def _grouped(edges: _Faces) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Order that brings edges between the same corners together, where each group starts, and its size."""
    keys = edges.min(axis=1) * (edges.max() + 1) + edges.max(axis=1)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return order, starts, np.diff(starts, append=len(keys))


def _boundary(faces: _Faces) -> _Faces:
    """Directed edges that only one triangle has, (n, 2)."""
    edges = _edges(faces)
    order, starts, counts = _grouped(edges)
    boundary: _Faces = edges[order[starts[counts == 1]]]
    return boundary


def _loops(boundary: _Faces) -> list[list[int]]:
    """Closed loops of boundary edges, as corners; edges that belong to none are left out."""
    following: dict[int, list[int]] = {}
    for tail, head in boundary.tolist():
        following.setdefault(tail, []).append(head)
    loops = []
    while following:
        start = corner = next(iter(following))
        loop: list[int] = []
        while heads := following.get(corner):
            loop.append(corner)
            corner, empty = heads.pop(), not heads
            if empty:
                del following[loop[-1]]
        if corner == start:
            loops.append(loop)
    return loops


def _closed(mesh: trimesh.Trimesh) -> list[str]:
    """Close all holes if they are small: each by triangles from its edges to its centre."""
    boundary = _boundary(np.asarray(mesh.faces))
    loops = _loops(boundary) if len(boundary) <= _MOST_EDGES else []
    if not loops or sum(map(len, loops)) != len(boundary):
        return []
    vertices, faces = [np.asarray(mesh.vertices)], [np.asarray(mesh.faces)]
    first_new = len(mesh.vertices)
    for loop in loops:
        corners = np.array(loop)
        if len(loop) == 3:
            faces.append(corners[::-1][None])
            continue
        center = np.full(len(loop), first_new)
        first_new += 1
        vertices.append(mesh.vertices[corners].mean(axis=0, keepdims=True).astype(np.float32).astype(np.float64))
        faces.append(np.stack([np.roll(corners, -1), corners, center], axis=1))
    closed = trimesh.Trimesh(np.concatenate(vertices), np.concatenate(faces), process=False)
    added_mm2 = closed.area_faces[len(mesh.faces) :].sum()
    if added_mm2 > _MOST_OF_SURFACE * mesh.area or not closed.is_watertight:
        return []
    mesh.vertices, mesh.faces = closed.vertices, closed.faces
    holes = "a hole" if len(loops) == 1 else f"{len(loops)} holes"
    return [f"{holes} of {len(boundary)} edges ({added_mm2:.2g} mm^2 in all) closed"]


def described_holes(mesh: trimesh.Trimesh) -> str:
    """What keeps a mesh from being closed, in words."""
    boundary = _boundary(np.asarray(mesh.faces))
    if not len(boundary):
        return "some edges are shared by more than two triangles"
    if len(boundary) > _MOST_EDGES:
        return f"{len(boundary)} edges belong to one triangle only"
    loops = _loops(boundary)
    largest_mm = max((float(np.ptp(mesh.vertices[loop], axis=0).max()) for loop in loops), default=0.0)
    return f"{len(loops)} holes of {len(boundary)} edges in all, the largest {largest_mm:.2g} mm wide"


def bodies(mesh: trimesh.Trimesh) -> Bodies:
    """Connected parts of a closed mesh; an inner surface has a negative volume."""
    a, b, _ = _neighbours(np.asarray(mesh.faces))
    graph = coo_array((np.ones(len(a), dtype=bool), (a, b)), (len(mesh.faces),) * 2)
    label = connected_components(graph, directed=False)[1].astype(np.int64)
    triangles_mm = np.asarray(mesh.triangles) - mesh.bounds.mean(axis=0)
    one, two, three = triangles_mm.transpose(1, 0, 2)
    signed_mm3 = np.einsum("ni,ni->n", one, np.cross(two, three)) / 6
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order], prepend=-1))
    low_mm = np.minimum.reduceat(triangles_mm.min(axis=1)[order], starts)
    high_mm = np.maximum.reduceat(triangles_mm.max(axis=1)[order], starts)
    return Bodies(label, np.bincount(label, weights=signed_mm3).astype(np.float64), low_mm, high_mm)


def _turned_outwards(mesh: trimesh.Trimesh) -> list[str]:
    """Turn solids that are inside out; an inner surface of a hollow one faces inwards rightly."""
    parts = bodies(mesh)
    count = len(parts.volume_mm3)
    outwards = np.sign(parts.volume_mm3[np.abs(parts.volume_mm3).argmax()])  # of the largest
    reversed_ = np.full(count, outwards < 0)
    if count <= _MOST_BODIES:
        solid = outwards * parts.volume_mm3 > 0
        for part in np.flatnonzero(~solid).tolist():
            reversed_[part] ^= not (parts.within(part) & solid).any()
    if not reversed_.any():
        return []
    flip = reversed_[parts.label]
    mesh.faces = np.where(flip[:, None], mesh.faces[:, ::-1], mesh.faces)
    which = "it was" if reversed_.all() else f"{reversed_.sum()} of its {count} closed surfaces were"
    return [f"{which} inside out, and reoriented (so is a mirrored mesh: check that it is of the right side)"]
