"""Licences that are permitted, and those that are not."""

import runpy
from pathlib import Path

import pytest

fault = runpy.run_path(str(Path(__file__).parents[2] / ".ci/licences.py"))["fault"]


@pytest.mark.parametrize(
    "text",
    [
        "MIT",
        "Apache Software License",
        "MIT-CMU",
        "BSD-3-Clause AND MIT",
        "GPL-3.0-only OR MIT",
        "MIT License, BSD License",
    ],
)
def test_permissive_licences_pass(text):
    assert fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "unknown",
        "GNU General Public License",
        "GPLv3",
        "MIT AND LGPL-2.1-only",
        "European Union Public Licence 1.2 (EUPL 1.2)",
        "Eclipse Public License 2.0",
        "MIT AND Proprietary",
    ],
)
def test_others_do_not(text):
    assert fault(text)
