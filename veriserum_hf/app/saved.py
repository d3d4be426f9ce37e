"""The file of accepted poses: held by one process, and written as a whole after each acceptance."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout

from veriserum_hf.core import MANUAL, Component, PoseFileRow, PoseRow, Poses, __version__
from veriserum_hf.errors import MatchError
from veriserum_hf.jobs import writing
from veriserum_hf.poses import MANUAL_SCHEMA, poses_by_frame, read_poses, write_poses


class ManualPoses:
    """Accepted poses, in memory and in their file.

    Parameters
    ----------
    path : Parquet file, or CSV where its name ends in .csv; None to keep them in memory alone.
    poses : what it holds, by measurement id and component.
    about : metadata of the file.

    """

    def __init__(self, path: Path | None, poses: Mapping[int, Poses], about: Mapping[str, str]) -> None:
        self.path, self._about, self._seen = path, dict(about), _digest(path)
        self._poses: dict[int, dict[Component, PoseRow]] = {id: dict(of_frame) for id, of_frame in poses.items()}

    def of_frame(self, measurement_id: int) -> Poses:
        """Accepted poses of a frame."""
        return self._poses.get(measurement_id, {})

    def ids(self) -> list[int]:
        """Frames that have an accepted pose, by measurement id."""
        return sorted(self._poses)

    def __len__(self) -> int:
        """Return the number of poses."""
        return sum(map(len, self._poses.values()))

    def accept(self, rows: Sequence[PoseFileRow]) -> None:
        """Add poses, or replace those of the same implant and frame; they are on the disk when this returns.

        Raises
        ------
        MatchError
            If the file cannot be written, or another program has changed it; then nothing is accepted.

        """
        poses = {id: dict(of_frame) for id, of_frame in self._poses.items()}
        for row in rows:
            poses.setdefault(int(row["measurement_id"] or 0), {})[row["component"]] = row
        listed = [
            {"measurement_id": id, "component": component, **pose}
            for id, of_frame in sorted(poses.items())
            for component, pose in sorted(of_frame.items())
        ]
        if self.path is not None:
            with writing(self.path, MatchError):
                if _digest(self.path) not in (self._seen, ""):
                    raise MatchError(
                        f"another program has changed {self.path}: nothing was accepted, so that nothing is lost. "
                        "Move the file elsewhere and accept again: that writes everything accepted here"
                    )
                write_poses(self.path, pa.Table.from_pylist(listed, MANUAL_SCHEMA.with_metadata(self._metadata())))
                self._seen = _digest(self.path)
        self._poses = poses

    def _metadata(self) -> dict[bytes | str, bytes | str]:
        return {**(MANUAL_SCHEMA.metadata or {}), "veriserum_hf": __version__, **self._about}


def _digest(path: Path | None) -> str:
    """What a file holds, in short; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else ""


@contextmanager
def held(path: Path, about: Mapping[str, str]) -> Iterator[ManualPoses]:
    """Open a file of accepted poses, or begin one, and hold it for this process alone.

    Raises
    ------
    MatchError
        If another process holds it, it holds other poses than accepted ones, or its folder cannot be written to.
    TrainingError
        If it is damaged.

    """
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise MatchError(f"--output needs a file in a folder that exists; got {path}")
    # On POSIX the lock ends with its process, however that ends.
    lock = FileLock(path.absolute().with_name(f".{path.name}.lock"))
    with writing(path, MatchError):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise MatchError(
                f"{path} is held by another `veriserum match`: use its page, end it, or give another --output. Poses "
                "of several files can be compared with `veriserum report`"
            ) from None
    try:
        yield ManualPoses(path, _read(path), about)
    finally:
        lock.release()


def _read(path: Path) -> dict[int, dict[Component, PoseRow]]:
    """Poses of the file, none where there is no file yet."""
    if not path.exists():
        return {}
    poses = poses_by_frame(read_poses(path))
    kinds = {pose.get("kind") for of_frame in poses.values() for pose in of_frame.values()}
    if kinds != {MANUAL}:
        raise MatchError(
            f"{path} exists, and holds other poses than `veriserum match` writes; it was not changed. Choose another "
            f"--output, and give this file with --poses {path} to see its poses"
        )
    return poses
