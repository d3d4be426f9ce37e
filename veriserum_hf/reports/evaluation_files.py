"""An evaluation as files: numbers, tables, the error of every pose, and plots."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation import Evaluation
from veriserum_hf.reports.evaluation_text import evaluation_markdown
from veriserum_hf.reports.plots import save_plots


class Report:
    """Folder of an evaluation.

    Parameters
    ----------
    folder : made at once if it does not exist: an error here comes before the computation.

    Raises
    ------
    TrainingError
        If the folder cannot be made.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"cannot make the folder {folder}: {error.strerror}") from error

    def write(self, errors: pa.Table, document: Evaluation) -> None:
        """Write evaluation.json, evaluation.md, errors.parquet and the plots; replace those of an older report.

        Parameters
        ----------
        errors : result of `veriserum_hf.evaluation.pose_errors`.
        document : their summary, with ``evaluated``: model, data set, split and planes.

        """
        text = json.dumps(document, indent=1, allow_nan=False)
        (self.folder / "evaluation.json").write_text(f"{text}\n", encoding="utf-8")
        (self.folder / "evaluation.md").write_text(evaluation_markdown(document), encoding="utf-8")
        pq.write_table(errors, self.folder / "errors.parquet")
        save_plots(errors, self.folder)
