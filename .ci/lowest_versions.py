"""Print every lower bound of pyproject.toml as a constraint for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
requirements = [
    *project["dependencies"],
    *(line for extra in project["optional-dependencies"].values() for line in extra),
]
for requirement in requirements:
    if bound := re.match(r"([\w.-]+)>=([\w.]+)", requirement):
        print(f"{bound[1]}=={bound[2]}")
