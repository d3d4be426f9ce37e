"""Trials that a model was trained on, kept with the model, and how many of them an evaluated split contains.

A trial is the same where archive and id are the same. Where the archive is another one, or a copy of it, whose files
have other times, trials are compared by what they contain: id, task, subject and cameras.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from veriserum_hf.core import CAMERA_OF, LabelRow, cameras_of
from veriserum_hf.dataset.provenance import converted_document, public_name
from veriserum_hf.dataset.stored import StoredFrames
from veriserum_hf.errors import DataSetError

TRAINING_DATA = "training_data"  # of a model's configuration, and of the poses that it has predicted
_DECIMALS = 6  # of cameras; their last digits depend on the library that inverted a matrix
_SHARDS = ("format", "shard_size_bytes")  # options that change the order of a stream, and nothing else


class TrainingTrials(TypedDict):
    """What a model keeps of its training data, as JSON.

    Attributes
    ----------
    dataset : public name of the data set; empty where frames were simulated during the training.
    config : its configuration.
    archive : fingerprint of the archive that it was converted from; None if unknown.
    trials : hash of the content of every training trial by its id; empty where the content was not read.

    """

    dataset: str
    config: str
    archive: str | None
    trials: dict[str, str]


class TrialOverlap(TypedDict):
    """How many trials of a split a model was trained on.

    Attributes
    ----------
    trials : of the split.
    training_trials : those among them that were training trials; None if unknown.
    statement : the same in words.

    """

    trials: int
    training_trials: int | None
    statement: str


def training_trials(dataset: str, config: str, frames: StoredFrames | None) -> TrainingTrials | None:
    """Trials of the training split; None where they are unknown.

    Parameters
    ----------
    dataset, config : that the model is trained on.
    frames : the training split; None for a stream, whose trials are those that the conversion has recorded.

    """
    if frames is not None:
        trials = {str(id): key for id, key in _keys(frames).items()}
    else:
        splits = (converted_document(dataset, "splits.json") or {}).get("trials")
        if not isinstance(splits, dict):
            return None
        trials = {id: "" for id, split in splits.items() if split == "train"}
    return {"dataset": public_name(dataset), "config": config, "archive": archive_of(dataset), "trials": trials}


def no_trials() -> TrainingTrials:
    """Trials of a training on frames that were simulated meanwhile: none."""
    return {"dataset": "", "config": "", "archive": None, "trials": {}}


def archive_of(dataset: str) -> str | None:
    """Fingerprint of the archive that a data set was converted from; None if unknown."""
    archive = (converted_document(dataset, "conversion.json") or {}).get("archive")
    found = archive.get("fingerprint") if isinstance(archive, dict) else None
    return found if isinstance(found, str) else None


def trial_overlap(training: object, dataset: str, frames: StoredFrames, split: str) -> TrialOverlap:
    """How many trials of some frames a model was trained on.

    Parameters
    ----------
    training : ``training_data`` of the model's configuration; anything but `TrainingTrials` is unknown.
    dataset : of the frames.
    frames : that the model is evaluated on.
    split : their name, for the statement.

    """
    evaluated = _keys(frames)
    of_split = f"{len(evaluated)} {'' if split == 'all' else f'{split} '}trial{'s' * (len(evaluated) != 1)}"
    known = _checked(training)
    if known is None:
        statement = f"it is unknown which of the {of_split} were training trials: the model does not state its own"
        return {"trials": len(evaluated), "training_trials": None, "statement": statement}
    same_archive = known["archive"] is not None and known["archive"] == archive_of(dataset)
    same_id = {id: key for id, key in evaluated.items() if str(id) in known["trials"]}
    common = [id for id, key in same_id.items() if same_archive or known["trials"][str(id)] == key]
    if len(common) < len(same_id) and not all(known["trials"].values()):
        statement = (
            f"it is unknown which of the {of_split} were training trials: the model was trained on a stream of "
            f"another archive, or of a copy of this one, with {len(same_id)} of their ids"
        )
        return {"trials": len(evaluated), "training_trials": None, "statement": statement}
    were = "was a training trial" if len(common) == 1 else "were training trials"
    statement = f"{len(common) or 'none'} of {of_split} {were}"
    if others := len(same_id) - len(common):
        statement += f"; {others} more with the id of one, but of another archive or with other cameras"
    return {"trials": len(evaluated), "training_trials": len(common), "statement": statement}


def conversion_identity(dataset: str | None, *, shards: bool) -> dict[str, object]:
    """What makes a conversion of an archive another one, by name: options and splits; empty if unknown.

    Parameters
    ----------
    dataset : folder that ``veriserum convert`` made, or a data set on the hub; None for none.
    shards : whether the division into files matters, as for a stream.

    """
    if dataset is None:
        return {}
    record, splits = (converted_document(dataset, name) or {} for name in ("conversion.json", "splits.json"))
    options, trials = record.get("options"), splits.get("trials")
    if not isinstance(options, dict) or not isinstance(trials, dict):
        return {}
    left_out = ("configs", *(() if shards else _SHARDS))
    identity = {f"conversion {name}": value for name, value in options.items() if name not in left_out}
    identity["seed of the splits"] = splits.get("seed")
    by_split: dict[str, list[str]] = {}
    for id, split in sorted(trials.items()):
        by_split.setdefault(str(split), []).append(id)
    for split, ids in sorted(by_split.items()):
        hashed = hashlib.sha256(" ".join(ids).encode()).hexdigest()[:8]
        identity[f"trials of {split}"] = f"{len(ids)} ({hashed})"
    return identity


def _keys(frames: StoredFrames) -> dict[int, str]:
    """Hash of the content of every trial, by id: of its first frame's row, without what a conversion chooses."""
    column = frames.table("trial_id")["trial_id"]
    if column.null_count:
        raise DataSetError(f"trial_id is null in {column.null_count} rows, expected the id of each frame's trial")
    ids, first = np.unique(column.to_numpy(), return_index=True)
    columns = [name for name in ("trial_id", "task", "subject", *CAMERA_OF.values()) if name in frames.column_names]
    rows = frames.taken(first.tolist()).table(*columns).to_pylist()
    return {int(id): _key(row) for id, row in zip(ids, rows, strict=True)}


def _key(row: LabelRow) -> str:
    content: list[object] = [row["trial_id"], row.get("task"), row.get("subject")]
    for camera in cameras_of(row).values():
        content.append((np.round(camera["world_to_camera"], _DECIMALS) + 0.0).tolist())  # no -0.0
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _checked(training: object) -> TrainingTrials | None:
    """What a model's configuration states, if it is that: a file of somebody else may hold anything."""
    if not isinstance(training, Mapping):
        return None
    archive, trials = training.get("archive"), training.get("trials")
    if not isinstance(trials, Mapping) or not all(isinstance(text, str) for item in trials.items() for text in item):
        return None
    return {
        "dataset": str(training.get("dataset", "")),
        "config": str(training.get("config", "")),
        "archive": archive if isinstance(archive, str) else None,
        "trials": dict(trials),
    }
