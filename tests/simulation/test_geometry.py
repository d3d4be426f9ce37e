"""Implants are seen where the rig projects them: the outline of each against the edges in corrected frames."""

from collections import defaultdict

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry import NATIVE_SIZE, mm_to_px, px_to_mm
from veriserum_hf.rendering.contours import outline
from veriserum_hf.rendering.rasteriser import path_length
from veriserum_hf.simulation.imaging import ATTENUATION_PER_MM, Imaging
from veriserum_hf.simulation.implants import IMPLANT_PAIRS
from veriserum_hf.simulation.intensifier import expose
from veriserum_hf.simulation.scenario import scene, trial
from veriserum_hf.simulation.settings import Settings

SETTINGS = Settings(trials=len(IMPLANT_PAIRS), frames_per_trial=5)
FRAMES = (0, 2, 4)
# All lengths are px of a 512 px image.
SPACING, STEP, REACH = 0.5, 0.05, 3.0  # along an outline, and across it
ALONG = 4.0  # standard deviation of the mean along the outline, which takes noise out and leaves edges as sharp
STRONG = 8.0  # grey levels a px
MOST = 0.7
OPAQUE = Imaging(attenuation_per_mm={material: 30 * per_mm for material, per_mm in ATTENUATION_PER_MM.items()})


def along_outline(contour):
    """Points and outward normals, both (n, 2) px, evenly along a closed contour."""
    closed = np.vstack([contour, contour[:1]])
    run = np.append(0, np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1)))
    at = np.arange(0, run[-1], SPACING)
    points = gaussian_filter1d(np.stack([np.interp(at, run, xy) for xy in closed.T], 1), 1, axis=0, mode="wrap")
    smooth = gaussian_filter1d(points, 2, axis=0, mode="wrap")
    tangent = np.roll(smooth, -1, axis=0) - np.roll(smooth, 1, axis=0)
    return points, tangent[:, ::-1] * (-1, 1) / np.linalg.norm(tangent, axis=1, keepdims=True)


def outlines(part, other, plane):
    """Points and normals along every contour of a part, and which are not within 4 px of the other one's shadow."""
    clear = (path_length(other.mesh, other.T_world_part, plane, 512) == 0).astype(np.uint8)
    to_other = cv2.distanceTransform(clear, cv2.DIST_L2, 5)
    for contour in outline(part.mesh, part.T_world_part, plane, 512):
        if len(contour) >= 100:  # some 12 px around: less is a chink, not much wider than its own blur
            points, normals = along_outline(contour)
            yield points, normals, cv2.remap(to_other, points.astype(np.float32)[None], None, cv2.INTER_LINEAR)[0] > 4


def edge_offsets(image, contours):
    """How far outwards, in px of 512, the nearest strong edge is from each point of an outline.

    An edge is where the grey rises most steeply along the normal, at least half as steeply as anywhere near. Where
    there is none, the offset is ``REACH``.
    """
    across, offsets = np.arange(-REACH, REACH + STEP / 2, STEP), []
    for points, normals, apart in contours:
        px = mm_to_px(px_to_mm(points[:, None] + across[:, None] * normals[:, None], 512), len(image))
        grey = cv2.remap(image.astype(np.float32), px.astype(np.float32), None, cv2.INTER_CUBIC)
        rise = np.gradient(gaussian_filter1d(grey, ALONG / SPACING, axis=0, mode="wrap")[apart], STEP, axis=1)
        inner = rise[:, 1:-1]
        strong = (inner >= rise[:, :-2]) & (inner > rise[:, 2:]) & (inner > STRONG)
        strong &= inner > rise.max(axis=1, keepdims=True) / 2
        nearest = np.where(strong, abs(across[1:-1]), np.inf).argmin(axis=1)
        offsets.append(np.where(strong.any(axis=1), across[1:-1][nearest], REACH))
    return np.concatenate(offsets)


def views(pair, imaging, frame, sizes):
    """Of each implant in each plane: its id, the plane, the corrected image by size, and the implant's outlines."""
    shown, parts = trial(SETTINGS, pair), scene(SETTINGS, pair, frame, with_holders=False)
    assert tuple(shown.anatomy_ids.values()) == IMPLANT_PAIRS[pair]
    for name in PLANES:
        plane, distortion = shown.session.rig[name], shown.session.distortions[name]
        raw = expose(parts, plane, distortion, imaging, np.random.default_rng(frame))
        images = {size: distortion.correct(raw, size) for size in sizes}
        for anatomy_id, part, other in zip(IMPLANT_PAIRS[pair], parts, parts[::-1], strict=True):
            yield anatomy_id, name, images, list(outlines(part, other, plane))


each_pair = pytest.mark.parametrize("pair", range(len(IMPLANT_PAIRS)), ids=[f"{f}-{t}" for f, t in IMPLANT_PAIRS])


@each_pair
def test_the_outline_of_each_implant_lies_on_strong_edges(pair):
    medians = {512: defaultdict(list), NATIVE_SIZE: defaultdict(list)}
    for frame in FRAMES:
        for anatomy_id, plane, images, contours in views(pair, Imaging(), frame, medians):
            for size, image in images.items():
                offsets = edge_offsets(image, contours)
                assert len(offsets) > 300
                medians[size][anatomy_id, plane].append(np.median(abs(offsets)))
    for view, by_frame in medians[512].items():
        assert np.median(by_frame) <= MOST, view
    for view, by_frame in medians[NATIVE_SIZE].items():
        assert max(by_frame) <= MOST, view
    femoral = [
        median for size in medians for (id, _), seen in medians[size].items() if id in (1, 2) for median in seen
    ]
    assert max(femoral) <= 0.3  # opaque nearly to the rim


@each_pair
def test_the_shadow_of_an_opaque_implant_is_not_shifted(pair):
    for anatomy_id, plane, images, contours in views(pair, OPAQUE, FRAMES[0], [512]):
        # All outlines are edges then: as a whole they are nowhere else, by far less than half a pixel.
        offsets = edge_offsets(images[512], contours)
        normals = np.concatenate([normals[apart] for _, normals, apart in contours])
        h, v, _ = np.linalg.lstsq(np.c_[normals, np.ones(len(normals))], offsets, rcond=None)[0]
        assert np.hypot(h, v) < 0.15, (anatomy_id, plane)
        assert np.median(abs(offsets)) < 0.2, (anatomy_id, plane)
