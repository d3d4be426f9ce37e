"""Meshes of an archive in an audit, a conversion, its records, and where frames are drawn."""

import json

import datasets
import numpy as np
import pytest
import trimesh
from trimesh.exchange.stl import export_stl, export_stl_ascii

from tests.fixtures.archives import ANATOMIES_FOLDER
from veriserum_hf.archive.audit import audit_archive
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.mesh_records import described_meshes
from veriserum_hf.dataset.open import open_rows


@pytest.fixture
def meshes(download):
    """Of the copied archive: 1 in metres, 2 inside out, 3 of two solids, 4 with a byte more, 5 open."""
    folder = download.root / ANATOMIES_FOLDER
    files = {id: folder / f"ana_{id:06d}.stl" for id in range(1, 6)}
    loaded = {id: trimesh.load_mesh(file) for id, file in files.items()}
    files[1].write_bytes(export_stl(loaded[1].copy().apply_scale(0.001)))
    inside_out = loaded[2].copy()
    inside_out.invert()
    files[2].write_bytes(export_stl(inside_out))
    aside = loaded[3].copy().apply_translation((60, 0, 0))
    files[3].write_text(export_stl_ascii(loaded[3]) + "\n" + export_stl_ascii(aside))
    files[4].write_bytes(files[4].read_bytes() + b"\n")
    with_hole = loaded[5].copy()
    with_hole.update_faces(np.arange(len(with_hole.faces)) >= 30)
    files[5].write_bytes(export_stl(with_hole))
    return loaded


def test_meshes_are_audited_converted_and_recorded(download, meshes, tmp_path):
    report = audit_archive(download.root, deep=True)
    found = {(problem.where[-10:], problem.kind): problem.what for problem in report.findings.problems}
    assert found.keys() == {
        ("000001.stl", "wrong unit"),
        ("000002.stl", "mended mesh"),
        ("000003.stl", "mended mesh"),
        ("000003.stl", "faulty mesh"),
        ("000005.stl", "faulty mesh"),
    }
    assert "in metres it would be 61 mm" in found["000001.stl", "wrong unit"]
    assert report.findings.decisions["meshes"].answer == "2 of 5"
    assert "mirrored" in report.findings.decisions["meshes"].evidence

    out = tmp_path / "out"
    result = convert_archive(download.root, out, configs=("anatomies",), workers=1)
    assert [(row["anatomy_id"], row["reason"]) for row in result.rejected] == [(1, "wrong unit")]
    records = {record["anatomy_id"]: record for record in json.loads((out / "conversion.json").read_text())["meshes"]}
    assert records.keys() == {2, 3, 4, 5}
    assert [records[id]["rewritten"] for id in (2, 3, 4, 5)] == [True, True, True, False]
    assert not records[4]["mended"] and records[5]["faults"][0].startswith("it is not closed: ")
    assert convert_archive(download.root, out, configs=("anatomies",), workers=1).meshes == result.meshes
    card = (out / "README.md").read_text()
    for sentence in described_meshes(result.meshes):
        file, what = sentence.split(": ", 1)
        assert f"- `{file}`: {what}" in card

    rows = datasets.load_dataset(str(out), "anatomies", cache_dir=str(tmp_path / "cache"))["train"]
    stored = {row["anatomy_id"]: row["mesh"] for row in rows}
    assert all(isinstance(mesh, trimesh.Trimesh) for mesh in stored.values())
    np.testing.assert_allclose(stored[2].volume, meshes[2].volume, rtol=1e-6)
    np.testing.assert_allclose(stored[3].volume, 2 * meshes[3].volume, rtol=1e-6)
    np.testing.assert_array_equal(stored[4].vertices, meshes[4].vertices)


def test_frames_of_an_archive_are_drawn_with_mended_meshes(download, meshes):
    opened = open_rows(str(download.root), ("calibrated",), archive_px=64)
    assert opened.meshes.keys() == {2, 3, 4, 5}
    assert opened.meshes[2].is_watertight and opened.meshes[2].volume > 0
    assert "in metres it would be 61 mm" in opened.without_mesh[1]


def test_several_solids_of_a_foreign_data_set_are_one_mesh(tmp_path):
    boxes = (trimesh.creation.box((60, 20, 20)).apply_translation((x, 0, 0)) for x in (0, 90))
    text = "\n".join(map(export_stl_ascii, boxes))
    (tmp_path / "data" / "anatomies").mkdir(parents=True)
    features = datasets.Features({"anatomy_id": datasets.Value("int64"), "mesh": datasets.Mesh()})
    rows = [{"anatomy_id": 1, "mesh": {"bytes": text.encode(), "path": "a.stl"}}]
    file = tmp_path / "data" / "anatomies" / "train-00000-of-00001.parquet"
    datasets.Dataset.from_list(rows, features=features).to_parquet(file)
    card = "---\nconfigs:\n- config_name: anatomies\n  data_files: anatomies/train-*.parquet\n---\n"
    (tmp_path / "data" / "README.md").write_text(card)
    mesh = open_rows(str(tmp_path / "data"), "anatomies").meshes[1]
    assert isinstance(mesh, trimesh.Trimesh) and len(mesh.faces) == 24
