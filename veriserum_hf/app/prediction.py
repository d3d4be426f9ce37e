"""Poses that a network predicts in one frame, with their overlay: of the data set, or of images that a page sends."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from veriserum_hf.app.own_pose import transform_of
from veriserum_hf.app.trials import Trials
from veriserum_hf.archive import decode_frame, read_header
from veriserum_hf.core import IMAGE_OF, PLANES, Component, FrameRow, PlaneName, PoseFileRow, PoseRow, Poses
from veriserum_hf.dataset import frame_of_row
from veriserum_hf.errors import FrameError, MatchError
from veriserum_hf.geometry import angle_between_deg, matrix_to_euler_zxy
from veriserum_hf.inference import fit_to, load_model, predict_frames
from veriserum_hf.viewer import PoseSet, draw_outlines, label_of, views_of

MOST_BYTES = 1_000_000  # of an image that a page sends
_DECIMALS = 3


@dataclass(frozen=True)
class Prediction:
    """What a page shows.

    Attributes
    ----------
    document : JSON: an entry for each implant.
    png : image of the planes with the outlines.

    """

    document: dict[str, object]
    png: bytes


class Predictor:
    """A network, and the frames whose cameras it uses.

    Parameters
    ----------
    trials : frames of one split.
    model : output folder of a training, or a model on the hub.

    Raises
    ------
    TrainingError
        If the model cannot be loaded, or does not fit the frames and implants.

    """

    def __init__(self, trials: Trials, model: str) -> None:
        self._trials = trials
        self._model = load_model(model, "cpu")
        fit_to(self._model, trials.frames(list(trials.places.values())), trials.source)

    def frames(self) -> list[dict[str, int]]:
        """Ids of the frames."""
        return [place.ids() for place in self._trials.places.values()]

    def poses(self) -> dict[int, Poses]:
        """Poses in all frames, by measurement id."""
        size, places = self._model.config.image_size, list(self._trials.places.values())
        rows = (row for row in self._trials.frames(places).read() if not isinstance(row, FrameError))
        found = predict_frames(self._model, (frame_of_row(row, size) for row in rows), 1)
        return {int(poses[0]["measurement_id"] or 0): {pose["component"]: pose for pose in poses} for poses in found}

    def predict(self, measurement_id: int, images: Mapping[PlaneName, bytes]) -> Prediction:
        """Poses in a frame, beside its label; with images of a page instead of its own, seen by its cameras.

        Raises
        ------
        VeriserumError
            If there is no such frame, or an image cannot be used.

        """
        if (place := self._trials.places.get(measurement_id)) is None:
            raise MatchError(f"there is no frame of measurement {measurement_id}; reload the page")
        row = next(self._trials.frames([place]).read())
        if isinstance(row, FrameError):
            raise row
        row = _shown(row, images)
        poses = next(predict_frames(self._model, [frame_of_row(row, self._model.config.image_size)], 1))
        found: dict[Component, PoseRow] = {pose["component"]: pose for pose in poses}
        sets = [*([] if images else [label_of(row)]), PoseSet("predicted", found)]
        _, encoded = cv2.imencode(".png", draw_outlines(row, sets, self._trials.source.meshes))
        document: dict[str, object] = {}
        document["implants"] = [self._entry(pose, None if images else row[pose["component"]]) for pose in poses]
        return Prediction(document, encoded.tobytes())

    def _entry(self, pose: PoseFileRow, label: PoseRow | None) -> dict[str, object]:
        """One implant as the page shows it, with its distance from the label where there is one."""
        T = transform_of(pose)
        entry: dict[str, object] = {
            "component": pose["component"],
            "anatomy_id": pose["anatomy_id"],
            "translation_mm": np.round(T[:3, 3], _DECIMALS).tolist(),
            "rz_rx_ry_deg": np.round(matrix_to_euler_zxy(T[:3, :3]), _DECIMALS).tolist(),
            "confidence": pose["confidence"],
        }
        if label is not None and label["anatomy_id"] == pose["anatomy_id"]:
            T_label = transform_of(label)
            center_mm = np.append(self._trials.shapes[pose["anatomy_id"]].center_mm, 1.0)
            entry["off_mm"] = round(float(np.linalg.norm((T - T_label) @ center_mm)), _DECIMALS)
            entry["off_deg"] = round(float(angle_between_deg(T[:3, :3], T_label[:3, :3])), _DECIMALS)
        return entry


def images_of(encoded: object) -> dict[PlaneName, bytes]:
    """Image files of a page's message, by plane; MatchError where they are too large, or none."""
    if not isinstance(encoded, Mapping):
        raise MatchError("the page sent no images; reload it")
    if encoded and set(encoded) != set(PLANES):
        raise MatchError(f"give two images, of {' and '.join(PLANES)}, or none to use those of the frame")
    images = dict[PlaneName, bytes]()
    for plane in PLANES:
        if plane not in encoded:
            continue
        try:
            images[plane] = base64.b64decode(encoded[plane], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise MatchError(f"the page sent no image of {plane} ({error}); reload it") from error
        if len(images[plane]) > MOST_BYTES:
            raise MatchError(
                f"the image of {plane} has {len(images[plane]):,} bytes; at most {MOST_BYTES:,} are taken"
            )
    return images


def _shown(row: FrameRow, images: Mapping[PlaneName, bytes]) -> FrameRow:
    """Row with other images of the same size; one that states another size is not decoded."""
    row = row.copy()
    for plane, view in views_of(row).items():
        if plane not in images:
            continue
        try:
            header = read_header(images[plane])
            if (found := (header.height, header.width)) != view.size:
                raise FrameError(
                    "wrong shape",
                    f"it has {found[1]} x {found[0]} px, expected {view.size[1]} x {view.size[0]} as the images of "
                    "this data set",
                )
            row[IMAGE_OF[plane]] = decode_frame(images[plane])
        except FrameError as error:
            raise MatchError(f"the image of {plane} cannot be used: {error.detail}") from error
    return row
