"""Rendered frames that are learned from several times."""

from itertools import count, islice

import torch

from veriserum_hf.training import reuse
from veriserum_hf.training.reuse import reused

SIZE = 4


def fresh(start=0):
    for number in count(start):
        ids = torch.arange(number * SIZE, (number + 1) * SIZE)
        yield {
            "measurement_id": ids,
            "camera_bs": {"intrinsics": ids[:, None, None].double().expand(-1, 3, 3)},
            "task": [f"task {id}" for id in ids.tolist()],
        }


def drawn(batches, start=0, times=3):
    return list(islice(reused(fresh, times, SIZE, (5,), start), batches))


def test_every_batch_holds_whole_frames_of_recent_batches(monkeypatch):
    monkeypatch.setattr(reuse, "RECENT_FRAMES", 3 * SIZE)
    seen = set()
    for number, batch in enumerate(drawn(60)):
        ids = batch["measurement_id"].tolist()
        assert len(set(ids)) == SIZE
        newest = number // 3
        assert all(max(0, newest - 2) * SIZE <= id < (newest + 1) * SIZE for id in ids)
        assert batch["task"] == [f"task {id}" for id in ids]
        assert batch["camera_bs"]["intrinsics"][:, 0, 0].tolist() == ids
        seen |= set(ids)
    assert len(seen) > 0.8 * 20 * SIZE


def test_a_resumed_run_gets_the_same_batches(monkeypatch):
    monkeypatch.setattr(reuse, "RECENT_FRAMES", 3 * SIZE)
    whole = drawn(40)
    for start in (1, 3, 17):
        rest = drawn(40 - start, start)
        assert [one["measurement_id"].tolist() for one in rest] == [
            one["measurement_id"].tolist() for one in whole[start:]
        ]
