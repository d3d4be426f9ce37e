"""An evaluation as files: numbers, tables, the error of every pose, and plots."""

import json
from pathlib import Path

import pyarrow as pa

from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation import Evaluation
from veriserum_hf.jobs import parquet_bytes, write_file
from veriserum_hf.knee import JointPairs
from veriserum_hf.reports.bland_altman import bland_altman
from veriserum_hf.reports.evaluation_text import evaluation_markdown
from veriserum_hf.reports.plots import save_plots, save_png


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

    def write(self, errors: pa.Table, document: Evaluation, joint: JointPairs | None) -> None:
        """Write evaluation.json, evaluation.md, errors.parquet and the plots; replace those of an older report.

        Parameters
        ----------
        errors : result of `veriserum_hf.evaluation.pose_errors`.
        document : their summary, with ``evaluated``: model, data set, split and planes; and ``agreement``.
        joint : coordinates of the joint, for the Bland-Altman figure; None where they are unknown.

        Raises
        ------
        TrainingError
            If a file cannot be written.

        """
        text = json.dumps(document, indent=1, allow_nan=False)
        try:
            write_file(self.folder / "evaluation.json", f"{text}\n")
            write_file(self.folder / "evaluation.md", evaluation_markdown(document))
            write_file(self.folder / "errors.parquet", parquet_bytes(errors))
            save_plots(errors, self.folder)
            if joint is not None:
                save_png(bland_altman(joint, document["agreement"]["joint"]), self.folder / "bland_altman.png")
        except OSError as error:
            raise TrainingError(f"cannot write below {self.folder}: {error.strerror or error}") from error
