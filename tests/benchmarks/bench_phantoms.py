"""Own phantoms, indexed in simulated frames: ``python -m tests.benchmarks.bench_phantoms``."""

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tests.benchmarks.table import CORES, Row, write_table
from tests.fixtures.own_phantoms import OwnGrid
from veriserum_hf.calibration.bead_grid import fit_bead_grid
from veriserum_hf.calibration.phantom_files import load_grid_phantom
from veriserum_hf.errors import CalibrationError

_FRAMES, _HEIGHT_PX = 50, 800
_PHANTOMS = {"round_grid": "Round grid, 2,028 places", "perforated_plate": "Perforated plate, staggered holes"}


class _Graded(NamedTuple):
    """How the fit to one frame came out."""

    wrong: int
    found: float
    cpu_s: float


def _graded(name: str, seed: int) -> _Graded | str:
    """Fit a random frame and compare it with the truth; the reason where it is refused."""
    cv2.setNumThreads(1)
    grid = OwnGrid.drawn(load_grid_phantom(name), seed)
    frame, started = grid.frame(_HEIGHT_PX), time.process_time()
    try:
        fit = fit_bead_grid(frame, grid.phantom)
    except CalibrationError as error:
        return f"{seed}: {error}"
    taken_s = time.process_time() - started
    return _Graded(*grid.graded(fit), taken_s)


def _rows() -> Iterator[Row]:
    with ProcessPoolExecutor(CORES) as pool:
        for name, what in _PHANTOMS.items():
            results = list(pool.map(_graded, [name] * _FRAMES, range(_FRAMES)))
            fits = [result for result in results if isinstance(result, _Graded)]
            print(*(result for result in results if isinstance(result, str)), sep="\n", flush=True)
            wrong, refused = sum(fit.wrong > 0 for fit in fits), _FRAMES - len(fits)
            yield Row(f"{what}: frames with a wrong index", f"{wrong} of {_FRAMES}", "0", wrong == 0)
            yield Row(f"{what}: frames refused", f"{refused} of {_FRAMES}", "0", refused == 0)
            shares = [fit.found for fit in fits]
            found = f"{np.mean(shares):.2%} (least {min(shares):.2%})"
            least = bool(np.mean(shares) >= 0.99)
            yield Row(f"{what}: spots wholly in the field that are fitted", found, "at least 99 %", least)
            taken_s = float(np.median([fit.cpu_s for fit in fits]))
            yield Row(f"{what}: a fit", f"{taken_s:.2f} CPU-s", "for comparison", True)


def main() -> None:
    """Run all, write the table beside this file, and exit with 1 where a figure is missed."""
    cv2.setNumThreads(1)
    write_table(
        "Own phantoms",
        _rows(),
        f"{_FRAMES} simulated 8-bit frames each of {_HEIGHT_PX} rows, with random distortions, rotations all around, "
        "shifts of up to 3 mm, dark beads or bright holes, grey noise 6 or 12, and up to 3 % of the spots missing",
        Path(__file__).with_name("RESULTS_PHANTOMS.md"),
    )


if __name__ == "__main__":
    main()
