"""Draw the images of the README and of the pages: ``python -m docs.figures``."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import PolyCollection
from PIL import Image

from tests.simulation.published_frame import PUBLISHED, RING_MM, open_field
from veriserum_hf.calibration import fit_bead_grid
from veriserum_hf.core import PLANES
from veriserum_hf.geometry import px_to_mm
from veriserum_hf.rendering import scenes
from veriserum_hf.reports import distortion_page
from veriserum_hf.simulation import (
    IMPLANT_PAIRS,
    Drawn,
    Imaging,
    Settings,
    WorldRanges,
    Worlds,
    draw_frame,
    draw_grid,
    draw_images,
    expose,
    implant_mesh,
    scene,
    session,
    trial,
    world_shapes,
)

FOLDER = Path(__file__).parent
SETTINGS = Settings(trials=len(IMPLANT_PAIRS), frames_per_trial=5)
FRAME = 2  # of every trial
CROP_PX = 800  # raw pixels
WORLD_PX = 240  # edge of a frame of a randomised world


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


# Of a view: where right, up and the reader are, x to the left, y proximal, z anterior; the rotation's name, axis,
# and arc from its first to its last angle about a centre; the label's place; and translations with their axes.
VIEWS = {
    "from the lateral side": (
        ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
        ("flexion", "about e1, into the page", (0, 30), 92, -68, -112, (0, -78)),
        {"anterior": (0, 0, 1), "superior": (0, 1, 0)},
    ),
    "from the front": (
        ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        ("adduction", "about e2, out of the page", (0, 30), 92, -112, -68, (0, -78)),
        {"medial": (1, 0, 0), "superior": (0, 1, 0)},
    ),
    "from above": (
        ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
        ("internal rotation", "about e3, out of the page", (0, 0), 62, 65, 115, (0, 78)),
        {"medial": (1, 0, 0), "anterior": (0, 0, 1)},
    ),
}


def draw_signs():
    """A right knee, with the positive directions of its six coordinates."""
    femur = np.asarray(implant_mesh(1).triangles) + (0, 29.5, -3)
    figure, panels = plt.subplots(1, 3, figsize=(11, 5), layout="constrained")
    for ax, (title, (view, rotation, moves)) in zip(panels, VIEWS.items(), strict=True):
        for triangles, grey in ((np.asarray(implant_mesh(3).triangles), 0.75), (femur, 0.5)):
            seen = triangles @ np.transpose(view)
            order = np.argsort(seen[:, :, 2].mean(axis=1))
            normal = np.cross(seen[:, 1] - seen[:, 0], seen[:, 2] - seen[:, 0])
            shade = grey + 0.2 * np.abs(normal[:, 2]) / np.linalg.norm(normal, axis=1).clip(1e-12)
            faces = np.repeat(shade[order, None], 3, axis=1)
            ax.add_collection(PolyCollection(list(seen[order, :, :2]), facecolors=faces, rasterized=True))
        origin = (np.array(view) @ (0, 29.5, -3))[:2]
        for name, direction in moves.items():
            tip = origin + 45 * (np.array(view) @ direction)[:2]
            arrow(ax, origin, tip, "#0072B2")
            ax.text(*(origin + 1.2 * (tip - origin)), name, color="#0072B2", ha="center", va="center", size=11)
        name, axis, center, radius, first, last, place = rotation
        around = np.radians(np.linspace(first, last, 40))
        arc = np.array(center)[:, None] + radius * np.array([np.cos(around), np.sin(around)])
        ax.plot(*arc[:, :-2], color="#D55E00", lw=2)
        arrow(ax, arc[:, -3], arc[:, -1], "#D55E00")
        ax.text(*place, f"{name}\n{axis}", color="#D55E00", ha="center", va="center", size=11)
        ax.set(title=title, aspect="equal", xlim=(-62, 62), ylim=(-90, 92) if "above" not in title else (-85, 97))
        ax.axis("off")
    figure.savefig(FOLDER / "kinematics.svg", dpi=100)
    plt.close(figure)


def draw_worlds():
    """Frames of randomised worlds, three pairs in a row."""
    ranges = WorldRanges(shapes=4)
    worlds = Worlds(ranges, world_shapes(ranges), WORLD_PX)
    frames = [worlds.draw(np.random.default_rng((8, number))) for number in range(12)]
    drawn = Drawn.of(frames, WORLD_PX, np.random.default_rng(0))
    solids = scenes.Solids.of(worlds.meshes)
    found = draw_images(drawn, solids, WORLD_PX, torch.Generator().manual_seed(0)).numpy()
    by_plane = found.reshape(len(PLANES), 4, 3, WORLD_PX, WORLD_PX)
    sheet = by_plane.transpose(1, 3, 2, 0, 4).reshape(4 * WORLD_PX, 6 * WORLD_PX)
    Image.fromarray(sheet).save(FOLDER / "worlds.jpg", quality=72, optimize=True)


def arrow(ax, start, end, color):
    """Draw an arrow."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2, "mutation_scale": 16})


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
    draw_signs()
    draw_worlds()
