"""Results of a fit with their uncertainty: as numbers by name, and as text."""

from typing import Any

from scipy.spatial.transform import Rotation

from veriserum_hf.calibration.bead_grid import GridFit
from veriserum_hf.calibration.distortion_forms import FormFit
from veriserum_hf.calibration.distortion_map import RAW_HEIGHT_PX, RAW_WIDTH_PX
from veriserum_hf.calibration.source import RigFit, SourceFit
from veriserum_hf.core import PLANES, FloatArray
from veriserum_hf.geometry import NOMINAL_T_WORLD_FS

Numbers = dict[str, Any]
_CENTER_PX = ((RAW_WIDTH_PX - 1) / 2, (RAW_HEIGHT_PX - 1) / 2)


def grid_numbers(fit: GridFit) -> Numbers:
    """Distortion as the stored text, beads, residual, and standard deviations of the mm that pixels are mapped to.

    ``mapped_std_mm_center`` holds at the centre of the raw frame, ``mapped_std_mm_max`` at the worst of the beads.
    ``forms`` compares the stored form with polynomials of every total degree; ``chosen`` is the one to be used, with
    its text.
    """
    return {
        "distortion": fit.distortion.to_string(),
        "phantom": fit.phantom.name,
        "origin": fit.phantom.origin,
        "beads_found": fit.beads_found,
        "beads_expected": fit.beads_expected,
        "outliers": fit.outliers,
        "residual_mm_rms": fit.residual_mm_rms,
        "cv_mm_rms": fit.cv_mm_rms,
        "degree5_residual_mm_rms": fit.degree5_residual_mm_rms,
        "degree5_cv_mm_rms": fit.degree5_cv_mm_rms,
        "recommendation": fit.recommendation,
        "forms": [_form_numbers(form) for form in fit.forms],
        "chosen": _form_numbers(fit.chosen) | {"distortion": fit.chosen.distortion.to_string()},
        "mapped_std_mm_center": float(fit.mapped_std_mm([_CENTER_PX])[0]),
        "mapped_std_mm_max": float(fit.mapped_std_mm(fit.beads_px).max()),
        "rotation_deg": fit.rotation_deg,
        "upright": fit.upright,
    }


def grid_lines(fit: GridFit) -> list[str]:
    """Return the same as text."""
    numbers = grid_numbers(fit)
    use = "the stored form is sufficient"
    if fit.recommendation != "stored":
        use = "degree 5 predicts significantly better, but the stored text cannot hold it"
    stored, *polynomials = fit.forms
    compared = [stored, *([fit.chosen] if fit.chosen is not stored else polynomials[-1:])]
    mounted = "upright"
    if not fit.upright:
        mounted = "NOT upright: mounted rotated or back to front, or the frame is stored rotated or mirrored"
    counted = "" if fit.phantom.bounded else ", mm are counted from the place nearest to the centre of the image"
    return [
        f"beads        {fit.beads_found} fitted of {fit.beads_expected} in the field, {fit.outliers} outliers",
        f"residual     {fit.residual_mm_rms:.4f} mm RMS",
        f"prediction   {fit.cv_mm_rms:.4f} mm RMS for a held-out bead by the stored form, "
        f"{fit.degree5_cv_mm_rms:.4f} mm by degree 5: {use}",
        *(_form_line(form) + ("; chosen" if form is fit.chosen else "") for form in compared),
        f"map          known to {numbers['mapped_std_mm_center']:.4f} mm at the centre, "
        f"{numbers['mapped_std_mm_max']:.4f} mm at the rim of the beads (one standard deviation)",
        f"phantom      rotated by {fit.rotation_deg:.2f} degrees, {mounted}{counted}",
        f"distortion   {numbers['distortion']}",
    ]


def _form_numbers(form: FormFit) -> Numbers:
    """How closely a form fits; ``cv_mm_rms`` is for beads of blocks that it was not fitted to."""
    return {
        "form": form.form,
        "residual_mm_rms": form.residual_mm_rms,
        "residual_mm_max": form.residual_mm_max,
        "cv_mm_rms": form.cv_mm_rms,
    }


def _form_line(form: FormFit) -> str:
    return (
        f"{form.form:11}  misses beads by {form.residual_mm_rms:.4f} mm RMS, {form.residual_mm_max:.3f} mm at most, "
        f"beads of a held-out region by {form.cv_mm_rms:.4f} mm RMS"
    )


def source_numbers(fit: SourceFit | RigFit) -> Numbers:
    """Principal points and SIDs by plane, with standard deviations in mm; of a rig also the ``fs`` pose in the world.

    Shift and rotation of the ``fs`` intensifier are those from its nominal pose, along and about the world's axes.
    """
    numbers: Numbers = {
        "frames": fit.frames,
        "markers_used": fit.markers_used,
        "markers_seen": fit.markers_seen,
        "residual_mm_rms": fit.residual_mm_rms,
    }
    std = fit.standard_deviations
    if isinstance(fit, SourceFit):
        return {
            "principal_point_mm": fit.principal_point_mm.tolist(),
            "principal_point_std_mm": std[:2].tolist(),
            "sid_mm": fit.sid_mm,
            "sid_std_mm": float(std[2]),
        } | numbers
    for number, plane in enumerate(PLANES):
        numbers[plane] = {
            "principal_point_mm": fit.rig[plane].principal_point_mm.tolist(),
            "principal_point_std_mm": std[3 * number : 3 * number + 2].tolist(),
            "sid_mm": fit.rig[plane].sid_mm,
            "sid_std_mm": float(std[3 * number + 2]),
        }
    translation_mm, rotation_deg = translation_and_rotation(fit.T_world_fs, NOMINAL_T_WORLD_FS)
    return numbers | {
        "T_world_fs": fit.T_world_fs.tolist(),
        "fs_center_mm": fit.T_world_fs[:3, 3].tolist(),
        "fs_shift_mm": translation_mm.tolist(),
        "fs_shift_std_mm": std[6:9].tolist(),
        "fs_turn_deg": rotation_deg.tolist(),
        "fs_turn_std_deg": std[9:12].tolist(),
    }


def source_lines(fit: SourceFit | RigFit) -> list[str]:
    """Return the same as text; +- is one standard deviation."""
    numbers = source_numbers(fit)
    by_plane = {"": numbers} if isinstance(fit, SourceFit) else {f"{plane} ": numbers[plane] for plane in PLANES}
    lines = []
    for plane, source in by_plane.items():
        values = [*source["principal_point_mm"], source["sid_mm"]]
        std = [*source["principal_point_std_mm"], source["sid_std_mm"]]
        lines += [
            f"{plane}principal point   {_known(values[:2], std[:2], ('h', 'v'))} mm",
            f"{plane}source distance   {_known(values[2:], std[2:], ('SID',))} mm",
        ]
    if isinstance(fit, RigFit):
        nominal = ", ".join(f"{value:g}" for value in NOMINAL_T_WORLD_FS[:3, 3])
        axes = ("x", "y", "z")
        lines += [
            f"fs centre            {_known(numbers['fs_center_mm'], numbers['fs_shift_std_mm'], axes)} mm "
            f"(nominal {nominal})",
            f"fs rotation          {_known(numbers['fs_turn_deg'], numbers['fs_turn_std_deg'], axes)} degrees "
            "about the world's axes, from nominal",
        ]
    frames = "1 frame" if fit.frames == 1 else f"{fit.frames} frames"
    return lines + [
        f"from {frames}, {fit.markers_used} of {fit.markers_seen} markers used, residual "
        f"{fit.residual_mm_rms:.4f} mm RMS along each axis; +- is one standard deviation"
    ]


def translation_and_rotation(T_world_fs: FloatArray, from_T: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Translation (3,) mm and rotation vector (3,) deg, along and about the world's axes, between poses (4, 4)."""
    rotation = Rotation.from_matrix(T_world_fs[:3, :3] @ from_T[:3, :3].T)
    return (T_world_fs - from_T)[:3, 3], rotation.as_rotvec(degrees=True)


def _known(values: list[float], std: list[float], names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {v:.3f} +- {s:.3f}" for name, v, s in zip(names, values, std, strict=True))
