"""Frames are the same however they are opened, and a network sees the same of raw frames as of corrected ones."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pyarrow import concat_tables

from tests.fixtures.archives import write_archive
from tests.fixtures.tiffs import ORIENTATION, tiff
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.dataset.convert import convert
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.frame_calibration import calibration_of_archive
from veriserum_hf.dataset.model_frames import frame_of_files, frame_of_row
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.dataset.selection import row_at, with_images
from veriserum_hf.dataset.stored import StoredFrames
from veriserum_hf.errors import ConversionError, DataSetError, FrameError, NothingThereError

SIZE = 64
PLANES = ("bs", "fs")
IMAGES = ("image_bs", "image_fs")
CONFIGS = ("calibrated", "raw", "anatomies")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive of 12-bit frames in 16-bit files, as the download has them."""
    folder = tmp_path_factory.mktemp("archive")
    return write_archive(
        folder / "archive",
        trials=3,
        frames_per_trial=2,
        frame_size=(208, 200),
        extension="tif",
        bit_depth=16,
        manual_trials=(),
    ).root


@pytest.fixture(scope="module")
def dataset(archive, tmp_path_factory):
    """The same, converted without losses."""
    options = Options(size=SIZE, encoding="png")
    folder = tmp_path_factory.mktemp("dataset") / "OUT"
    return str(convert_archive(archive, folder, configs=CONFIGS, options=options, workers=1).output)


def assert_same(row, other):
    """The same fields with the same values; images to the last grey level."""
    assert row.keys() == other.keys()
    for name, value in row.items():
        if name in IMAGES:
            assert isinstance(value, np.ndarray)
            np.testing.assert_array_equal(value, np.asarray(other[name]))
        else:
            assert value == other[name], name


def by_measurement(frames):
    return {row["measurement_id"]: row for row in frames.read()}


def test_frames_of_a_folder_a_stream_and_an_archive_are_the_same(archive, dataset):
    stored, streamed = (open_rows(dataset, "calibrated", streaming=streaming) for streaming in (False, True))
    straight = open_rows(str(archive), ("calibrated",), archive_px=SIZE)
    assert stored.splits.keys() == streamed.splits.keys() == straight.splits.keys()
    for split, frames in stored.splits.items():
        others = straight.splits[split]
        assert len(frames) == len(others)
        assert set(frames.column_names) == set(others.column_names) == set(streamed.splits[split].column_names)
        read = streamed.splits[split].files()
        for row, other, third in zip(frames.read(), others.read(), with_images(read), strict=True):
            assert_same(row, other)
            assert_same(row, third)
        backwards = range(len(frames))[::-1]
        for row, other in zip(frames.taken(backwards).read(), others.taken(backwards).read(), strict=True):
            assert_same(row, other)
        for component in ("femur", "tibia"):
            assert frames.anatomy_ids(component) == others.anatomy_ids(component)


@pytest.mark.parametrize("config", ["calibrated", "raw"])
def test_an_archive_is_read_without_encoding_what_it_would_be_converted_to(archive, monkeypatch, config):
    options = Options(config=config, size=SIZE, encoding="raw")
    opened = VeriserumArchive(archive)
    expected = {}
    for plan in make_plan(opened, options).splits.values():
        finished, rejected = convert(plan, options, opened.raw_format)
        assert not rejected
        expected |= {row["measurement_id"]: options.features.decode_example(row) for row in finished.to_pylist()}
    monkeypatch.delattr(cv2, "imencode")
    found = {}
    for frames in open_rows(str(archive), (config,), archive_px=SIZE).splits.values():
        found |= by_measurement(frames)
    assert found.keys() == expected.keys()
    for id, row in found.items():
        assert_same(row, expected[id])


def test_a_network_sees_the_same_of_raw_frames_as_of_corrected_ones(archive, dataset):
    """White of 12 bits is white of 8 bits, whichever way a frame comes."""
    corrected = by_measurement(open_rows(dataset, "calibrated").joined("all"))
    raw = open_rows(dataset, "raw").joined("all")
    assert raw.white_level == 4095
    opened = VeriserumArchive(archive)
    paths = {row["measurement_id"]: row for row in opened.frames.to_pylist()}
    for row in raw.read():
        id = row["measurement_id"]
        files = {plane: Path(paths[id][f"path_{plane}"]) for plane in PLANES}
        expected = frame_of_row(corrected[id], SIZE)
        assert expected["image_bs"].dtype == np.uint8 and expected["image_bs"].max() > 100
        for frame in (
            frame_of_row(row, SIZE, raw.white_level),
            frame_of_files(files, calibration_of_archive(opened, files), SIZE),
        ):
            assert frame.keys() == expected.keys()
            assert list(frame["anatomy_id"]) == expected["anatomy_id"]
            for name in IMAGES:
                np.testing.assert_array_equal(frame[name], expected[name])
            for plane in PLANES:
                for name in ("intrinsics", "world_to_camera"):
                    np.testing.assert_allclose(
                        frame[f"camera_{plane}"][name], expected[f"camera_{plane}"][name], atol=1e-9
                    )


def test_rows_of_other_kinds_are_refused_with_one_message(dataset):
    for config in ("raw", "anatomies"):
        message = f"{dataset} {config} holds no corrected images; choose calibrated, manual or target"
        for streaming in (False, True):
            with pytest.raises(DataSetError) as caught:
                open_rows(dataset, config, streaming=streaming).checked()
            assert str(caught.value) == message
        with pytest.raises(DataSetError) as caught:
            row_at(open_rows(dataset, config, streaming=True), "train", 0)
        assert str(caught.value) == message
    open_rows(dataset, "raw").checked(raw=True)
    with pytest.raises(DataSetError, match=r" anatomies holds no frames; choose calibrated, raw, manual or target$"):
        open_rows(dataset, "anatomies").checked(raw=True)


def test_the_first_configuration_that_is_there_is_opened(archive, dataset):
    for of in (str(archive), dataset):
        assert open_rows(of, ("manual", "calibrated"), archive_px=SIZE).config == "calibrated"
        with pytest.raises(NothingThereError):
            open_rows(of, ("manual",), archive_px=SIZE)
    with pytest.raises(DataSetError, match="is an archive, not a data set: `veriserum convert "):
        open_rows(str(archive), "calibrated")


def test_a_data_set_that_cannot_be_looked_into_is_not_one_without_the_configuration():
    with pytest.raises(DataSetError, match=r"cannot load my-lab/not-here: there is no such folder") as caught:
        open_rows("my-lab/not-here", ("manual",), archive_px=SIZE)
    assert not isinstance(caught.value, NothingThereError)


def test_a_stream_is_opened_by_an_id(dataset):
    rows = open_rows(dataset, "calibrated").joined("all")
    for column in ("measurement_id", "trial_id"):
        values = rows.table(column)[column].to_pylist()
        streamed = open_rows(dataset, "calibrated", streaming=True, where=(column, values[-1]))
        found = [row for frames in streamed.splits.values() for row in frames.files()]
        assert [row[column] for row in found] == [value for value in values if value == values[-1]]


def test_a_frame_that_cannot_be_read_does_not_stop_the_others(archive):
    frames = next(iter(open_rows(str(archive), ("calibrated",), archive_px=SIZE).splits.values()))
    bad = frames.table("measurement_id")["measurement_id"].to_pylist()[0]
    path = next(row["path_fs"] for row in frames.plan.to_pylist() if row["measurement_id"] == bad)
    content = Path(path).read_bytes()
    Path(path).write_bytes(b"")
    try:
        first, *others = frames.read()
    finally:
        Path(path).write_bytes(content)
    assert isinstance(first, FrameError) and str(first) == "zero bytes: fs zero bytes: the file is empty"
    assert others and not any(isinstance(row, FrameError) for row in others)


def test_raw_rows_decode_to_the_levels_that_corrected_images_are_made_of(archive, tmp_path):
    """Whatever orientation tags and channels would make other readers do."""
    root = shutil.copytree(archive, tmp_path / "archive")
    paths = {row["measurement_id"]: row["path_bs"] for row in VeriserumArchive(root).frames.to_pylist()}
    levels = {id: cv2.imread(path, cv2.IMREAD_UNCHANGED) for id, path in paths.items()}
    first, second, third, *_ = paths
    Path(paths[first]).write_bytes(tiff(levels[first], {ORIENTATION: 3}))
    Image.fromarray(levels[second]).save(paths[second], compression="tiff_lzw", tiffinfo={ORIENTATION: 6})
    levels[third] = (levels[third] // 16).astype(np.uint8)
    Path(paths[third]).write_bytes(tiff(np.dstack([levels[third]] * 3)))
    options = Options(config="raw", size=SIZE)
    opened = VeriserumArchive(root)
    found, rejected = convert(concat_tables(make_plan(opened, options).splits.values()), options, opened.raw_format)
    assert rejected == []
    for row in map(options.features.decode_example, found.to_pylist()):
        np.testing.assert_array_equal(np.asarray(row["image_bs"]), levels[row["measurement_id"]])
        assert row["white_level"] == 4095


def test_the_white_level_of_stored_rows_is_that_of_their_conversion(dataset):
    """Not estimated from the rows that were chosen."""
    raw = open_rows(dataset, "raw").joined("all")
    assert raw.taken([0]).white_level == 4095
    without = StoredFrames(raw.rows.remove_columns("white_level"))
    assert without.white_level == 4095


@pytest.mark.parametrize("white", [100, 70000, 4095.5, "4095"])
def test_a_white_level_that_16_bits_do_not_have_is_refused(white):
    with pytest.raises(ConversionError, match=r"white must be a grey level of 16 bits, from 255 to 65535; got"):
        Options(white=white)
