"""Whole archives in another convention: unit, order of quaternions, orientation of frames, planes."""

import cv2

from tests.fuzz.cases import CALIBRATION, FRAMES, HARMLESS, NOTICED, OPEN, SAFE, Case, Group, added_to
from tests.fuzz.commands import check_archive

conventions = Group("conventions", "jpeg", check_archive, times=7)
conventions16 = Group("conventions-16", "tiff16", check_archive, times=4)
in_both = added_to(conventions, conventions16)


@in_both(NOTICED)
def other_unit(case: Case) -> str:
    """Every translation in metres, centimetres or inches."""
    factor = case.one((0.001, 0.1, 1 / 25.4, 1000.0))
    case.sql(f"UPDATE poses SET tx = tx * {factor}, ty = ty * {factor}, tz = tz * {factor}")
    case.touch_all()
    return f"times {factor:g}"


@in_both(SAFE)
def scalar_first(case: Case) -> str:
    """Every quaternion is stored as (w, x, y, z)."""
    case.sql("UPDATE poses SET r0 = r3, r1 = r0, r2 = r1, r3 = r2")
    case.touch_all()
    return ""


@in_both(NOTICED)
def inverse_rotation(case: Case) -> str:
    """Every rotation is the inverse one."""
    case.sql("UPDATE poses SET r0 = -r0, r1 = -r1, r2 = -r2")
    case.touch_all()
    return ""


@in_both(NOTICED)
def frames_flipped(case: Case) -> str:
    """Every frame is upside down, mirrored or both."""
    how = case.one((0, 1, -1))
    planes = case.one((("bs", "fs"), ("bs",), ("fs",)))
    for path in sorted((case.data / FRAMES).iterdir()):
        if path.name[:2] in planes:
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(path), cv2.flip(image, how), [cv2.IMWRITE_JPEG_QUALITY, 98])
    case.touch_all()
    return f"{how} in {planes}"


@in_both(NOTICED)
def planes_swapped(case: Case) -> str:
    """The frames of both planes are swapped throughout."""
    for path in sorted((case.data / FRAMES).glob("bs_*")):
        other, kept = path.with_name("fs" + path.name[2:]), path.read_bytes()
        path.write_bytes(other.read_bytes())
        other.write_bytes(kept)
    case.touch_all()
    return ""


@in_both(NOTICED)
def axes_swapped(case: Case) -> str:
    """x and y of every translation are swapped, or one is negated."""
    change = case.one(("tx = ty, ty = tx", "tx = -tx", "ty = -ty", "tz = -tz"))
    case.sql(f"UPDATE poses SET {change}")
    case.touch_all()
    return change


@in_both(NOTICED)
def inverted(case: Case) -> str:
    """Every frame is inverted."""
    for path in sorted((case.data / FRAMES).iterdir()):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), image.max() - image, [cv2.IMWRITE_JPEG_QUALITY, 98])
    case.touch_all()
    return ""


@in_both(NOTICED)
def components_swapped(case: Case) -> str:
    """Femur and tibia swapped throughout."""
    category = "CASE WHEN category LIKE 'femur%' THEN 'tibia_implant' ELSE 'femur_implant' END"
    case.sql(f"UPDATE anatomies SET category = {category}")
    case.touch_all()
    return ""


@in_both(NOTICED)
def calibrations_of_the_other_plane(case: Case) -> str:
    """The columns of both planes are swapped in a table of calibrations."""
    if case.random.random() < 0.5:
        case.sql(
            "UPDATE source_int_calibration SET principalp_h_bs = principalp_h_fs, principalp_h_fs = principalp_h_bs, "
            "principalp_v_bs = principalp_v_fs, principalp_v_fs = principalp_v_bs"
        )
    else:
        case.sql(
            "UPDATE distortion_calibration SET distortion_result_bs = distortion_result_fs, "
            "distortion_result_fs = distortion_result_bs"
        )
    case.touch_all()
    return ""


@in_both(SAFE)
def origin_at_the_source(case: Case) -> str:
    """Translations whose origin is the bs source: read as such, or refused."""
    case.sql(
        "UPDATE poses SET tz = tz - (SELECT sid_bs FROM source_int_calibration s WHERE s.id = "
        "source_int_calibration_id), tx = tx - (SELECT principalp_h_bs FROM source_int_calibration s WHERE s.id = "
        "source_int_calibration_id), ty = ty - (SELECT principalp_v_bs FROM source_int_calibration s WHERE s.id = "
        "source_int_calibration_id)"
    )
    case.touch_all()
    return ""


@in_both(NOTICED)
def one_pose_shifted(case: Case) -> str:
    """The poses of every frame are those of the next one."""
    case.sql("UPDATE poses SET measurement_id = 1 + measurement_id % (SELECT max(id) FROM measurements)")
    case.touch_all()
    return ""


@in_both(OPEN)
def radians_and_degrees(case: Case) -> str:
    """The table has Euler angles in place of quaternions, in radians."""
    with case.database() as connection:
        for name, old in (("rz", "r0"), ("rx", "r1"), ("ry", "r2")):
            connection.execute(f"ALTER TABLE poses RENAME COLUMN {old} TO {name}")
        connection.execute("ALTER TABLE poses DROP COLUMN r3")
    case.touch_all()
    return ""


@in_both(NOTICED)
def inter_plane_pose_wrong(case: Case) -> str:
    """A table says that the fs intensifier is where the bs one is, or 100 m away."""
    with case.database() as connection:
        matrix = case.one(((0, 0, 0), (100_000, 0, 0), (1e300, 0, 0)))
        connection.execute(
            "CREATE TABLE inter_plane_calibration (id INTEGER PRIMARY KEY, source_int_calibration_id INTEGER, "
            "tx REAL, ty REAL, tz REAL, r0 REAL, r1 REAL, r2 REAL, r3 REAL)"
        )
        for (id,) in connection.execute("SELECT id FROM source_int_calibration").fetchall():
            connection.execute(
                "INSERT INTO inter_plane_calibration VALUES (?, ?, ?, ?, ?, 0, 0, 0, 1)", (id, id, *matrix)
            )
    case.touch_all()
    return f"{matrix}"


@in_both(HARMLESS)
def nothing_changed(case: Case) -> str:
    """The archive as it was, in another folder and of another day."""
    import os

    for path in case.data.rglob("*"):
        os.utime(path, (1_500_000_000 + case.random.randrange(10**8),) * 2)
    return ""


@in_both(HARMLESS)
def no_phantoms(case: Case) -> str:
    """An archive without frames of the phantoms."""
    import shutil

    shutil.rmtree(case.data / CALIBRATION)
    return ""
