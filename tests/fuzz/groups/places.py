"""Names, folders, links and special files in the place of an archive's files."""

import os
from pathlib import Path

from tests.fuzz.cases import ANATOMIES, CALIBRATION, DATABASE, FRAMES, HARMLESS, NOTICED, OPEN, SAFE, Case, Group
from tests.fuzz.commands import check_archive

places = Group("places", "jpeg", check_archive, times=6)


def any_file(case: Case) -> Path:
    """A frame, an implant, a frame of a phantom, or the database."""
    kind = case.one(("frame", "mesh", "phantom", "database"))
    if kind == "frame":
        return case.frame()
    if kind == "mesh":
        return case.mesh()
    if kind == "phantom":
        path: Path = case.one(sorted((case.data / CALIBRATION).iterdir()))
        return path
    case.touch_all()
    return case.data / DATABASE


@places(NOTICED)
def pipe(case: Case) -> str:
    """A named pipe in the place of a file: reading it waits for ever."""
    path = any_file(case)
    path.unlink()
    os.mkfifo(path)
    return path.name


@places(NOTICED)
def link_to_a_device(case: Case) -> str:
    """A link to a device that never ends, or is empty."""
    path = any_file(case)
    path.unlink()
    device = case.one(("/dev/zero", "/dev/null", "/dev/full", "/dev/urandom"))
    path.symlink_to(device)
    return f"{path.name} to {device}"


@places(NOTICED)
def link_out(case: Case) -> str:
    """A link to a file outside of the archive."""
    path = any_file(case)
    outside = case.folder / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    return path.name


@places(NOTICED)
def link_to_nothing(case: Case) -> str:
    """A link to nothing, or to itself."""
    path = any_file(case)
    path.unlink()
    path.symlink_to(case.one(("nowhere", path.name, "/nonexistent/file")))
    return path.name


@places(NOTICED)
def huge_file(case: Case) -> str:
    """A sparse file of 20 GB, or a good file with 3 GB of nothing behind it."""
    path = any_file(case)
    if case.random.random() < 0.5:
        path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(case.one((3_000_000_000, 20_000_000_000)))
    return path.name


@places(NOTICED)
def folder_in_place(case: Case) -> str:
    """A folder in the place of a file."""
    path = any_file(case)
    path.unlink()
    path.mkdir()
    return path.name


@places(NOTICED)
def file_missing(case: Case) -> str:
    """A frame, an implant or the database is missing."""
    kind = case.one(("frame", "mesh", "database"))
    path = {"frame": case.frame, "mesh": case.mesh}.get(kind, lambda: case.data / DATABASE)()
    path.unlink()
    if kind != "frame":
        case.touch_all()
    return path.name


@places(NOTICED)
def file_empty(case: Case) -> str:
    """A file is empty."""
    kind = case.one(("frame", "mesh", "database"))
    path = {"frame": case.frame, "mesh": case.mesh}.get(kind, lambda: case.data / DATABASE)()
    path.write_bytes(b"")
    if kind == "database":
        case.touch_all()
    return path.name


@places(NOTICED)
def file_twice(case: Case) -> str:
    """A frame or an implant is there twice, in two folders or with two endings."""
    path = case.frame() if case.random.random() < 0.5 else case.mesh()
    other = path.parent / "more" / path.name if case.random.random() < 0.5 else path.with_suffix(path.suffix.upper())
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(path.read_bytes())
    case.touch_all()
    return other.name


@places(NOTICED)
def number_of_nothing(case: Case) -> str:
    """A frame's number is not that of a measurement."""
    path = case.frame()
    path.rename(path.with_name(f"{path.name[:3]}{case.one((0, 900, 999999, 10**17)):06d}{path.suffix}"))
    return path.name


@places(NOTICED)
def planes_swapped(case: Case) -> str:
    """The frames of both planes are swapped in one measurement."""
    path = case.frame()
    other = path.with_name({"bs": "fs", "fs": "bs"}[path.name[:2]] + path.name[2:])
    kept = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    return path.name


@places(NOTICED)
def numbers_shifted(case: Case) -> str:
    """Every frame has the number of the next one."""
    case.touch_all()
    frames = sorted((case.data / FRAMES).iterdir(), reverse=True)
    for path in frames:
        number = int(path.stem.split("_")[1]) + 1
        path.rename(path.with_name(f"{path.name[:3]}{number:06d}{path.suffix}"))
    return ""


@places(HARMLESS)
def other_endings(case: Case) -> str:
    """A frame ends on .JPEG, .jpeg or .JPG."""
    path = case.frame()
    ending = case.one((".JPEG", ".jpeg", ".JPG"))
    path.rename(path.with_suffix(ending))
    return ending


@places(HARMLESS)
def other_digits(case: Case) -> str:
    """A frame's number has fewer or more digits."""
    path = case.frame()
    number = int(path.stem.split("_")[1])
    path.rename(path.with_name(f"{path.name[:3]}{number:0{case.one((1, 3, 9))}d}{path.suffix}"))
    return ""


@places(SAFE)
def wrong_ending(case: Case) -> str:
    """A JPEG whose name ends on .png or .tif."""
    path = case.frame()
    path.rename(path.with_suffix(case.one((".png", ".tif"))))
    return path.name


@places(HARMLESS)
def strange_neighbours(case: Case) -> str:
    """Files and folders with strange names lie around: hidden, long, not UTF-8, with line ends and markup."""
    for name in (
        b"\xff\xfe.txt",
        b"a\nb",
        b"[red]x",
        b"x" * 250,
        b".hidden",
        b"bs_1.txt",
        b"-rf",
        b"bs_\xff.jpg",
    ):
        Path(os.fsdecode(os.fsencode(case.data / FRAMES) + b"/" + name)).write_bytes(b"x")
    (case.data / "folder.db.d").mkdir()
    (case.data / "empty").mkdir()
    return ""


@places(HARMLESS)
def deep_folders(case: Case) -> str:
    """A frame lies in a folder of its own, whose name is strange."""
    path = case.frame()
    name = case.one(("trial 1", "[x]", "ü", "\udcff", "a" * 200, "x\ny"))
    folder = Path(os.fsdecode(os.fsencode(path.parent) + b"/" + os.fsencode(name)))
    folder.mkdir()
    path.rename(folder / path.name)
    return repr(name)


@places(OPEN)
def link_in_a_circle(case: Case) -> str:
    """A folder holds a link to the folder above, or to the root of the file system's devices."""
    (case.data / FRAMES / "up").symlink_to(case.one(("..", ".", "/proc/self", "/dev")))
    case.touch_all()
    return ""


@places(OPEN)
def many_files(case: Case) -> str:
    """20,000 files that are no frames, or frames of nothing."""
    name = case.one(("note_{}.txt", "bs_{}.jpg"))
    for number in range(20_000):
        (case.data / FRAMES / name.format(number + 10_000)).touch()
    return name


@places(NOTICED)
def no_meshes(case: Case) -> str:
    """The folder of the implants is missing, or a file."""
    import shutil

    folder = case.data / ANATOMIES
    shutil.rmtree(folder)
    if case.random.random() < 0.5:
        folder.write_bytes(b"")
    case.touch_all()
    return ""


@places(OPEN)
def linked_folder(case: Case) -> str:
    """The folder of the frames is a link that leads out of the archive."""
    folder = case.data / FRAMES
    outside = case.folder / "elsewhere"
    folder.rename(outside)
    folder.symlink_to(outside)
    case.touch_all()
    return ""
