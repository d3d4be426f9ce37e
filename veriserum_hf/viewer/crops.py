"""Crops of the planes of frames around the outlines in them, and the distance at which lengths are stated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from veriserum_hf.core import ByteImage, FloatArray, PlaneName
from veriserum_hf.viewer.captions import DARK
from veriserum_hf.viewer.outlines import Traced

_MARGIN, _LEAST_MM = 1.15, 100.0  # of the crop: relative to the outlines, and its least edge


@dataclass(frozen=True, eq=False)
class Crop:
    """A square crop of a plane, drawn with square pixels.

    Attributes
    ----------
    center_px : (column, row) in the plane's image.
    mm_per_px : edges of a pixel of the plane's image, (along columns, along rows) mm.
    edge_mm : of the crop.
    size : of the resulting image, px.

    """

    center_px: FloatArray
    mm_per_px: FloatArray
    edge_mm: float
    size: int

    @property
    def px_per_mm(self) -> float:
        """Pixels of the resulting image per mm."""
        return self.size / self.edge_mm

    @property
    def scale(self) -> FloatArray:
        """Pixels of the resulting image per pixel of the plane's image, (2,) along columns and rows."""
        return self.px_per_mm * self.mm_per_px

    @property
    def shift_px(self) -> FloatArray:
        """Position in the resulting image of pixel (0, 0) of the plane's; centres are at integers in both."""
        return np.asarray((self.size - 1) / 2 - self.center_px * self.scale)

    def cut(self, grey: ByteImage) -> ByteImage:
        """Part of the plane's image, in BGR, to be drawn into; dark outside."""
        to_stored = np.column_stack([np.diag(1 / self.scale), -self.shift_px / self.scale])
        how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        shown = cv2.warpAffine(grey, to_stored, (self.size, self.size), flags=how, borderValue=DARK)
        return np.repeat(shown[:, :, None], 3, axis=2).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Scale:
    """Where lengths are stated: on the detector, or where its distance is unknown, at the depth of the implants.

    Attributes
    ----------
    distance_mm : from the source of each plane.
    where : in a legend; empty without a length, where neither is known.

    """

    distance_mm: Mapping[PlaneName, float]
    where: str

    @classmethod
    def of(cls, planes: Mapping[PlaneName, Sequence[Traced]]) -> "Scale":
        """Common scale of the planes of one frame, or of several."""
        every = [one for of_plane in planes.values() for one in of_plane]
        if all(one.view.detector_mm is not None for one in every):
            found = {
                plane: np.median([one.view.detector_mm or 0.0 for one in of_plane])
                for plane, of_plane in planes.items()
            }
            return cls({plane: float(mm) for plane, mm in found.items()}, "on the detector")
        depths = {
            plane: [traced.depth_mm for one in of_plane for traced in one.traces]
            for plane, of_plane in planes.items()
        }
        if all(depths.values()):
            at = {plane: float(np.median(each)) for plane, each in depths.items()}
            stated = ", ".join(f"{plane} {mm:.0f}" for plane, mm in at.items())
            return cls(at, f"at the implants' depth ({stated} mm from the source)")
        focal_px = {plane: float(of_plane[0].view.camera.intrinsics[0, 0]) for plane, of_plane in planes.items()}
        return cls(focal_px, "")

    def stated(self, crops: Mapping[PlaneName, Crop]) -> str:
        """What 1 mm is in the crops, for a legend."""
        px_per_mm = next(iter(crops.values())).px_per_mm
        return f"1 mm {self.where} is {px_per_mm:.1f} px" if self.where else "no scale: pixel sizes are unknown"


def choose_crops(planes: Mapping[PlaneName, Sequence[Traced]], size: int, scale: Scale) -> dict[PlaneName, Crop]:
    """Crop of each plane: all outlines, the planes at one scale; whole images without outlines.

    Parameters
    ----------
    planes : of one frame or several.
    size : edge of each plane's resulting image, px.
    scale : of these planes.

    """
    corners, mm_per_px, whole = {}, {}, {}
    needed_mm = 0.0
    for plane, of_plane in planes.items():
        whole[plane] = np.max([one.view.columns_rows for one in of_plane], axis=0)
        mm_per_px[plane] = of_plane[0].view.mm_per_px(scale.distance_mm[plane])
        points = np.concatenate(
            [np.empty((0, 2)), *(one.points(traced) for one in of_plane for traced in one.traces)]
        )
        if len(points):
            corners[plane] = points.min(axis=0), points.max(axis=0)
            extent_mm = (corners[plane][1] - corners[plane][0]) * mm_per_px[plane]
            needed_mm = max(needed_mm, float(extent_mm.max()))
    whole_mm = max(float((whole[plane] * mm_per_px[plane]).max()) for plane in planes)
    edge_mm = min(max(_MARGIN * needed_mm, _LEAST_MM), whole_mm) if corners else whole_mm
    crops = {}
    for plane in planes:
        last_px = whole[plane] - 1
        low, high = corners.get(plane, (np.zeros(2), last_px))
        # The crop stays in the image, or has all of it in its centre.
        least_px = np.minimum(edge_mm / mm_per_px[plane] / 2 - 0.5, last_px / 2)
        crops[plane] = Crop(np.clip((low + high) / 2, least_px, last_px - least_px), mm_per_px[plane], edge_mm, size)
    return crops
