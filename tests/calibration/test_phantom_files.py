"""Files of phantoms: those that are shipped, a laboratory's own, and what is wrong with a file."""

import numpy as np
import pytest
import yaml

from veriserum_hf.calibration import phantom_fields
from veriserum_hf.calibration.phantom_files import load_grid_phantom, load_marker_phantom, shipped_phantoms
from veriserum_hf.calibration.symmetry import is_symmetric
from veriserum_hf.errors import CalibrationError

GRID = {
    "kind": "grid",
    "lattice": "square",
    "pitch_mm": 10,
    "diameter_mm": 2.5,
    "polarity": "dark",
    "rows": 20,
    "columns": 24,
    "rotation_deg": 0,
}
PLATE = {name: value for name, value in GRID.items() if name not in ("rows", "columns")} | {
    "origin": "nearest_to_center"
}


def markers(count=40):
    rng = np.random.default_rng(0)
    at = rng.uniform(-80, 80, (count, 3)).round(2).tolist()
    return {"kind": "markers", "markers": [[*xyz, 5.0 if number < 8 else 2.5] for number, xyz in enumerate(at)]}


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "plate.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


def refusal(path, load=load_grid_phantom):
    with pytest.raises(CalibrationError) as caught:
        load(path)
    return str(caught.value)


def test_the_labs_grid_is_that_of_its_tables():
    """45 x 45 places, 7 mm apart, whose corners lack 66 each, and one bead at (5, 39), as the authors have it."""
    index = np.indices((45, 45)).reshape(2, -1).T
    to_edge = np.minimum(index, 44 - index).sum(axis=1)
    expected_mm = 7.0 * (np.vstack([index[to_edge >= 11], (5, 39)]) - 22.0)
    np.testing.assert_array_equal(load_grid_phantom("sipla_grid").spots_mm, expected_mm)


def test_the_round_grid_has_the_beads_that_were_counted():
    phantom = load_grid_phantom("round_grid")
    by_row = np.unique(phantom.index[:, 1], return_counts=True)[1]
    upper = [16, 20, 24, 28, 30, 32, 34, 36, 38, 40, 42, 44, 44, 46, 46, 48, 48, 48, *[50] * 7]
    assert by_row.tolist() == upper + upper[::-1]
    assert len(phantom.index) == 2028


def test_the_marker_phantom_is_that_of_its_formula():
    phantom = load_marker_phantom("cylinder")
    index = np.arange(160)
    along = 2 * (index + 0.5) / 160 - 1
    height_mm = 120 * np.sign(along) * np.sqrt(np.abs(along))
    angle = np.pi * (3 - np.sqrt(5)) * index + 0.08 * np.sin(index**2)
    expected_mm = np.stack([100 * np.sin(angle), height_mm, 100 * np.cos(angle)], axis=1)
    np.testing.assert_allclose(phantom.markers_mm, expected_mm, atol=1e-12)
    large = [31, 38, 47, 53, 62, 66, 75, 84, 92, 97, 106, 113, 121, 128]
    assert phantom.large.tolist() == large
    assert set(phantom.diameters_mm[large]) == {4.0}
    assert not is_symmetric(phantom)


def test_every_shipped_file_can_be_loaded():
    assert shipped_phantoms() == ["cylinder", "perforated_plate", "round_grid", "sipla_grid"]
    for name in set(shipped_phantoms()) - {"cylinder"}:
        assert load_grid_phantom(name).name == name


def test_a_shipped_phantom_is_read_once(monkeypatch):
    """Simulated frames of a phantom load it thousands of times."""
    loaded = load_grid_phantom("sipla_grid"), load_marker_phantom("cylinder")
    monkeypatch.setattr(phantom_fields, "load_plain_yaml", None)
    assert (load_grid_phantom("sipla_grid"), load_marker_phantom("cylinder")) == loaded


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_hexagonal_lattice_is_staggered(written, mirrored):
    phantom = load_grid_phantom(written(GRID | {"lattice": "hexagonal", "rows": 8, "mirrored": mirrored}))
    mm = phantom.spots_mm
    side = -1 if mirrored else 1
    assert len(mm) == 8 * 24
    np.testing.assert_allclose(mm.max(axis=0), -mm.min(axis=0), atol=1e-9)
    first, second = (mm[np.abs(mm[:, 1] - mm[:, 1].min() - height) < 1e-6] for height in (0, 10 * np.sqrt(0.75)))
    np.testing.assert_allclose(np.sort(second[:, 0]) - np.sort(first[:, 0]), 5 * side)
    distance = np.linalg.norm(mm[:, None] - mm, axis=2)
    assert distance[distance > 0].min() == pytest.approx(10)


def test_outlines_and_marks(written):
    assert len(load_grid_phantom(written(GRID)).index) == 480
    assert len(load_grid_phantom(written(GRID | {"outline": {"cut_corner": 3}})).index) == 480 - 24
    round_ = load_grid_phantom(written(GRID | {"outline": {"round_mm": 150}}))
    assert np.hypot(*round_.spots_mm.T).max() <= 75
    marked = load_grid_phantom(written(GRID | {"extra": [[-1, 3]], "missing": [[0, 0], [5, 5]]}))
    assert len(marked.index) == 480 - 1
    np.testing.assert_allclose(marked.spots_mm[-1], (-125, -65))
    assert not load_grid_phantom(written(PLATE)).bounded


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "grids"}, "kind: found 'grids', expected `grid`"),
        ({"pich_mm": 7}, "no such field: pich_mm; the fields are lattice, pitch_mm"),
        ({"pitch_mm": None}, "pitch_mm: found nothing, expected a number greater than 0"),
        ({"pitch_mm": "7 mm"}, "pitch_mm: found '7 mm', expected a number"),
        ({"pitch_mm": True}, "pitch_mm: found True, expected a number"),
        ({"diameter_mm": 9.5}, "diameter_mm: found 9.5, expected a number greater than 0 and at most 9"),
        ({"lattice": "cubic"}, "lattice: found 'cubic', expected square or hexagonal"),
        ({"polarity": "grey"}, "polarity: found 'grey', expected dark or bright"),
        ({"rows": 2.5}, "rows: found 2.5, expected a whole number from 2 to 500"),
        ({"rows": 10**9}, "rows: found 1000000000, expected a whole number from 2 to 500"),
        ({"rows": 2, "columns": 3}, "rows, columns and outline: found 6 spots, expected 49 to 40000"),
        ({"outline": {"cut": 3}}, "outline: found {'cut': 3}, expected full, {cut_corner: "),
        ({"outline": {"round_mm": -3}}, "outline: found {'round_mm': -3}, expected full"),
        ({"outline": 150}, "outline: found 150, expected full"),
        ({"outline": [[1, 2]]}, "outline: found [[1, 2]], expected full"),
        ({"extra": [[3, 3]]}, "extra: found [[3, 3]], expected places outside the outline only"),
        ({"extra": [[3.5, 3]]}, "extra: found [[3.5, 3]], expected a list of different places"),
        ({"missing": [[-1, 3]]}, "missing: found [[-1, 3]], expected places within the outline only"),
        ({"rotation_deg": None}, "rotation_deg: found nothing, expected a number from -360 to 360"),
        ({"rotation_deg": 400}, "rotation_deg: found 400, expected a number from -360 to 360"),
        ({"mirrored": "yes"}, "mirrored: found 'yes', expected true or false"),
        ({"field": "round"}, "field: found 'round', expected lit or image"),
        (
            {"origin": "nearest_to_center"},
            "rows: found 20, expected no such field beside `origin: nearest_to_center`",
        ),
        ({"center_px": [3]}, "center_px: found [3], expected [x, y]"),
        ({"raw_frame": {"width_px": 9}}, "raw_frame: found {'width_px': 9}, expected width_px and height_px"),
    ],
)
def test_a_wrong_field_is_named(written, changed, message):
    path = written(GRID | changed)
    assert refusal(path).startswith(f"{path}: {message}")


def test_an_unmarked_phantom_needs_its_rotation(written):
    path = written({name: value for name, value in GRID.items() if name != "rotation_deg"})
    assert refusal(path) == (
        f"{path}: rotation_deg: found nothing, expected a number from -360 to 360, the rotation of the phantom in "
        "the frame, or extra or missing spots"
    )
    assert load_grid_phantom(written(yaml.safe_load(path.read_text()) | {"missing": [[1, 3]]})).rotation_deg is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected fields with values"),
        ("- 1", "expected fields with values"),
        (": [", "not plain YAML"),
        ("a: &a [1]\nb: *a", "not plain YAML: it holds references"),
        ("kind: !!python/object/apply:os.system ['true']", "not plain YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(written, text, message):
    assert message in refusal(written(text))


def test_a_file_that_is_not_there_names_the_shipped_ones(tmp_path):
    there = "no such file, and no phantom of this name is shipped; those of the kind"
    assert f"{there} grid are perforated_plate, round_grid, sipla_grid" in refusal("grid.yml")
    assert refusal("tube.yml", load_marker_phantom).endswith(f"{there} markers are cylinder")
    assert "folder" in refusal(tmp_path).lower() or "directory" in refusal(tmp_path).lower()


def test_markers_are_read(written):
    phantom = load_marker_phantom(written(markers()))
    assert phantom.markers_mm.shape == (40, 3)
    assert phantom.large.tolist() == list(range(8))


def cube():
    corners = np.indices((3, 3, 3)).reshape(3, -1).T * 40.0 - 40
    large = (np.abs(corners).sum(axis=1) == 120).tolist()
    return [[*xyz, 5.0 if one else 2.5] for xyz, one in zip(corners.tolist(), large, strict=True)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (markers(20)["markers"], "expected a list of 24 to 2000 markers [x, y, z, diameter], mm"),
        ([[1, 2, number] for number in range(30)], "expected a list of 24 to 2000 markers"),
        ([[x, y, z, 2.5] for x, y, z, _ in markers()["markers"]], "found 0 that are at least 1.5 times as wide"),
        ([[x, y, 0.0, d] for x, y, _, d in markers()["markers"]], "they lie in one plane"),
        (cube(), "a rotation maps them onto one another"),
    ],
)
def test_markers_that_could_be_confused_are_refused(written, changed, message):
    assert message in refusal(written({"kind": "markers", "markers": changed}), load_marker_phantom)
