"""Splits by trial or by implant: a pure function of ids and a seed, so that no frame ever changes its split.

Neighbouring frames of one trial are similar; with a split by frame, test images would resemble training images.
"""

import hashlib
from collections.abc import Iterable, Mapping

from veriserum_hf.errors import ConversionError

SPLITS = ("train", "validation", "test")
SPLIT_SEED = 0
_VALIDATION_SHARE, _TEST_SHARE = 0.1, 0.1


def _unit(seed: int, what: str, id: int) -> float:
    """Number in [0, 1) that depends on the arguments only, on every machine and in every version."""
    digest = hashlib.sha256(f"veriserum:{seed}:{what}:{id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_by_trial(
    trial_ids: Iterable[int], manual_trial_ids: Iterable[int], seed: int = SPLIT_SEED
) -> dict[int, str]:
    """Split of every trial: 80 % train, 10 % validation, 10 % test, each trial by its id alone.

    A trial with a manually matched pose is always in ``test``.
    """
    manual = set(manual_trial_ids)

    def split(trial_id: int) -> str:
        position = _unit(seed, "trial", trial_id)
        if trial_id in manual or position < _TEST_SHARE:
            return "test"
        return "validation" if position < _TEST_SHARE + _VALIDATION_SHARE else "train"

    return {trial_id: split(trial_id) for trial_id in sorted(set(trial_ids))}


def split_by_implant(
    tibias_of_trials: Mapping[int, Iterable[int]], manual_trial_ids: Iterable[int], seed: int = SPLIT_SEED
) -> dict[int, str]:
    """Split of trials such that no tibial component is in two splits.

    One tibial component is held out for ``test``, and one for ``validation`` where there are three or more.
    Only two femoral components exist, so both are seen in training. A trial with a manually matched pose belongs
    in ``test``: one that shows another tibial component belongs to no split and is excluded.

    Parameters
    ----------
    tibias_of_trials : trial id to the ids of its tibial components.
    manual_trial_ids : trials that are in ``test`` or excluded.
    seed : another seed holds out another implant.

    Raises
    ------
    ConversionError
        If there are fewer than two tibial components.

    """
    tibias = sorted({id for ids in tibias_of_trials.values() for id in ids}, key=lambda id: _unit(seed, "tibia", id))
    if len(tibias) < 2:
        raise ConversionError(
            f'split_by="implant" holds one tibial component out and needs at least two; found {tibias}. '
            'Use split_by="trial".'
        )
    held_out = {tibias[0]: "test"}
    if len(tibias) > 2:
        held_out[tibias[1]] = "validation"
    manual = set(manual_trial_ids)
    splits = {}
    for trial_id in sorted(tibias_of_trials):
        of_components = {held_out.get(id, "train") for id in tibias_of_trials[trial_id]}
        if len(of_components) == 1 and (trial_id not in manual or of_components == {"test"}):
            splits[trial_id] = of_components.pop()
    return splits
