"""Forms of a distortion on fields like real ones: ``python -m tests.benchmarks.bench_distortion_forms``.

Frames of two phantoms are drawn through known fields and fitted: the lab's grid with the whole chain from spots to
the chosen form, and a round grid (7 mm pitch, within 178 mm) with every spot found by the detector and indexed by its
true place. Four fields are fits to a real intensifier, where the folder with them is there; the others are drawn.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LSQBivariateSpline
from scipy.spatial import Delaunay, KDTree

from tests.benchmarks.table import Row, cpu_s, write_table
from tests.fixtures.calibrations import IMAGING, draw_grid_frame, drawn_distortion
from veriserum_hf.calibration import Distortion, DistortionMap, PolynomialDistortion, fit_bead_grid, powers_of
from veriserum_hf.calibration.beads import find_beads
from veriserum_hf.calibration.distortion_forms import FormFit, best_form, fit_forms
from veriserum_hf.core import Table
from veriserum_hf.simulation.real_distortions import real_distortion, stored_form

FloatArray = NDArray[np.float64]

_OWN = 12
_REAL = Path(__file__).parents[3] / "shared" / "real" / "distortion_of_a_real_intensifier.json"
_LIMIT_MM = 0.02
_ROUND_MM = 178.0
_SHOWN = ("stored", "degree 5", "degree 7", "degree 9")


@dataclass(frozen=True)
class Field:
    """A distortion that frames are drawn through, and the lit circle of its intensifier."""

    name: str
    truth: PolynomialDistortion
    base: Distortion
    center_px: tuple[float, float] | None = None
    radius_px: float | None = None

    def frame(self, seed: int, beads_mm: FloatArray | None = None) -> NDArray[np.uint8]:
        """Raw frame of beads at noise 6."""
        imaging = IMAGING[6]
        if self.center_px and self.radius_px:
            x, y = self.center_px
            imaging = replace(imaging, field_center_x_px=x, field_center_y_px=y, field_radius_px=self.radius_px)
        return draw_grid_frame(self.truth, imaging, beads_mm=beads_mm, seed=seed)


def fields() -> Iterator[Field]:
    """Real fields where they are there, then drawn ones."""
    if _REAL.exists():
        for fitted in json.loads(_REAL.read_text())["frames"]:
            center_px = (float(fitted["centre_px"][0]), float(fitted["centre_px"][1]))
            truth = _of_file(fitted)
            yield Field(f"real, frame {fitted['frame']}", truth, drawn_distortion(0), center_px, fitted["radius_px"])
    for seed in range(_OWN):
        base = drawn_distortion(seed)
        yield Field(f"drawn, seed {seed}", real_distortion(base, np.random.default_rng(seed)), base)


def _of_file(fitted: dict[str, list[list[float]]]) -> PolynomialDistortion:
    """The same polynomials of degree 9 about the frame's centre: exact within the lit field."""
    along = np.linspace(-1, 1, 40)
    unit = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    center_px, radius_px = (831.5, 799.5), 900.0
    a, b = np.transpose(fitted["powers"])
    u, v = ((center_px + radius_px * unit * (1, -1) - (832, 800)) / 800).T
    mm = (u[:, None] ** a * v[:, None] ** b) @ np.transpose(fitted["px_to_mm"])
    i, j = np.transpose(powers_of(9))
    coefficients = np.linalg.lstsq(unit[:, :1] ** i * unit[:, 1:] ** j, mm, rcond=None)[0]
    x_mm, y_mm = (tuple(of_axis.tolist()) for of_axis in coefficients.T)
    return PolynomialDistortion(9, center_px, radius_px, x_mm, y_mm)


@dataclass(frozen=True)
class Graded:
    """The forms fitted to one frame, with their errors within the beads' hull."""

    field: str
    phantom: str
    beads: int
    forms: dict[str, tuple[float, float, float, float]]  # residual RMS and max, map error RMS and max; mm
    chosen: str
    spline: tuple[float, float]


def graded(field: Field, seed: int) -> Iterator[Graded]:
    """Both phantoms through one field."""
    fit = fit_bead_grid(field.frame(seed))
    true_mm = 7.0 * (fit.beads_index - 22.0)
    yield _graded(field, "grid", fit.beads_px, true_mm, fit.forms, fit.chosen)
    index = np.arange(-26, 27) * 7.0
    beads_mm = np.stack(np.meshgrid(index, index), axis=-1).reshape(-1, 2)
    beads_mm = beads_mm[np.hypot(*beads_mm.T) <= _ROUND_MM]
    found = find_beads(field.frame(seed, beads_mm))
    far_px, nearest = KDTree(field.truth.to_px(beads_mm)[(seen := _seen(field, beads_mm))]).query(found.center_px)
    kept = far_px < 5
    xy_px, true_mm = found.center_px[kept], beads_mm[seen][nearest[kept]]
    std_mm = np.full(len(xy_px), 0.011)
    stored = stored_form(_nearest(xy_px, true_mm), field.base)
    forms = fit_forms(xy_px, true_mm, std_mm, _stored(xy_px, true_mm, stored))
    yield _graded(field, "round grid", xy_px, true_mm, forms, best_form(forms, true_mm, std_mm))


def _seen(field: Field, beads_mm: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(field.truth.to_px(beads_mm)).all(axis=1))


def _nearest(xy_px: FloatArray, true_mm: FloatArray) -> DistortionMap:
    return fit_forms(xy_px, true_mm, np.ones(len(xy_px)), drawn_distortion(0))[-1].distortion


def _stored(xy_px: FloatArray, true_mm: FloatArray, like: Distortion) -> Distortion:
    """The stored form fitted to beads, with the axes of a similar one."""
    uv = like.scale * (xy_px * (1, -1)) @ np.reshape(like.rotation, (2, 2)).T + like.translation
    powers = [(i, j) for i in range(4) for j in range(4)]
    unit = np.array([180.0 ** -(i + j) for i, j in powers])
    terms = np.stack([uv[:, 0] ** i * uv[:, 1] ** j for i, j in powers], axis=1) * unit
    x, y = (np.linalg.lstsq(terms, true_mm, rcond=None)[0] * unit[:, None]).T
    return replace(like, x_coefficients=tuple(x.tolist()), y_coefficients=tuple(y.tolist()))


def _graded(
    field: Field,
    phantom: str,
    xy_px: FloatArray,
    true_mm: FloatArray,
    forms: tuple[FormFit, ...],
    chosen: FormFit,
) -> Graded:
    x, y = np.meshgrid(np.arange(0, 1664, 8.0), np.arange(0, 1600, 8.0))
    at_px = np.stack([x.ravel(), y.ravel()], axis=1)
    at_px = at_px[Delaunay(xy_px).find_simplex(at_px) >= 0]
    at_mm = field.truth.to_mm(at_px)

    def errors(mm: FloatArray) -> tuple[float, float]:
        off_mm = np.hypot(*(mm - at_mm).T)
        return float(np.sqrt((off_mm**2).mean())), float(off_mm.max())

    of_form = {
        form.form: (form.residual_mm_rms, form.residual_mm_max, *errors(form.distortion.to_mm(at_px)))
        for form in forms
    }
    knots = [np.linspace(axis.min(), axis.max(), 8)[1:-1] for axis in xy_px.T]
    splines = [LSQBivariateSpline(*xy_px.T, of_axis, *knots) for of_axis in true_mm.T]
    spline = errors(np.stack([each.ev(*at_px.T) for each in splines], axis=1))
    return Graded(field.name, phantom, len(xy_px), of_form, chosen.form, spline)


def _rows(all_graded: list[Graded]) -> Iterator[Row]:
    for phantom in ("grid", "round grid"):
        for kind in ("real", "drawn"):
            some = [grade for grade in all_graded if grade.phantom == phantom and grade.field.startswith(kind)]
            if not some:
                yield Row(f"{kind} fields, {phantom}: map error in the beads' hull, RMS", "no such folder", "", None)
                continue
            errors = [grade.forms[grade.chosen][2] for grade in some]
            stored = [grade.forms["stored"][2] for grade in some]
            measured = (
                f"{np.median(errors):.4f} mm, {max(errors):.4f} at most; stored form {np.median(stored):.3f} mm, "
                f"{max(stored):.3f} at most"
            )
            what = f"{len(some)} {kind} fields, {phantom}: map error of the chosen form in the beads' hull, RMS"
            yield Row(what, measured, f"at most {_LIMIT_MM:g} mm", max(errors) <= _LIMIT_MM)


def _timing() -> Iterator[Row]:
    field = next(field for field in fields() if field.name.startswith("drawn"))
    frame = field.frame(0)
    fit = fit_bead_grid(frame)
    stored, closer = fit.distortion, fit.forms[-1].distortion
    once = [cpu_s(lambda d=d: d.correct(frame)) for d in (stored, closer)]
    again = [cpu_s(lambda d=d: d.correct(frame), 50) for d in (stored, closer)]
    measured = f"stored {1e3 * again[0]:.2f} ms, degree 9 {1e3 * again[1]:.2f} ms: {again[1] / again[0]:.2f} times"
    yield Row(
        "correct(), 512 px, a frame of a known calibration", measured, "at most 1.2 times", again[1] < 1.2 * again[0]
    )
    measured = f"stored {once[0]:.3f} s, degree 9 {once[1]:.3f} s: {once[1] / once[0]:.1f} times"
    yield Row("correct(), 512 px, the first frame of a calibration", measured, "at most 1 s", once[1] <= 1)
    seconds = cpu_s(lambda: fit_bead_grid(frame), 3)
    yield Row("fit of a frame, all forms compared", f"{seconds:.2f} CPU-s", "at most 1 CPU-s", seconds <= 1)


def _errors(of_form: tuple[float, float, float, float]) -> str:
    residual, residual_max, error, error_max = of_form
    return f"{residual:.3f} ({residual_max:.2f}); {error:.4f} ({error_max:.2f})"


def main() -> None:
    """Measure, print, and write the table."""
    cv2.setNumThreads(1)
    all_graded = [grade for seed, field in enumerate(fields()) for grade in graded(field, seed)]
    header = ["field", "phantom", "beads", *(f"{form}: residual; map" for form in _SHOWN), "spline: map", "chosen"]
    lines = [
        [
            grade.field,
            grade.phantom,
            str(grade.beads),
            *(_errors(grade.forms[form]) if form in grade.forms else "folds" for form in _SHOWN),
            f"{grade.spline[0]:.4f} ({grade.spline[1]:.2f})",
            f"{grade.chosen}: {grade.forms[grade.chosen][2]:.4f}",
        ]
        for grade in all_graded
    ]
    before = (
        Table(header, lines, alignment="l").markdown()
        + "\n\n"
        + (
            "Distances in mm, RMS (largest). Residual: of the beads; map: error within the beads' hull. Spline: "
            "bicubic with 6 x 6 inner knots, for comparison."
        )
    )
    rows = [*_rows(all_graded), *_timing()]
    sentence = "frames of 1664 x 1600 px at noise 6; real fields are polynomials of degree 9 fitted to whole pixels"
    path = Path(__file__).with_name("RESULTS_DISTORTION_FORMS.md")
    write_table("Forms of a distortion", rows, sentence, path, before=before)


if __name__ == "__main__":
    main()
