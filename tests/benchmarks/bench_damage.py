"""Damaged frames against the decoder: ``python -m tests.benchmarks.bench_damage [FOLDER ...]``.

Frames of a simulated archive are encoded, damaged at random and decoded. A damage counts where OpenCV, which accepts
what it can, would give a corrected image that differs by more than 3 grey levels RMS. Undamaged frames must all be
accepted: simulated ones with more and less noise, and the PNG and JPEG frames below the folders given, of any origin.
The table is written to ``RESULTS_DAMAGE.md`` in this folder.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.table import Row, cpu_s, write_table
from tests.fixtures.damages import KINDS, damaged, encoders
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.frames import decode_frame
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.core.domain import PLANES
from veriserum_hf.errors import FrameError
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

_DAMAGES = 1000
_QUALITIES = (50, 75, 90, 100)
_NOISE = (0.0, 8.0, 25.0)  # grey levels, in addition to that of the simulation
_SIZE, _REPEATS = 512, 15

Frame = tuple[NDArray[np.uint8], Distortion]


def _frames(folder: Path) -> list[Frame]:
    """Raw frames of a simulated archive, and their distortions."""
    archive = VeriserumArchive(simulate(folder / "archive", Settings(trials=2, frames_per_trial=2), workers=1))
    distortions = next(iter(archive.distortions.values()))
    return [
        (decode_frame(Path(row[f"path_{plane}"]).read_bytes()).astype(np.uint8), distortions[plane])
        for row in archive.frames.to_pylist()
        for plane in PLANES
    ]


def _refused(jpeg: bytes) -> str | None:
    """Reason why a frame is refused; None where it is accepted."""
    try:
        decode_frame(jpeg)
    except FrameError as error:
        return error.reason
    return None


def _rms(jpeg: bytes, accepted: NDArray[np.uint8], distortion: Distortion) -> float:
    """Difference of the corrected image to that of the undamaged file, as a decoder that warns would give it."""
    found = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    if found is None or found.shape != accepted.shape:
        return np.inf
    images = (distortion.correct(each, _SIZE).astype(float) for each in (found, accepted))
    return float(np.sqrt(np.mean(np.subtract(*images) ** 2)))


def detection(frames: list[Frame]) -> Iterator[Row]:
    """Random damages: by the archive's own kind of JPEG, and by the other encoders."""
    for name, encode in encoders().items():
        rng = np.random.default_rng(20)
        refused: dict[str, Counter[bool]] = {kind: Counter() for kind in KINDS}
        slight: Counter[bool] = Counter()
        whole = [(encode(image, 95), distortion) for image, distortion in frames]
        count = _DAMAGES if name == "libjpeg-turbo" else _DAMAGES // 10
        while sum(each.total() for each in refused.values()) < count:
            kind = KINDS[int(rng.integers(3))]
            if refused[kind].total() > count // 3:
                continue
            jpeg, distortion = whole[int(rng.integers(len(whole)))]
            bad = damaged(jpeg, kind, rng)
            good = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
            counts = refused[kind] if _rms(bad, good, distortion) > 3 else slight
            counts[_refused(bad) is not None] += 1
        caught, every = sum(each[True] for each in refused.values()), sum(each.total() for each in refused.values())
        kinds = ", ".join(f"{kind} {each[True]} of {each.total()}" for kind, each in refused.items())
        measured = f"{caught} of {every} ({kinds}); of {slight.total()} slighter ones {slight[True]}"
        yield Row(f"Damaged, above 3 grey levels RMS, {name}: rejected", measured, "99 %", caught >= 0.99 * every)


def false_rejections(frames: list[Frame], folders: list[str]) -> Iterator[Row]:
    """Undamaged frames of every encoder and quality."""
    rng = np.random.default_rng(21)
    simulated = [
        np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
        for image, _ in frames[:3]
        for noise in _NOISE
    ]
    collimated = [image.copy() for image, _ in frames[:2]]
    for image in collimated:  # by lead, in the middle of a row of blocks and on its border, straight and inclined
        image[:200], image[-204:], image[:, :64] = 5, 5, 5
        image[np.add.outer(np.arange(len(image)), -np.arange(image.shape[1]) // 100) > len(image) - 320] //= 4
    yield _accepted("simulated", simulated + collimated)
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*") if path.suffix in (".png", ".jpg"))
    real = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths if "mask" not in path.name]
    if real:
        yield _accepted("of other laboratories", [image for image in real if image is not None])
        stored = [path.read_bytes() for path in paths if "mask" not in path.name]
        rejected = sum(_refused(each) is not None for each in stored)
        yield Row(
            "Files of other laboratories as they are: rejected", f"{rejected} of {len(stored)}", "0", not rejected
        )


def _accepted(which: str, images: list[NDArray[np.uint8]]) -> Row:
    counts: Counter[str] = Counter()
    total = 0
    for name, encode in encoders().items():
        for quality in _QUALITIES:
            for image in images:
                total += 1
                counts[name] += _refused(encode(image, quality)) is not None
    by_encoder = ", ".join(f"{name} {count}" for name, count in counts.items())
    measured = f"{counts.total()} of {total} ({by_encoder}; qualities {', '.join(map(str, _QUALITIES))})"
    return Row(f"Undamaged frames, {which}: rejected", measured, "0", not counts.total())


def _as_before(jpeg: bytes) -> np.uint8:
    """Decode by OpenCV, whatever it warns of, and look for light, as this package did before."""
    sample = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)[::8, ::8].ravel()
    rank = int(0.999 * len(sample))
    return np.partition(sample, rank)[rank]


def speed(frames: list[Frame]) -> Iterator[Row]:
    """Decoding with every check against decoding by OpenCV and the check for light alone."""
    for name, encode in encoders().items():
        if name not in ("libjpeg-turbo", "progressive"):
            continue
        jpegs = [encode(image, 95) for image, _ in frames]
        plain = cpu_s(lambda jpegs=jpegs: [_as_before(jpeg) for jpeg in jpegs], _REPEATS)
        strict = cpu_s(lambda jpegs=jpegs: [decode_frame(j) for j in jpegs], _REPEATS)
        ratio = strict / plain
        measured = f"{ratio:.2f} times ({1e3 * strict / len(jpegs):.1f} ms / {1e3 * plain / len(jpegs):.1f} ms)"
        yield Row(
            f"Decoding a frame strictly / by OpenCV, {name}, CPU", measured, "at most 1.15 times", ratio <= 1.15
        )


def every_row(folder: Path, others: list[str]) -> Iterator[Row]:
    """The table, row by row as it is measured."""
    frames = _frames(folder)
    yield from speed(frames)
    yield from detection(frames)
    yield from false_rejections(frames, others)


def main() -> None:
    """Measure, print, and write the table."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        what = "frames of 1664 x 1600 px of a simulated archive, at JPEG quality 95 where nothing else is said"
        rows = every_row(Path(name), sys.argv[1:])
        write_table("Damaged frames", rows, what, Path(__file__).with_name("RESULTS_DAMAGE.md"))


if __name__ == "__main__":
    main()
