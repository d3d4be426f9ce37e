"""Single frames that are flipped, inverted, swapped, or stored in another way than those around them."""

import shutil

import cv2
import numpy as np
import pytest

from tests.fixtures.misread import frame_files, swap_planes
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.audit import audit_archive
from veriserum_hf.archive.frames import read_frame
from veriserum_hf.archive.neighbours import thumbnail, unlike_neighbours
from veriserum_hf.archive.odd_frames import Stored, report_odd_frames
from veriserum_hf.archive.problems import Findings
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

KIND = "unlike its neighbours"


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    """Two trials of five frames, gait and a ramp; not to be changed."""
    folder = tmp_path_factory.mktemp("knees") / "archive"
    settings = Settings(trials=2, frames_per_trial=5, pairs=1, height_px=160, marker_frames=0)
    return simulate(folder, settings, workers=1)


@pytest.fixture
def archive(knees, tmp_path):
    return shutil.copytree(knees, tmp_path / "archive")


def trial_of(root, number=0):
    """Levels of the frames of a trial by plane."""
    planes = {plane: [read_frame(path) for path in sorted(frame_files(root, (plane,)))] for plane in ("bs", "fs")}
    return [{plane: planes[plane][n] for plane in planes} for n in range(5 * number, 5 * number + 5)]


def found(trial):
    thumbnails = [{plane: thumbnail(frame) for plane, frame in each.items()} for each in trial]
    return list(unlike_neighbours(thumbnails))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("plane", ["bs", "fs"])
@pytest.mark.parametrize("frames", [5, 3])
def test_each_frame_that_is_read_in_another_way_is_named_with_its_reading(knees, number, plane, frames):
    trial = trial_of(knees, number)[:frames]
    assert found(trial) == []
    for n in range(frames):
        right = trial[n][plane]
        for reading, wrong in {
            (1, False, False): right[::-1],
            (2, False, False): right[:, ::-1],
            (3, False, False): right[::-1, ::-1],
            (0, True, False): 255 - right,
            (3, True, False): 255 - right[::-1, ::-1],
        }.items():
            trial[n] = trial[n] | {plane: wrong}
            (unlike,) = found(trial)
            assert (unlike.frame, unlike.plane) == (n, plane)
            assert (unlike.flip, unlike.inverted, unlike.swapped) == reading
            assert unlike.as_is < unlike.neighbours and unlike.as_is < unlike.other
        trial[n] = trial[n] | {plane: right}


def test_two_swapped_files_are_both_named(archive):
    swap_planes(archive, (2,))
    report = audit_archive(archive, deep=True)
    assert report.exit_status == 1
    assert [(problem.kind, problem.where[-13:]) for problem in report.findings.problems] == [
        (KIND, "bs_000002.jpg"),
        (KIND, "fs_000002.jpg"),
    ]
    assert all("if it is replaced by the " in problem.what for problem in report.findings.problems)


def test_a_trial_of_two_frames_is_not_assessed(knees):
    first, second = trial_of(knees)[:2]
    assert found([first, {plane: frame[::-1] for plane, frame in second.items()}]) == []


def test_a_trial_without_one_plane_is_compared_within_the_other(knees):
    trial = [{"bs": each["bs"]} for each in trial_of(knees)]
    trial[4] = {"bs": trial[4]["bs"][::-1]}
    (unlike,) = found(trial)
    assert (unlike.frame, unlike.plane, unlike.flip) == (4, "bs", 1)
    assert found([*trial[:4], {}]) == []


def drawn(x_px, y_px=200, level=200, offset=0):
    """A round field with a dark disk in it, whose image is symmetric."""
    frame = np.full((400, 416), 8, np.uint8)
    cv2.circle(frame, (208, 200), 190, level, -1)
    cv2.circle(frame, (int(x_px), int(y_px)), 40, level // 3, -1)
    noise = np.random.default_rng(int(x_px)).normal(0, 4, frame.shape)
    return (frame + noise + offset).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("start", [120, 180, 200, 205])
@pytest.mark.parametrize("step", [0, 2, 10, 20, 60])
@pytest.mark.parametrize("across", [True, False])
def test_an_object_that_moves_through_the_field_is_no_mirrored_frame(start, step, across):
    places = [start + step * n for n in range(4)]
    trial = [drawn(place) if across else drawn(208, place) for place in places]
    assert found([{"bs": frame, "fs": frame} for frame in trial]) == []


def test_exposure_that_changes_and_a_jump_are_no_other_reading(knees):
    trial = trial_of(knees)
    dimmed = [
        {plane: (frame * gain + 6 * n).astype(np.uint8) for plane, frame in each.items()}
        for n, (each, gain) in enumerate(zip(trial, (0.2, 0.4, 0.6, 0.8, 0.9), strict=True))
    ]
    assert found(dimmed) == []
    assert found([*trial[:2], *trial_of(knees, 1)[:1], *trial[2:]]) == []
    assert found([*trial[:3], *trial_of(knees, 1)[:2]]) == []


def test_frames_of_another_size_or_depth_than_most_are_named(archive):
    paths = sorted(frame_files(archive, ("fs",)))
    cv2.imwrite(str(paths[1]), cv2.resize(read_frame(paths[1]), (83, 80)))
    deep = paths[7].with_suffix(".png")
    cv2.imwrite(str(deep), read_frame(paths[7]).astype(np.uint16) * 257)
    paths[7].unlink()
    problems = [each for each in audit_archive(archive, deep=True).findings.problems if each.kind != "above white"]
    assert [(each.kind, each.where[-13:], each.structural) for each in problems] == [
        ("stored differently", "fs_000002.jpg", False),
        ("stored differently", "fs_000008.png", False),
    ]
    assert "it has 83 x 80 px of 8 bits, expected 166 x 160 px of 8 bits as most fs frames" in problems[0].what


@pytest.mark.parametrize(
    ("others", "named"),
    [({}, []), ({3}, ["bs_000003.jpg"]), ({1, 2, 3, 4, 5}, []), ({1, 2, 3, 4, 5, 6}, ["bs_000006.jpg"])],
)
def test_a_whole_trial_of_another_size_is_as_it_was_read_out(knees, others, named):
    archive, findings = VeriserumArchive(knees), Findings()
    paths = [path for plane in ("bs", "fs") for path in frame_files(knees, (plane,))]
    stored = {
        str(path): Stored(333, 320, 8) if path.name in {f"bs_{n:06d}.jpg" for n in others} else Stored(166, 160, 8)
        for path in paths
    }
    report_odd_frames(stored, archive.frames, archive.layout, findings)
    assert [problem.where[-13:] for problem in findings.problems] == named
