"""requirements.lock, pyproject.toml and constraints.txt agree."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_LOCKED = {"torch"}  # its file differs between machines


@pytest.fixture(scope="module")
def locked():
    """Versions by name."""
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    matches = [re.fullmatch(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line) for line in lines]
    assert all(matches), "a line without a version and a hash"
    return {match[1]: match[2] for match in matches}


def requirements():
    project = PROJECT["project"]
    lines = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    lines += [line for extra in project["optional-dependencies"].values() for line in extra]
    return [requirement for line in lines if (requirement := Requirement(line)).name != project["name"]]


def test_whatever_the_project_requires_is_locked_in_a_version_that_it_allows(locked):
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        if name not in NOT_LOCKED:
            assert name in locked, f"{name} is not locked: run `python3.11 .ci/lock.py`"
            assert requirement.specifier.contains(locked[name]), f"{name}: run `python3.11 .ci/lock.py`"


def test_the_lock_and_the_constraints_are_the_same_versions(locked):
    pins = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    for name, version in pins:
        if (name := canonicalize_name(name)) not in NOT_LOCKED:
            assert locked.get(name, version) == version, f"{name}: run `python3.11 .ci/lock.py`"


def test_torch_and_hosts_are_not_in_the_lock(locked):
    assert not NOT_LOCKED & locked.keys()
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_code_of_a_repository_is_run_at_a_stated_revision_in_every_example():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.ipynb")]
    pages += ROOT.glob("veriserum_hf/**/*.md")
    for page in pages:
        for line in page.read_text().splitlines():
            if "trust_remote_code=True" in line:
                assert "revision=" in line, f"{page.relative_to(ROOT)}: {line.strip()}"
