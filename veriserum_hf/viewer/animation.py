"""Animation of a trial: GIF by Pillow, MP4 (H.264) by ffmpeg."""

import io
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, cast

import cv2
import numpy as np
import trimesh
from PIL import Image

from veriserum_hf.core import PLANES, ByteImage, FileRow, FrameRow, PlaneName, one_line
from veriserum_hf.dataset import with_images
from veriserum_hf.errors import VeriserumError
from veriserum_hf.jobs import atomic_path, write_file, writing
from veriserum_hf.viewer.captions import DARK, frame_name, legend, wrapped, write
from veriserum_hf.viewer.crops import Crop, Scale, choose_crops
from veriserum_hf.viewer.outlines import COLORS, PoseSet, Traced, draw_traces, trace_planes
from veriserum_hf.viewer.views import grey_of

FRAMES_PER_SECOND = 15  # half the rate of the fluoroscope: slow enough to follow the outlines
PLANE_PX = 480
_LETTERS = 0.45  # of the legend
_CRF = 18  # of H.264: the lower, the larger; thin lines stay sharp
_GREYS = 40  # steps: more of them encode noise
_BLENDS = (0.35, 0.7, 1.0)  # of a line's color with its background
_BACKGROUNDS = (16, 96, 160, 224)


def draw_trial(
    rows: Sequence[FileRow],
    sets: Sequence[Sequence[PoseSet]],
    meshes: Mapping[int, trimesh.Trimesh],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[ByteImage]:
    """Draw frames with outlines in their planes, all with the same crop: BGR, uint8, of one even size.

    Parameters
    ----------
    rows : of `veriserum_hf.dataset.rows_found`.
    sets : poses of each row, of the same kinds in the same order.
    meshes : of the implants by anatomy id, mm.
    progress : called with the number of frames traced and of all.

    Raises
    ------
    VeriserumError
        If an image cannot be decoded, an implant has no mesh or cannot be drawn, a camera contradicts itself or its
        image, or there are more kinds of pose than colours.

    """
    frames: list[dict[PlaneName, Traced]] = []
    for row, of_row in zip(rows, sets, strict=True):
        frames.append(trace_planes(row, of_row, meshes))
        if progress:
            progress(len(frames), len(rows))
    planes = {plane: seen for plane in PLANES if (seen := [frame[plane] for frame in frames if plane in frame])}
    scale = Scale.of(planes)
    crops = choose_crops(planes, PLANE_PX, scale)
    width = len(crops) * PLANE_PX
    about = wrapped(scale.stated(crops), width, _LETTERS)
    for frame, of_row, traced in zip(with_images(rows), sets, frames, strict=True):
        images = [_draw_plane(frame, plane, traced.get(plane), crop) for plane, crop in crops.items()]
        image = np.vstack([np.hstack(images), legend([frame_name(frame), *about], of_row, width, _LETTERS)])
        yield image[: len(image) // 2 * 2]  # an MP4 frame has even sizes


def _draw_plane(frame: FrameRow, plane: PlaneName, traced: Traced | None, crop: Crop) -> ByteImage:
    """One plane of a frame; dark where this frame does not have it."""
    if traced is None:
        image = np.full((PLANE_PX, PLANE_PX, 3), DARK, np.uint8)
    else:
        image = crop.cut(grey_of(frame, plane))
        draw_traces(image, traced.traces, crop.scale, crop.shift_px)
    write(image, plane if traced else f"{plane}: no image", (8, 20), 0.5)
    return image


def write_animation(images: Iterator[ByteImage], output: Path) -> None:
    """Write images of one size as a GIF or MP4, by the file's ending, at `FRAMES_PER_SECOND`.

    Raises
    ------
    VeriserumError
        If the name has another ending, there is no ffmpeg for an MP4, or the file cannot be written.

    """
    check_output(output)
    with writing(output):
        if output.suffix.lower() == ".gif":
            write_file(output, _gif(images))
        else:
            _write_mp4(images, output)


def check_output(output: Path) -> None:
    """Raise VeriserumError unless a file is a GIF or MP4 by its name, its folder exists, and MP4 can be written."""
    if output.suffix.lower() not in (".gif", ".mp4"):
        raise VeriserumError(f"cannot write a trial to {output}; expected a name that ends in .gif or .mp4")
    if not output.absolute().parent.is_dir():
        raise VeriserumError(f"cannot write {output}: there is no folder {output.parent}")
    if output.suffix.lower() == ".mp4":
        _ffmpeg()


def _gif(images: Iterator[ByteImage]) -> bytes:
    # One palette for all frames, without dither: no flicker, and uniform areas compress well.
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette())
    frames = [
        Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).quantize(palette=palette, dither=Image.Dither.NONE)
        for image in images
    ]
    # A GIF counts hundredths of a second.
    ends = np.rint(100 / FRAMES_PER_SECOND * np.arange(len(frames) + 1)).astype(int)
    durations_ms = (10 * np.diff(ends)).tolist()
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations_ms, loop=0)
    return file.getvalue()


def _palette() -> bytes:
    """Greys, and every line's colour blended with dark to bright ones, red, green and blue."""
    greys = np.repeat(np.linspace(0, 255, _GREYS)[:, None], 3, axis=1)
    blends = [
        share * np.array(color[::-1]) + (1 - share) * background
        for color in COLORS
        for share in _BLENDS
        for background in (_BACKGROUNDS if share < 1 else _BACKGROUNDS[:1])
    ]
    colors: ByteImage = np.rint(np.concatenate([greys, blends])).astype(np.uint8)
    return colors.tobytes()


def _ffmpeg() -> str:
    """Path of the program that writes an MP4."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:  # the latter where its wheel holds no program for this machine
        raise VeriserumError(
            f'an MP4 needs ffmpeg ({error}): pip install "veriserum-hf[viz]", or choose a name that ends in .gif'
        ) from error


def _write_mp4(images: Iterator[ByteImage], output: Path) -> None:
    """Write H.264 as every browser plays it: colours at half the resolution, and the index at the beginning."""
    with atomic_path(output, suffix=".mp4") as partial, tempfile.TemporaryFile() as messages:
        partial.touch(exist_ok=False)  # raises with the reason, where the folder cannot be written to
        first = next(images)
        size = f"{first.shape[1]}x{first.shape[0]}"
        given = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", size, "-r", str(FRAMES_PER_SECOND), "-i", "pipe:0"]
        wanted = ["-c:v", "libx264", "-crf", str(_CRF), "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        command = [_ffmpeg(), "-v", "error", *given, *wanted, "-y", f"file:{partial}"]
        with (
            subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages) as ffmpeg,  # noqa: S603 - no shell
            suppress(BrokenPipeError),  # its messages and its status say more
            cast("IO[bytes]", ffmpeg.stdin) as frames,
        ):
            for image in chain([first], images):
                frames.write(image.tobytes())
        if ffmpeg.returncode:
            messages.seek(0)
            why = messages.read().decode(errors="replace").strip() or f"it ended with status {ffmpeg.returncode}"
            raise VeriserumError(f"cannot write {output}: ffmpeg: {one_line(why)}")
