"""Own phantoms, indexed in simulated frames: ``python -m tests.benchmarks.bench_phantoms``."""

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks.table import Row, write_table
from tests.fixtures.own_phantoms import OwnGrid
from veriserum_hf.calibration.bead_grid import fit_bead_grid
from veriserum_hf.calibration.phantom_files import load_grid_phantom
from veriserum_hf.errors import CalibrationError

_FRAMES, _HEIGHT_PX = 50, 800
_PHANTOMS = {"round_grid": "Round grid, 2,028 places", "perforated_plate": "Perforated plate, staggered holes"}


def _rows() -> Iterator[Row]:
    for name, what in _PHANTOMS.items():
        phantom, refused, wrong, shares, times = load_grid_phantom(name), 0, 0, list[float](), list[float]()
        for seed in range(_FRAMES):
            grid = OwnGrid.drawn(phantom, seed)
            frame = grid.frame(_HEIGHT_PX)
            started = time.process_time()
            try:
                fit = fit_bead_grid(frame, grid.phantom)
            except CalibrationError as error:
                print(seed, grid.degrees, error, flush=True)
                refused += 1
                continue
            times.append(time.process_time() - started)
            bad, share = grid.graded(fit)
            wrong += bad > 0
            shares.append(share)
        yield Row(f"{what}: frames with a wrong index", f"{wrong} of {_FRAMES}", "0", wrong == 0)
        yield Row(f"{what}: frames refused", f"{refused} of {_FRAMES}", "0", refused == 0)
        worst, mean = min(shares), float(np.mean(shares))
        found = f"{mean:.2%} (least {worst:.2%})"
        yield Row(f"{what}: spots wholly in the field, fitted", found, "at least 99 %", mean >= 0.99)
        yield Row(f"{what}: a fit", f"{np.median(times):.2f} CPU-s", "for comparison", True)


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
