"""Rows of a data set that a model can look at."""

import datasets

from veriserum_hf.core import COMPONENTS, PLANES
from veriserum_hf.dataset import load_meshes, load_split_or_all
from veriserum_hf.errors import TrainingError
from veriserum_hf.inference.models import check_fit, check_implants
from veriserum_hf.modeling import VeriserumPoseModel


def load_rows(model: VeriserumPoseModel, dataset: str, config: str, split: str) -> datasets.Dataset:
    """Rows of a data set that a model can look at, with poses or without; raw pictures as their files' bytes.

    Parameters
    ----------
    model : whose images and implants they must be.
    dataset : folder that ``veriserum convert`` made, or a data set on the hub.
    config : calibrated, raw, manual or target.
    split : train, validation, test or all.

    Raises
    ------
    TrainingError
        If there are no such rows, or the model was made for other images or implants.

    """
    rows = load_split_or_all(dataset, config, split)
    needed = {*(f"{what}_{plane}" for what in ("image", "camera") for plane in PLANES), "measurement_id", *COMPONENTS}
    if missing := needed - set(rows.column_names):
        raise TrainingError(
            f"{dataset} {config} has no {', '.join(sorted(missing))}; choose calibrated, raw, manual or target"
        )
    raw = "distortion_bs" in rows.column_names
    (check_implants if raw else check_fit)(model, rows, load_meshes(dataset))
    for plane in PLANES if raw else ():
        rows = rows.cast_column(f"image_{plane}", datasets.Image(decode=False))
    return rows
