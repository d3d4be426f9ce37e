"""The loading script under datasets 3.6, in an environment of its own."""

import json
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pytest

from tests.hub.bare_environment import make_environment

ROOT = Path(__file__).parents[1]
# The requirements in loading_script/README.md, on the versions that everything else is tested with.
REQUIREMENTS = (
    "datasets==3.6.0 filelock jinja2 lazy_loader numpy opencv-python-headless pillow pyarrow rich scipy simplejpeg "
    "trimesh typer wrapt"
)
# What datasets 3.6.0 requires, in versions that are installed here; pip finds out what it must get.
REQUIRED = "huggingface_hub numpy packaging pandas pyarrow pyyaml requests tqdm xxhash"


@pytest.mark.slow
def test_datasets_3_6_loads_the_same_rows(tiny, tmp_path):
    assert (
        f'pip install "datasets==3.6.0" {REQUIREMENTS.split(" ", 1)[1]}'
        in (ROOT / "loading_script/README.md").read_text()
    )
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    # To pip, what is linked is installed: copying all of it takes most of the time.
    make_environment(tmp_path / "linked", {*REQUIREMENTS.split()[1:], *REQUIRED.split()})
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "linked.pth").write_text(f"{tmp_path / 'linked'}\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    # Compiling all of it takes as long as all the rest; what is imported is compiled then.
    pip += ["--no-compile", "--retries", "10", "--timeout", "60"]
    tested = [
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("datasets=")
    ]
    (tmp_path / "constraints.txt").write_text("\n".join(tested))
    subprocess.run([*pip, "-c", tmp_path / "constraints.txt", *REQUIREMENTS.split()], check=True)
    subprocess.run([*pip, "--no-deps", ROOT], check=True)
    script = f"""
        import json
        import datasets
        def load(config, **options):
            return datasets.load_dataset({str(ROOT / "loading_script" / "veriserum.py")!r}, config,
                trust_remote_code=True, data_files={str(tiny.database)!r}, cache_dir={str(tmp_path / "cache")!r},
                **options)
        rows = load("calibrated")
        print(json.dumps({{
            "version": datasets.__version__,
            "femur": {{row["measurement_id"]: row["femur"] for split in rows.values() for row in split}},
            "size": rows["train"][0]["image_bs"].size,
            "meshes": [len(row["mesh"]["bytes"]) for row in load("anatomies")["train"]],
            "streamed": sum(1 for _ in load("calibrated", streaming=True)["train"]),
        }}))
    """
    ran = subprocess.run(
        [python, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["version"] == "3.6.0"
    assert found["size"] == [512, 512]
    assert min(found["meshes"]) > 1000
    assert found["streamed"] > 0

    import datasets

    import veriserum_hf  # noqa: F401

    here = datasets.load_dataset("veriserum", data_files=str(tiny.database), cache_dir=str(tmp_path / "here"))
    assert found["femur"] == {str(row["measurement_id"]): row["femur"] for split in here.values() for row in split}
