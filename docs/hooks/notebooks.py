"""Pages of the notebooks: run while the site is built, as their outputs are not kept in the repository."""

import base64
import os
import tempfile
from functools import cache
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient

_SECONDS_A_CELL = 300


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write a page for each, and its images next to it."""
    for notebook in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        text, images = page(notebook.stem, executed(notebook.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=text))
        for name, content in images.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


@cache  # while pages are edited, the site is built again and again
def executed(source: str) -> nbformat.NotebookNode:
    """Return a notebook with its outputs, run in an empty folder.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.

    """
    notebook = nbformat.reads(source, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=_SECONDS_A_CELL, resources={"metadata": {"path": folder}})
        # Its calculations are small: threads that wait for each other would slow them down on a busy machine.
        client.execute(env=os.environ | {"OMP_NUM_THREADS": "1"})
    return notebook


def page(name: str, notebook: nbformat.NotebookNode) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its images by file name."""
    parts, images = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                file = f"{name}_{len(images)}.png"
                images[file] = base64.b64decode(data["image/png"])
                parts.append(f"![Output of the cell above]({file})")
            elif (output.output_type == "stream" and output.name == "stdout") or "text/plain" in data:
                parts.append(f"```text\n{(data.get('text/plain') or output.text).rstrip()}\n```")
    title, *rest = parts
    parts = [title, f"[Download this notebook]({name}.ipynb); it needs the extras `train` and `viz`.", *rest]
    return "\n\n".join(parts) + "\n", images
