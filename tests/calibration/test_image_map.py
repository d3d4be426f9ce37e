"""Undistortion tables as XMALab writes them."""

import pickle

import cv2
import numpy as np
import pytest

from veriserum_hf.calibration import read_image_map
from veriserum_hf.errors import CalibrationError

SHAPE = (300, 320)


def recorded_of(belongs):
    """Pincushion and rotation about the centre: where pixels of the undistorted image were recorded."""
    off = (belongs - (160, 150)) / 160
    squared = (off**2).sum(axis=-1, keepdims=True)
    twisted = off * (0.96 + 0.03 * squared) + 0.02 * off[..., ::-1] * (1, -1)
    return 160 * twisted + (160, 150)


def pixels():
    x, y = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
    return np.stack([x, y], axis=-1).astype(np.float64)


def grid():
    """Holes of a perforated plate: a hexagonal grid within a circle."""
    row, column = np.mgrid[-12:13, -12:13].reshape(2, -1)
    points = np.stack([160 + 14 * (column + row / 2), 150 + 14 * np.sqrt(0.75) * row], axis=1)
    return points[np.linalg.norm(points - (160, 150), axis=1) < 140]


def write_lut(path, newline="\n", end=""):
    """As OpenCV formats matrices: two of them, 8 digits, -1 where no point is near."""
    maps = recorded_of(pixels()).astype(np.float32)
    maps[np.linalg.norm(pixels() - (160, 150), axis=-1) > 145] = -1
    lines = [", ".join(f"{value:.8g}" for value in row) for axis in (0, 1) for row in maps[..., axis]]
    path.write_text(newline.join(lines) + newline + end, newline="")
    return maps


def write_points(folder, endings, inlier=None):
    belongs = grid()
    for points, ending in zip((recorded_of(belongs), belongs), endings, strict=True):
        (folder / f"plate{ending}.csv").write_text("".join(f"{x:.12g}, {y:.12g}\n" for x, y in points))
    if inlier is not None:
        (folder / "plate_GridPointsInlier.csv").write_text("".join(f"{flag}\n" for flag in inlier))
    return belongs


@pytest.mark.parametrize(("newline", "end"), [("\n", ""), ("\r\n", "\r\n\r\n")])
def test_a_lookup_table_corrects_as_opencv_does(tmp_path, newline, end):
    maps = write_lut(path := tmp_path / "plate_LUT.csv", newline, end)
    frame = np.random.default_rng(0).integers(0, 4096, SHAPE).astype(np.uint16)
    image_map = pickle.loads(pickle.dumps(read_image_map(path)))
    image, mask = image_map.correct(frame), image_map.valid(SHAPE)
    expected = cv2.remap(frame, maps[..., 0].copy(), maps[..., 1].copy(), cv2.INTER_LANCZOS4)
    assert image.dtype == np.uint16 and (image[mask] == expected[mask]).all() and not image[~mask].any()
    assert 0.6 < mask.mean() < 0.75
    with pytest.raises(CalibrationError, match="images of 320 x 300 px, the frame has 300 x 320 px"):
        image_map.correct(frame.T.copy())
    with pytest.raises(ValueError, match="uint8 or uint16"):
        image_map.correct(frame.astype(np.float32))


@pytest.mark.parametrize("endings", [("_INPTS", "_BSPTS"), ("_GridPointsDistorted", "_GridPointsReferences")])
def test_points_give_the_lookup_between_them(tmp_path, endings):
    write_points(tmp_path, endings)
    for ending in endings:
        image_map = read_image_map(tmp_path / f"plate{ending}.csv")
        map_x, map_y = image_map.lookup(SHAPE)
        inner = np.linalg.norm(pixels() - (160, 150), axis=-1) < 120
        assert np.abs(np.stack([map_x, map_y], axis=-1) - recorded_of(pixels()))[inner].max() < 0.02
        assert (map_x[0, 0], map_y[0, 0]) == (-16, -16)
        assert image_map.correct(np.full(SHAPE, 7, np.uint8))[150, 160] == 7
    with pytest.raises(CalibrationError, match="points reach to"):
        image_map.correct(np.zeros((100, 100), np.uint8))


def test_points_that_the_project_left_out_are_left_out(tmp_path):
    belongs = write_points(tmp_path, ("_GridPointsDistorted", "_GridPointsReferences"))
    file = tmp_path / "plate_GridPointsDistorted.csv"
    lines = file.read_text().splitlines()
    lines[20] = "3, 3"
    file.write_text("\n".join(lines))
    with pytest.raises(CalibrationError, match="px from where they belong"):
        read_image_map(file)
    used = [int(k != 20) for k in range(len(belongs))]
    (tmp_path / "plate_GridPointsInlier.csv").write_text("\n".join(map(str, used)))
    map_x, _ = read_image_map(file).lookup(SHAPE)
    assert abs(map_x[150, 160] - recorded_of(np.array([160.0, 150]))[0]) < 0.01
    (tmp_path / "plate_GridPointsInlier.csv").write_text("1\n0\n")
    with pytest.raises(CalibrationError, match="lines of 0 or 1"):
        read_image_map(file)


def test_what_is_no_table_is_refused(tmp_path):
    write_lut(path := tmp_path / "plate_LUT.csv")
    lines = path.read_text().splitlines()

    def refused(lines, stated, name="plate_LUT.csv"):
        (tmp_path / name).write_text("\n".join(lines))
        with pytest.raises(CalibrationError, match=stated):
            read_image_map(tmp_path / name)

    refused(lines[:-1], "an even number of lines")
    refused([*lines[:7], lines[7] + ", 1", *lines[8:]], "line 8: found 321 numbers, expected 320")
    refused(["x" + lines[0], *lines[1:]], "line 1: found 'x")
    refused([*lines[:3], lines[3].replace(",", ", 1-", 1), *lines[4:]], "LUT.csv: ")
    refused([*lines[:3], lines[3].replace(",", ", 1e999,", 1).rsplit(",", 1)[0], *lines[4:]], "not finite")
    refused(lines[300:] + lines[:300], "per column")
    refused([", ".join(["-1"] * 320)] * 600, "100% nowhere")
    refused([], "empty")
    write_points(tmp_path, ("_INPTS", "_BSPTS"))
    points = (tmp_path / "plate_BSPTS.csv").read_text().splitlines()
    refused(points[:-1], "expected the same points in both", "plate_BSPTS.csv")
    refused([points[1], *points[1:]], "two points belong to the same place", "plate_BSPTS.csv")
    refused([f"{line}, 1" for line in points], "3 numbers in a line", "plate_BSPTS.csv")
    (tmp_path / "plate_BSPTS.csv").unlink()
    with pytest.raises(CalibrationError, match=r"plate_BSPTS\.csv is not next to it"):
        read_image_map(tmp_path / "plate_INPTS.csv")
    with pytest.raises(CalibrationError, match="No such file"):
        read_image_map(tmp_path / "none_LUT.csv")
