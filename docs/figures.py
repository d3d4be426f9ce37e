"""Draw the README's images: ``python -m docs.figures``."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from tests.simulation.published_frame import PUBLISHED, RING_MM, open_field
from veriserum_hf.calibration import fit_bead_grid
from veriserum_hf.core import PLANES
from veriserum_hf.geometry import px_to_mm
from veriserum_hf.reports import distortion_page
from veriserum_hf.simulation import (
    IMPLANT_PAIRS,
    Imaging,
    Settings,
    draw_frame,
    draw_grid,
    expose,
    scene,
    session,
    trial,
)

FOLDER = Path(__file__).parent
SETTINGS = Settings(trials=len(IMPLANT_PAIRS), frames_per_trial=5)
FRAME = 2  # of every trial
CROP_PX = 800  # raw pixels


def around_implants(index, plane):
    """Crop of a trial's raw frame, centred on both implants."""
    shown = trial(SETTINGS, index)
    origins_mm = [shown.pose(component, FRAME)[:3, 3] for component in shown.anatomy_ids]
    mm = px_to_mm(shown.session.rig[plane].project(np.mean(origins_mm, axis=0), 512), 512)
    frame = draw_frame(SETTINGS, index, FRAME, plane)
    column, row = shown.session.distortions[plane].to_px([mm])[0].astype(int) - CROP_PX // 2
    row, column = (np.clip((row, column), 0, np.array(frame.shape) - CROP_PX)).tolist()
    return frame[row : row + CROP_PX, column : column + CROP_PX]


def draw_pairs():
    """Both planes of a frame of every implant pair: a column for each tibial component."""
    columns = len(IMPLANT_PAIRS) // 2
    figure, axes = plt.subplots(4, columns, figsize=(columns * 3.1, 4 * 3.1), dpi=100)
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.015, hspace=0.015)
    for index, (femur, tibia) in enumerate(IMPLANT_PAIRS):
        for n, plane in enumerate(PLANES):
            ax = axes[2 * (index // columns) + n, index % columns]
            ax.imshow(around_implants(index, plane), cmap="gray", vmin=0, vmax=255)
            label = {"color": "white", "va": "top", "transform": ax.transAxes}
            ax.text(0.035, 0.96, f"{femur}-{tibia}", size=14, weight="bold", **label)
            ax.text(0.965, 0.96, plane, size=13, ha="right", **label)
            ax.axis("off")
    save(figure, "pairs.png", grey=True)


def draw_realism():
    """A frame, its histogram, and the fall-off of the open field towards its rim."""
    shown = trial(SETTINGS, 1)
    how = shown.session.rig["bs"], shown.session.distortions["bs"], Imaging()
    frame = expose(scene(SETTINGS, 1, FRAME), *how, np.random.default_rng(0))
    empty = expose([], *how, np.random.default_rng(0))

    figure, (left, centre, right) = plt.subplots(1, 3, figsize=(15, 4.8), dpi=100, layout="constrained")
    left.imshow(frame, cmap="gray", vmin=0, vmax=255)
    left.set(xlabel="column, px", ylabel="row, px", title="simulated raw frame")

    share = np.bincount(frame.ravel(), minlength=256) / frame.size * 100
    centre.fill_between(np.arange(256), share, step="mid", color="0.45")
    centre.set(xlabel="grey level", ylabel="pixels, %", title="its grey levels", xlim=(0, 255))
    centre.set(yscale="log", ylim=(0.01, 10), yticks=(0.01, 0.1, 1, 10), yticklabels=("0.01", "0.1", "1", "10"))

    for (direction, published), color in zip(PUBLISHED.items(), ("tab:blue", "tab:red"), strict=True):
        distance_mm = (np.arange(len(published)) + 0.5) * RING_MM
        right.plot(distance_mm, published, "o", ms=5, color=color, label=f"published frame, {direction}")
        right.plot(distance_mm, open_field(empty, direction), color=color, label=f"simulated, {direction}")
    right.set(xlim=(0, 195), ylim=(0, 260), xlabel="distance from the field's centre, mm", ylabel="grey level")
    right.set_title("open field")
    right.legend(frameon=False)
    for ax in (centre, right):
        ax.spines[["top", "right"]].set_visible(False)
    save(figure, "realism.png", grey=False)


def draw_calibration():
    """The report on the distortion of a simulated bead grid."""
    frame = draw_grid(SETTINGS, 1, "fs")
    title = f"Distortion of fs, calibration {session(SETTINGS, 1).distortion_id} of a simulated archive"
    save(distortion_page(frame, fit_bead_grid(frame), title=title), "calibration.png", grey=False)


def save(figure, name, *, grey):
    """Write a figure as a PNG of few colours."""
    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("L" if grey else "RGB")
    image.quantize(64 if grey else 128, dither=Image.Dither.NONE).save(FOLDER / name, optimize=True)
    plt.close(figure)


if __name__ == "__main__":
    mpl.use("Agg")
    draw_pairs()
    draw_realism()
    draw_calibration()
