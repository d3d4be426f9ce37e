"""The outcome of a case: what its commands said, and its rows against those of the good data."""

import io
import json
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import PIL.Image

from tests.fuzz.cases import HARMLESS, NOTICED, SAFE, Case, Expected
from tests.fuzz.commands import Ran, Seen
from tests.fuzz.processes import LIMIT_MB, Ended

_SAME_GREY = 3.0  # levels, root mean square


class Outcome(StrEnum):
    """What became of a case; those in capitals are faults of the program."""

    ACCEPTED = "accepted"
    NAMED = "problem named"
    REJECTED = "rows rejected"
    REFUSED = "refused"
    TRACEBACK = "TRACEBACK"
    HANG = "HANG"
    MEMORY = "MEMORY"
    CODE_RAN = "CODE RAN"
    ROWS_CHANGED = "ROWS CHANGED"
    PASSED = "WRONG PASSED"
    GOOD_REFUSED = "GOOD REFUSED"
    FUZZER = "FUZZER"  # a fault of the fuzzer itself


#: Those of which the table must have none.
FATAL = (Outcome.TRACEBACK, Outcome.HANG, Outcome.MEMORY, Outcome.CODE_RAN, Outcome.ROWS_CHANGED)


class Verdict(NamedTuple):
    """An outcome, and why."""

    outcome: Outcome
    detail: str


def judged(case: Case, expected: Expected, seen: Seen, good: Seen) -> Verdict:
    """Judge a case whose process has ended in good order."""
    if broken := [ran for ran in seen.ran if ran.error]:
        return Verdict(Outcome.TRACEBACK, f"{broken[0].command}: {_last(broken[0].error)}")
    said, detail = _said(seen, good)
    if changed := _changed(case, seen, good):
        return Verdict(Outcome.ROWS_CHANGED, f"{changed}; {said}")
    noticed = said != Outcome.ACCEPTED
    if expected is HARMLESS:
        if noticed:
            return Verdict(Outcome.GOOD_REFUSED, detail)
        if different := [key for key in good.rows if seen.rows.get(key) != good.rows[key]]:
            return Verdict(Outcome.ROWS_CHANGED, f"{', '.join(different[:5])}; harmless")
    if expected is NOTICED and not noticed:
        return Verdict(Outcome.PASSED, "every command was content")
    if expected is SAFE and not noticed and (different := _seen_differently(seen, good)):
        return Verdict(Outcome.PASSED, different)
    return Verdict(said, detail)


def judged_end(case: Case, ended: Ended) -> Verdict | None:
    """Judge a process that did not end in good order, or that ran code of the data; None if neither."""
    if case.trap.exists():
        return Verdict(Outcome.CODE_RAN, "a payload of the data was executed")
    if ended.hung:
        return Verdict(Outcome.HANG, f"killed after {ended.wall_s:.0f} s")
    if ended.peak_mb > LIMIT_MB:
        return Verdict(Outcome.MEMORY, f"{ended.peak_mb:.0f} MB")
    if ended.failed:
        return Verdict(Outcome.FUZZER, ended.failed)
    if ended.signal:
        return Verdict(Outcome.TRACEBACK, f"signal {ended.signal}")
    return None


def _said(seen: Seen, good: Seen) -> tuple[Outcome, str]:
    """What the commands said beyond what they say of good data, and their words."""
    worse = [ran for ran, usual in zip(seen.ran, good.ran, strict=False) if ran.status != usual.status]
    worse += [ran for ran in seen.ran[len(good.ran) :] if ran.status]
    for outcome, statuses in ((Outcome.REFUSED, (2,)), (Outcome.REJECTED, (3,)), (Outcome.NAMED, (0, 1))):
        # An audit that finds an archive unusable may stand beside a conversion that does without the part.
        if found := [ran for ran in worse if ran.status in statuses]:
            return outcome, f"{found[-1].command}: {_words(found[-1])}"
    if seen.rejected - good.rejected:
        return Outcome.REJECTED, ", ".join(sorted(seen.rejected - good.rejected))
    return Outcome.ACCEPTED, ""


def _words(ran: Ran) -> str:
    lines = [line for line in ran.errors.splitlines() if line.startswith("error:")] or ran.errors.splitlines()
    if ran.command == "audit" and ran.output.startswith("{"):
        problems = json.loads(ran.output)["problems"]
        lines = [f"{problem['kind']}, {problem['where']}: {problem['what']}" for problem in problems]
    return lines[-1][-300:] if lines else f"status {ran.status}"


def _last(text: str) -> str:
    """The last line of a traceback, and where in the package it was."""
    lines = text.strip().splitlines()
    places = [line.strip() for line in lines if "/veriserum_hf/" in line and line.strip().startswith("File")]
    place = places[-1].split("/veriserum_hf/")[-1].replace('", line ', ":").split(",")[0] if places else ""
    return f"{lines[-1][:250]}{f' ({place})' if place else ''}"


def _changed(case: Case, seen: Seen, good: Seen) -> str:
    """Rows that the mutation does not concern and that are not as they were, or gone without a word."""
    if case.touched is None or not seen.rows:  # all may change; or nothing was made
        return ""
    for key, row in good.rows.items():
        if _concerned(case, key):
            continue
        if key not in seen.rows:
            if key not in seen.rejected:
                return f"{key} is missing"
        elif seen.rows[key] != row:
            return f"{key} is different"
    if extra := [key for key in seen.rows if key not in good.rows and not _concerned(case, key)]:
        return f"{extra[0]} was not there"
    return ""


def _concerned(case: Case, key: str) -> bool:
    """Whether the mutation may change a row, or one of its implants."""
    return case.touched is None or any(key == touched or key.startswith(f"{touched} ") for touched in case.touched)


def _seen_differently(seen: Seen, good: Seen) -> str:
    """A row that is gone, or not as it was: for the eye, or in its values."""
    for key, before in good.rows.items():
        row = seen.rows.get(key)
        if row == before:
            continue
        if row is None:
            return f"{key} is missing"
        if row.values != before.values:
            return f"{key} has other values"
        for one, other in zip(row.images, before.images, strict=True):
            difference = rms(one, other)
            if difference > _SAME_GREY:
                return f"{key} is {difference:.1f} grey levels off"
    return ""


def rms(one: bytes, other: bytes) -> float:
    """Root mean square difference of two images, grey levels."""
    if one == other:
        return 0.0
    a, b = (np.asarray(PIL.Image.open(io.BytesIO(each)), dtype=float) for each in (one, other))
    return float(np.sqrt(np.mean((a - b) ** 2))) if a.shape == b.shape else np.inf
