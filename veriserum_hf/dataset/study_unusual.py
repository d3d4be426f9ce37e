"""What no X-ray system has, where a camera does not contradict itself: another unit, or the file of another camera.

It is said and not refused, since a laboratory may have what others have not.
"""

from collections.abc import Mapping

import numpy as np

from veriserum_hf.core import PlaneName, one_line
from veriserum_hf.dataset.study import Study
from veriserum_hf.dataset.study_cameras import PlaneCamera, where_they_meet

_FOCAL_LENGTHS = (1.0, 50.0)  # of widths of an image: 53 to 1 deg of view
_NEAREST_DETECTOR_MM = 300.0
_LEAST_FIELD_MM = 50.0  # width of an image at a knee
_FARTHEST_APART = 0.25  # of an image's width: central rays of calibrated planes pass each other at 0.01 to 0.06
_USUALLY_COVERED = 0.5  # of an image by its undistortion table: a round field covers 0.78 of a square


def unusual_cameras(study: Study, cameras: Mapping[PlaneName, PlaneCamera]) -> list[str]:
    """Sentences on what no X-ray system has, where it does not contradict itself: another unit, another file.

    Cameras in cm, camera to world for world to camera, and a rotation that is transposed may see a part of the same
    space all the same.
    """
    sentences = [
        f"{one_line(plane.name)}: {one_line(plane.distortion.name)} covers {cameras[plane.column].covered:.0%} of an "
        "image; compare whether it is the table of this camera, and of images of this size"
        for plane in study.planes
        if plane.distortion and cameras[plane.column].covered < _USUALLY_COVERED
    ]
    for plane in study.planes:
        sentences += _unlike_an_x_ray_system(one_line(plane.name), cameras[plane.column])
    if len(study.planes) > 1:
        sentences += _where_no_knee_is(study, cameras)
    return sentences


def _unlike_an_x_ray_system(name: str, plane: PlaneCamera) -> list[str]:
    """Sentences on focal lengths, the principal point and distances of one camera."""
    K, edges = plane.camera.intrinsics, np.array(plane.size[::-1])
    sentences = []
    ratios = K.diagonal()[:2] / edges
    if ratios.min() < _FOCAL_LENGTHS[0] or ratios.max() > _FOCAL_LENGTHS[1]:
        sentences.append(
            f"{name}: focal lengths of {K[0, 0]:.6g} and {K[1, 1]:.6g} px, with images of {edges[0]} x {edges[1]} "
            "px, are unusual; compare whether they are in px"
        )
    if (np.abs(K[:2, 2] - (edges - 1) / 2) > edges).any():
        sentences.append(
            f"{name}: the principal point ({K[0, 2]:.6g}, {K[1, 2]:.6g}) px lies far outside of images of "
            f"{edges[0]} x {edges[1]} px, which is unusual; compare its unit, and whether images were cropped"
        )
    distance_mm = plane.row["source_to_intensifier_mm"]
    if distance_mm is not None and distance_mm < _NEAREST_DETECTOR_MM:
        sentences.append(
            f"{name}: the detector lies {distance_mm:.4g} mm from the X-ray source, which is unusual; compare "
            "whether the camera and its pixel size are in mm"
        )
    return sentences


def _where_no_knee_is(study: Study, cameras: Mapping[PlaneName, PlaneCamera]) -> list[str]:
    planes = [cameras[plane.column] for plane in study.planes]
    distance_mm, depths_mm = where_they_meet(*planes)
    fields_mm = [
        depth_mm * plane.size[1] / plane.camera.intrinsics[0, 0]
        for depth_mm, plane in zip(depths_mm, planes, strict=True)
    ]
    smallest_mm = min(fields_mm)
    if smallest_mm > _LEAST_FIELD_MM and distance_mm < _FARTHEST_APART * smallest_mm:
        return []
    sizes = " and ".join(f"{field_mm:.0f}" for field_mm in fields_mm)
    return [
        f"{' and '.join(one_line(plane.name) for plane in study.planes)}: the rays of the images' centres pass each "
        f"other at {distance_mm:.0f} mm, where images are {sizes} mm wide, which is unusual; compare whether "
        "world_to_camera maps the world to the camera, and is in mm"
    ]
