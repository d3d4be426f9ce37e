"""Fit how far the poses of a trained model can be trusted, on randomised worlds that it has not seen.

    python -m veriserum_hf.training.trust --model RUN

The worlds are those of the run's training.yaml, with other frames. Signs of doubt are weighed by logistic regression
(Platt scaling of several numbers): for the probability that a pose is within 2 mm and 2 degrees, and for that of one
that is off by more than 5 mm or 5 degrees. Half of the frames are fitted, the others say how well that holds. The
weights go into the model's config.json; a training on randomised worlds ends with the same.

Exit status: 0 done, 2 not done, 128 and the number of a signal: interrupted (130: Ctrl-C).
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from veriserum_hf.core import FloatArray, load_plain_yaml, masked, read_text
from veriserum_hf.errors import TrainingError, VeriserumError
from veriserum_hf.evaluation import FAR_DEG, FAR_MM, Bin, Marks, calibration_error, marks, reliability
from veriserum_hf.inference import load_model
from veriserum_hf.jobs import exit_status, heed_signals, write_file
from veriserum_hf.modeling import VeriserumPoseModel, trusted
from veriserum_hf.simulation import WorldRanges
from veriserum_hf.training.batches import Batch, model_inputs
from veriserum_hf.training.settings import TRUST_STEP
from veriserum_hf.training.worlds import validation_worlds

FRAMES = 800
_BATCH = TRUST_STEP // 2
_GOOD_MM, _GOOD_DEG = 2.0, 2.0  # what a confidence is the probability of
_RIG = 3  # numbers of the rig, after the signs
_CAUGHT = 0.97  # of the poses that are far off, in the frames that are fitted
_MOST_DOUBT = 0.5  # that is trusted
_MARGIN = 0.05  # of the range of a rig's numbers, beyond it
_PENALTY = 1e-3  # on squared weights, for signs of which one follows from the others


Found = dict[str, FloatArray]  # of n implants: signs (n, k), translation_mm, rotation_deg, confidence


class TrustReport(TypedDict):
    """How well fitted probabilities hold in other frames.

    Attributes
    ----------
    frames : that were fitted, and as many that were not.
    translation_mm, rotation_deg : medians of the errors.
    calibration_error, before : of the confidence, fitted and by the network alone.
    reliability : of the fitted confidence.
    marks : what the marks catch.

    """

    frames: int
    translation_mm: float
    rotation_deg: float
    calibration_error: float | None
    before: float | None
    reliability: list[Bin]
    marks: Marks


def find(model: VeriserumPoseModel, batches: Iterable[Batch]) -> Found:
    """Signs, with the rig's numbers last, errors and confidence of every pose in frames with labels."""
    parts: list[dict[str, torch.Tensor]] = []
    training = model.training
    model.train(False)
    with torch.inference_mode():
        for batch in batches:
            labels = batch["labels"]
            output: Any = model(**{name: value for name, value in model_inputs(batch).items() if name != "labels"})
            T = output.T_world_implant
            there = (labels.isfinite() & T.isfinite()).all(-1).all(-1)
            numbers = {
                "signs": output.signs,
                "translation_mm": (T[..., :3, 3] - labels[..., :3, 3]).norm(dim=-1),
                "rotation_deg": torch.rad2deg(roma.rotmat_geodesic_distance(T[..., :3, :3], labels[..., :3, :3])),
                "confidence": output.confidence,
            }
            parts.append({name: value[there].double().cpu() for name, value in numbers.items()})
    model.train(training)
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def fit_trust(found: Found) -> dict[str, Any]:
    """Weights of `veriserum_hf.modeling.trust_veriserum.trusted`, fitted to what a model finds."""
    signs, rig = found["signs"][:, :-_RIG], found["signs"][:, -_RIG:]
    means, deviations = signs.mean(axis=0), np.maximum(signs.std(axis=0), 1e-6)
    scaled = np.clip((signs - means) / deviations, -5, 5)
    good = _good(found)
    far = (found["translation_mm"] > FAR_MM) | (found["rotation_deg"] > FAR_DEG)
    confidence, doubt = _logistic(scaled, good), _logistic(scaled, far)
    doubts = expit(scaled @ doubt[:-1] + doubt[-1])
    limit = min(_MOST_DOUBT, np.quantile(doubts[far], 1 - _CAUGHT)) if far.any() else _MOST_DOUBT
    margin = _MARGIN * np.ptp(rig, axis=0) + 1e-3
    values = {
        "means": means,
        "deviations": deviations,
        "confidence": confidence,
        "doubt": doubt,
        "low": rig.min(axis=0) - margin,
        "high": rig.max(axis=0) + margin,
    }
    return {name: np.round(value, 6).tolist() for name, value in values.items()} | {"limit": float(limit)}


def _logistic(scaled: FloatArray, wanted: NDArray[np.bool_]) -> FloatArray:
    """Weights (n + 1,), the constant last, of a logistic regression."""
    X, y = np.column_stack([scaled, np.ones(len(scaled))]), wanted.astype(float)

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        z = X @ weights
        value = np.mean(np.logaddexp(0, z) - y * z) + _PENALTY * np.sum(weights[:-1] ** 2)
        return float(value), X.T @ (expit(z) - y) / len(y) + 2 * _PENALTY * np.append(weights[:-1], 0)

    found: FloatArray = minimize(loss, np.zeros(X.shape[1]), jac=True, method="L-BFGS-B").x
    return found


def add_trust(
    model: VeriserumPoseModel, ranges: WorldRanges, *, frames: int = FRAMES, workers: int = 0
) -> TrustReport:
    """Fit the trust of a model in randomised worlds and put it into its configuration.

    Parameters
    ----------
    model : trained on these worlds; with the spatial head.
    ranges : of the worlds.
    frames : to fit and to check, half each: a multiple of 40.
    workers : processes that draw them.

    Raises
    ------
    TrainingError
        If the number of frames is no such multiple.

    """
    if frames < 2 * _BATCH or frames % (2 * _BATCH):
        raise TrainingError(f"frames must be a multiple of {2 * _BATCH}, got {frames}")
    model.config.trust = None
    size, device = model.config.image_size, model.device
    batches = validation_worlds(ranges, frames, batch_size=_BATCH, size=size, device=device, workers=workers)
    found = find(model, batches)
    half = len(found["confidence"]) // 2
    model.config.trust = fit_trust({name: value[:half] for name, value in found.items()})
    others = {name: value[half:] for name, value in found.items()}
    return _report(model.config.trust, others, frames // 2)


def _report(trust: dict[str, Any], found: Found, frames: int) -> TrustReport:
    signs, good = torch.from_numpy(found["signs"]), _good(found)
    confidence, _, sure = (value.numpy() for value in trusted(trust, signs[:, :-_RIG], signs[:, -_RIG:]))
    return {
        "frames": frames,
        "translation_mm": float(np.median(found["translation_mm"])),
        "rotation_deg": float(np.median(found["rotation_deg"])),
        "calibration_error": calibration_error(confidence, good),
        "before": calibration_error(found["confidence"], good),
        "reliability": reliability(confidence, good),
        "marks": marks(sure, found["translation_mm"], found["rotation_deg"]),
    }


def _good(found: Found) -> NDArray[np.bool_]:
    good: NDArray[np.bool_] = (found["translation_mm"] < _GOOD_MM) & (found["rotation_deg"] < _GOOD_DEG)
    return good


def run_trust(run: Path, frames: int, workers: int) -> TrustReport:
    """Fit the trust of the model in a run's folder, on the worlds of its training.yaml, and store it there.

    Raises
    ------
    TrainingError
        If the run was not trained on randomised worlds, its model cannot be loaded, or its head has no signs.

    """
    try:
        settings = load_plain_yaml(read_text(run / "training.yaml"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot read the settings of the run {run}: {error}") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("worlds"), dict):
        raise TrainingError(
            f"{run} was not trained on randomised worlds: its training.yaml has no worlds. Train with "
            "training/configs/robust.yaml"
        )
    model = load_model(str(run))
    found = add_trust(model, WorldRanges.of(settings["worlds"]), frames=frames, workers=workers)
    fields = json.loads(read_text(run / "config.json")) | {"trust": model.config.trust}
    write_file(run / "config.json", json.dumps(fields, indent=2) + "\n")
    return found


def main() -> None:
    """Run the command line; a user's error is one message and exit status 2, a signal one and 128 + its number."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="output folder of a training")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames to fit and to check (%(default)s)")
    parser.add_argument("--num_workers", type=int, default=0, help="processes that draw frames (%(default)s)")
    arguments = parser.parse_args()
    with heed_signals():
        try:
            found = run_trust(arguments.model, arguments.frames, arguments.num_workers)
            print(json.dumps(found, indent=1))
        except (VeriserumError, OSError) as error:  # of the user, or the disk
            print(f"error: {masked(str(error))}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt as interrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(exit_status(interrupt))


if __name__ == "__main__":
    main()
