"""White of 16-bit frames, orientation tags and polarity: decided by a sample, and checked in every frame."""

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.cli.commands import outcome
from tests.fixtures.archives import FRAMES_FOLDER, write_archive
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.audit import audit_archive as audit
from veriserum_hf.archive.frames import RawFormat
from veriserum_hf.archive.polarity import decide_polarity
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.white import highest_level, share_above, white_level

HERE = f"{FRAMES_FOLDER}/"


@pytest.fixture(scope="module")
def pristine_deep(tmp_path_factory):
    """100 frames of 12 bits, of which the archive samples 25 in number 1, 5, 9, ... of each plane."""
    root = tmp_path_factory.mktemp("deep") / "archive"
    return write_archive(
        root, trials=2, frames_per_trial=25, frame_size=(104, 100), extension="tif", bit_depth=16, manual_trials=()
    ).root


@pytest.fixture
def frames(pristine_deep):
    """Function that changes frames of the archive, by their names, for the time of a test."""
    kept = {}

    def change(function, *names):
        for path in sorted((pristine_deep / FRAMES_FOLDER).glob("*.tif")):
            if not names or path.stem in names:
                kept.setdefault(path, path.read_bytes())
                frame = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                assert cv2.imwrite(str(path), function(frame))
        return pristine_deep

    yield change
    for path, content in kept.items():
        path.write_bytes(content)


def hot(frame):
    frame = frame.copy()
    frame[50, 50] = 65535
    return frame


def burnt(frame):
    frame = frame.copy()
    frame[40:60] = 65535
    return frame


def named(root, kind, **options):
    problems = audit(root, **options).findings.problems
    return [problem.where.removeprefix(HERE) for problem in problems if problem.kind == kind]


def test_hot_pixels_do_not_move_white(frames):
    root = frames(hot, "bs_000001", "bs_000005")
    archive = VeriserumArchive(root)
    assert archive.raw_format.white_level == 4095 and archive.problems == []
    assert "25 use 12 bits" in archive.decisions["grey_levels"].evidence


def test_a_frame_that_disagrees_with_most_is_named(frames):
    root = frames(burnt, "bs_000001")
    archive = VeriserumArchive(root)
    assert archive.raw_format.white_level == 4095
    (problem,) = archive.problems
    assert (problem.kind, problem.where) == ("above white", f"{HERE}bs_000001.tif")
    assert "expected at most 4095" in problem.what and "--white" in problem.remedy
    assert named(root, "above white", deep=True) == ["bs_000001.tif"]


def test_frames_that_the_sample_misses_are_named_by_a_deep_audit_and_counted_when_converted(frames, tmp_path):
    """The sampled ones under-exposed by four, as an unlucky protocol makes them."""
    sampled = {f"{plane}_{number:06d}" for plane in ("bs", "fs") for number in range(1, 51)}
    order = [f"{plane}_{number:06d}" for plane in ("bs", "fs") for number in range(1, 51)]
    sampled = set(order[::4])
    root = frames(lambda frame: frame // 4, *sampled)
    assert VeriserumArchive(root).raw_format.white_level == 1023
    assert audit(root).exit_status == 0
    expected = sorted(f"{name}.tif" for name in order if name not in sampled)
    assert sorted(named(root, "above white", deep=True)) == expected
    status, printed, said = outcome("convert", root, tmp_path / "OUT", "--size", 64, "--workers", 1, "--json")
    assert status == 0 and '"above_white"' in printed
    assert "50 rows have frames with more than 0.1 % of their pixels above white" in said and "--white" in said
    assert "50 of `calibrated`" in (tmp_path / "OUT" / "README.md").read_text()
    assert named(root, "above white", deep=True, white_level=4095) == []
    stated = outcome("convert", root, tmp_path / "STATED", "--size", 64, "--workers", 1, "--white", 4095)
    assert stated[0] == 0 and "above white" not in stated[2]


def test_white_can_be_stated(frames):
    root = frames(hot, "bs_000001")
    archive = VeriserumArchive(root, white_level=16383)
    assert archive.raw_format.white_level == 16383
    assert archive.decisions["grey_levels"].answer == "14 of 16 bits, white is 16383, as stated"
    status, printed, _ = outcome("audit", root, "--white", 4000)
    assert "white is 4000, as stated" in printed and status == 0


@pytest.mark.parametrize(("levels", "white"), [([4095] * 3 + [1000] * 2, 4095), ([900, 4000], 4095), ([200], 255)])
def test_white_is_that_of_the_depth_of_most(levels, white):
    assert white_level(levels) == white


def test_one_pixel_in_a_thousand_may_lie_above_white():
    frame = np.full((100, 100), 1000, np.uint16)
    frame[0, :10] = 60000
    assert highest_level(frame) == 1000 and share_above(frame, 1000) == 0.001
    frame[1, 0] = 60000
    assert highest_level(frame) == 60000


def test_orientation_tags_are_reported(download):
    exif = Image.Exif()
    exif[274] = 3
    for name in ("bs_000001", "fs_000009"):
        path = download.frame(name)
        Image.open(path).save(path, quality=95, exif=exif)
    assert named(download.root, "orientation tag", deep=True) == ["bs_000001.jpg", "fs_000009.jpg"]
    (first, *_) = download.read().problems
    assert "its orientation tag is 3: viewers rotate it by 180 degrees, here it is read as stored" in first.what


@pytest.mark.parametrize(
    ("inverted", "even", "answer"),
    [
        (False, False, "yes"),
        (True, False, "no: the frames are inverted"),
        (True, True, "not decidable, taken as yes"),
    ],
)
def test_inverted_frames_are_found(tmp_path, inverted, even, answer):
    """By the white rim and by noise that falls with the grey level; not where one of them is missing."""
    y, x = np.mgrid[:400, :416] - 200.0
    light = (120 + 60 * np.sin(x / 40) * np.cos(y / 50)) * (np.hypot(x, y) < 190)
    noise = np.random.default_rng(0).normal(size=light.shape) * (4 if even else np.sqrt(light + 1) / 4)
    frame = (8 + light + noise).clip(0, 255).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "bs_000001.png"), ~frame if inverted else frame)
    findings = Findings()
    decide_polarity([str(tmp_path / "bs_000001.png")], RawFormat(255, 1.04), "archive", findings)
    assert findings.decisions["polarity"].answer == answer
    assert [problem.kind for problem in findings.problems] == ["inverted"] * answer.startswith("no:")


def test_a_deep_audit_decides_polarity(pristine):
    decision = audit(pristine.root, deep=True).findings.decisions["polarity"]
    assert decision.question == "Is metal dark in the raw frames?" and decision.answer == "yes"
    assert "the corners are black in 24" in decision.evidence
