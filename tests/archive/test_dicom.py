"""DICOM files as stacks of frames; every file but one is written here."""

import builtins
import struct

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from tests.archive.test_frames import image
from tests.archive.test_stacks import OTHER_LABS, needs_real, refused
from tests.fixtures.dicoms import as_lossless_jpeg, coded_frames, write_dicom
from veriserum_hf.archive import open_stack

SMALL = (96, 128)


def stored(bits=12, frames=1):
    """Frames of `image`, with these bits."""
    one = image(np.uint16, SMALL) >> (16 - bits)
    found = np.stack([np.roll(one, 9 * k, axis=0) for k in range(frames)])
    return (found if frames > 1 else found[0]).astype(np.uint8 if bits <= 8 else np.uint16)


def read(path, index=0):
    return open_stack(path).read(index)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("modality", ["XA", "RF"])
def test_fluoroscopy_is_read_the_right_way_round(tmp_path, modality, bits):
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        path = write_dicom(
            tmp_path / "a.dcm", stored(bits), bits=bits, Modality=modality, PhotometricInterpretation=photometric
        )
        stack = open_stack(path)
        assert (stack.kind, stack.count, stack.size, stack.bits) == ("DICOM", 1, SMALL, bits)
        inverted = photometric == "MONOCHROME1"
        assert stack.inverted == inverted
        expected = 2**bits - 1 - stored(bits) if inverted else stored(bits)
        np.testing.assert_array_equal(stack.read(0), expected)


@pytest.mark.parametrize("modality", ["DX", "CR"])
def test_where_bones_are_shown_white_monochrome1_stores_the_open_field_bright(tmp_path, modality):
    for photometric, inverted in (("MONOCHROME1", False), ("MONOCHROME2", True)):
        path = write_dicom(
            tmp_path / "a.dcm", stored(), bits=12, Modality=modality, PhotometricInterpretation=photometric
        )
        assert open_stack(path).inverted == inverted


@pytest.mark.parametrize("modality", ["XA", "DX"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_stated_relation_to_the_intensity_decides(tmp_path, modality, photometric):
    elements = {"Modality": modality, "PhotometricInterpretation": photometric}
    for sign, slope, inverted in ((1, 1, False), (-1, 1, True), (1, -1, True)):
        path = write_dicom(
            tmp_path / "a.dcm",
            stored(),
            bits=12,
            PixelIntensityRelationshipSign=sign,
            RescaleSlope=slope,
            RescaleIntercept=0,
            **elements,
        )
        stack = open_stack(path)
        assert stack.inverted == inverted
        np.testing.assert_array_equal(stack.read(0), 4095 - stored() if sign == -1 else stored())


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_frames_are_read_one_by_one_in_any_byte_order(tmp_path, syntax):
    frames = stored(frames=3)
    stack = open_stack(write_dicom(tmp_path / "a", frames, bits=12, syntax=syntax))
    assert stack.count == 3
    for k in (2, 0):
        np.testing.assert_array_equal(stack.read(k), frames[k])
    with pytest.raises(IndexError):
        stack.read(-1)


@pytest.mark.parametrize(
    ("syntax", "bits"), [(JPEGBaseline8Bit, 8), (JPEG2000Lossless, 12), (RLELossless, 8), (RLELossless, 12)]
)
def test_compressed_frames(tmp_path, syntax, bits):
    frames = stored(bits, frames=3)
    coded = coded_frames(syntax, frames, bits)
    stack = open_stack(write_dicom(tmp_path / "a.dcm", frames, bits=bits, coded=coded, syntax=syntax))
    assert (stack.count, stack.bits) == (3, bits)
    for k in (2, 0):
        assert np.abs(stack.read(k).astype(int) - frames[k]).max() <= (20 if syntax == JPEGBaseline8Bit else 0)
    cut = [each[: len(each) // 2] for each in coded]
    reason, detail = refused(write_dicom(tmp_path / "a.dcm", frames, bits=bits, coded=cut, syntax=syntax))
    assert reason in ("damaged", "truncated") and detail


def test_lossless_jpeg_as_most_angiography_has_it(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", stored(frames=2), bits=12)
    as_lossless_jpeg(path)
    assert dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    np.testing.assert_array_equal(read(path, 1), stored(frames=2)[1])


def test_fragments_belong_to_frames_by_the_table_of_offsets(tmp_path):
    frames = stored(8, frames=2)
    coded = coded_frames(JPEGBaseline8Bit, frames, 8)
    path = write_dicom(tmp_path / "a.dcm", frames, coded=coded, syntax=JPEGBaseline8Bit)
    whole = read(path, 1)
    ds = dcmread(path)
    ds.PixelData = encapsulate(coded, fragments_per_frame=2)
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path)
    np.testing.assert_array_equal(read(path, 1), whole)
    ds.PixelData = encapsulate(coded, fragments_per_frame=2, has_bot=False)
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path)
    assert refused(path) == ("truncated", "the DICOM file states 2 frames, and has 4 fragments")


def test_signed_values_and_rescaled_ones(tmp_path):
    signed = stored().astype(np.int16) - 2048
    path = write_dicom(tmp_path / "a.dcm", signed, bits=12)
    np.testing.assert_array_equal(read(path), stored())
    for slope, intercept, expected in ((2, 100, 2 * stored() + 100), (0.01, 0, stored()), (1, -50, stored())):
        path = write_dicom(tmp_path / "a.dcm", stored(), bits=12, RescaleSlope=slope, RescaleIntercept=intercept)
        np.testing.assert_array_equal(read(path), expected)
    assert refused(write_dicom(tmp_path / "a.dcm", stored(), RescaleSlope=0, RescaleIntercept=1))[0] == "damaged"


def test_a_table_of_the_modality_is_looked_up(tmp_path):
    item = Dataset()
    item.LUTDescriptor = [256, 0, 16]
    item.ModalityLUTType = "US"
    item.LUTData = struct.pack("<256H", *(200 * k for k in range(256)))
    for descriptor in ([256, 0, 16], [512, 0, 16]):
        item.LUTDescriptor = descriptor
        path = write_dicom(tmp_path / "a.dcm", stored(8), ModalityLUTSequence=[item])
        if descriptor[0] == 256:
            np.testing.assert_array_equal(read(path), 200 * stored(8).astype(np.uint16))
    assert refused(path) == ("damaged", "the modality LUT of the DICOM file has 256 entries, not 512")


def test_bits_in_high_places_and_padding(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", (stored() << 4) | 7, bits=12, HighBit=15)
    np.testing.assert_array_equal(read(path), stored())
    padded = stored()
    padded[:, :10] = 4095
    path = write_dicom(tmp_path / "a.dcm", padded, bits=12, PixelPaddingValue=4095)
    assert (read(path)[:, :10] == 0).all()


def test_grey_in_three_channels_and_colour(tmp_path):
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 1}
    one = stored(8)
    path = write_dicom(tmp_path / "a.dcm", one, **rgb)
    for channels, grey in (([one] * 3, True), ([one, 255 - one, one], False)):
        ds = dcmread(path)
        ds.PixelData = np.stack(channels).tobytes()
        ds.save_as(tmp_path / "b.dcm")
        if grey:
            np.testing.assert_array_equal(read(tmp_path / "b.dcm"), one)
        else:
            assert refused(tmp_path / "b.dcm")[0] == "wrong channel count"


def test_camera_and_frame_rate_are_proposed(tmp_path):
    elements = {
        "ImagerPixelSpacing": [0.2, 0.21],
        "DistanceSourceToDetector": 1200,
        "DistanceSourceToPatient": 800,
        "EstimatedRadiographicMagnificationFactor": 1.5,
        "FrameTime": 40,
        "WindowCenter": 100,
        "WindowWidth": 10,
    }
    proposal = open_stack(write_dicom(tmp_path / "a.dcm", stored(), bits=12, **elements)).proposal
    assert (proposal.pixel_size_mm, proposal.source_to_detector_mm, proposal.frame_rate_hz) == ((0.2, 0.21), 1200, 25)
    assert proposal.text == (
        "Imager Pixel Spacing 0.2 x 0.21 mm; Distance Source to Detector 1200 mm; Distance Source to Patient 800 mm; "
        "Estimated Radiographic Magnification Factor 1.5; 25 frames a second (Frame Time)"
    )
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), stored())  # the window is for display


@pytest.mark.parametrize(
    ("elements", "size_mm", "rate_hz", "text"),
    [
        ({"DetectorElementSpacing": [0.1, 0.1], "DetectorBinning": [2, 2]}, (0.2, 0.2), None, "binned 2 x 2"),
        ({"PixelSpacing": [0.15, 0.15]}, None, None, "may be that of a plane in the patient: not proposed"),
        ({"FrameTimeVector": [0, 33, 33, 33], "NumberOfFrames": 1}, None, 1000 / 33, "Frame Time Vector"),
        ({"RecommendedDisplayFrameRate": 15}, None, 15, "Recommended Display Frame Rate"),
        ({"ImagerPixelSpacing": [0, 0], "FrameTime": -1}, None, None, "neither pixel size nor distances"),
    ],
)
def test_what_is_proposed_where_something_is_missing(tmp_path, elements, size_mm, rate_hz, text):
    proposal = open_stack(write_dicom(tmp_path / "a.dcm", stored(), **elements)).proposal
    assert (proposal.pixel_size_mm, proposal.frame_rate_hz) == (size_mm, rate_hz) and text in proposal.text


def test_an_enhanced_file_has_its_spacing_in_shared_groups(tmp_path):
    shared, frame = Dataset(), Dataset()
    frame.ImagerPixelSpacing = [0.3, 0.3]
    shared.FramePixelDataPropertiesSequence = [frame]
    path = write_dicom(tmp_path / "a.dcm", stored(), SharedFunctionalGroupsSequence=[shared])
    assert open_stack(path).proposal.pixel_size_mm == (0.3, 0.3)


@pytest.mark.parametrize(
    ("elements", "reason", "text"),
    [
        (
            {"Modality": "CT"},
            "unreadable",
            "its modality is 'CT', expected XA, RF, DX or CR; export the frames",
        ),
        ({"Modality": None}, "unreadable", "it states no modality"),
        ({"Rows": None}, "damaged", "does not state Rows"),
        ({"Rows": 60000, "Columns": 60000}, "unreadable", "expected at most 64 megapixels"),
        ({"NumberOfFrames": 2}, "truncated", "states 2 frames of 24576 bytes, and breaks off after 24576"),
        ({"NumberOfFrames": -2}, "damaged", "states -2 frames"),
        ({"Columns": 1}, "damaged", "states 1 frames of 192 bytes, and has 24576 bytes of pixels"),
        ({"BitsAllocated": 32}, "wrong bit depth", "32 bits a pixel"),
        ({"BitsStored": 16, "HighBit": 11}, "wrong bit depth", "of which 16 are stored, the highest of them bit 11"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "wrong channel count", "is PALETTE COLOR"),
        ({"RescaleSlope": "1e999", "RescaleIntercept": 0}, "damaged", ""),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, elements, reason, text):
    found, detail = refused(write_dicom(tmp_path / "a.dcm", stored(), **elements))
    assert found == reason and text in detail


def test_a_compressed_frame_of_another_size_is_not_decoded(tmp_path):
    coded = coded_frames(JPEG2000Lossless, stored(frames=2), 12)[:1]
    coded[0] = coded[0].replace(struct.pack(">II", SMALL[1], SMALL[0]), struct.pack(">II", 3000, 3000), 1)
    path = write_dicom(tmp_path / "a.dcm", stored(), bits=12, coded=coded, syntax=JPEG2000Lossless)
    assert "3000 x 3000 px, expected 128 x 96" in refused(path)[1]


def test_a_way_of_compression_that_nobody_decodes_is_named(tmp_path):
    mpeg = "1.2.840.10008.1.2.4.102"
    path = write_dicom(tmp_path / "a.dcm", stored(), coded=[bytes(100)], syntax=mpeg)
    assert "compressed as MPEG-4 AVC/H.264 High Profile" in refused(path)[1]


@pytest.mark.parametrize("part", [0.02, 0.2, 0.6, 0.99])
def test_a_file_that_was_cut_off(tmp_path, part):
    path = write_dicom(tmp_path / "a.dcm", stored())
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert refused(path)[0] in ("truncated", "damaged", "unreadable")


def test_a_file_without_preamble(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", stored(), bits=12)
    whole = path.read_bytes()
    path.write_bytes(whole[132:])
    np.testing.assert_array_equal(read(path), stored())
    ds = dcmread(tmp_path / "a.dcm", force=True)
    del ds.file_meta
    ds.save_as(path, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read(path), stored())
    path.write_bytes(b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + bytes(5000))
    assert refused(path)[0] in ("unreadable", "damaged")


def test_without_the_packages_the_way_out_is_named(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", stored())
    found = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pydicom"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert refused(path) == ("unreadable", f'{path} is DICOM: pip install "veriserum-hf[dicom]"')


@needs_real
def test_a_radiograph_of_another_laboratory(capfd):
    stack = open_stack(OTHER_LABS / "RG3_J2KI.dcm")
    assert (stack.size, stack.bits, stack.inverted) == ((1760, 1760), 10, False)
    levels = stack.read(0)
    assert np.median(levels[:, 550:570]) > 900  # air beside the leg
    assert np.median(levels[:, :200]) == 0  # collimated
    assert capfd.readouterr() == ("", "")
