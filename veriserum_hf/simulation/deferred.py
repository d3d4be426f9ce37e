"""A simulated archive whose frames are simulated on demand and removed after use."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from filelock import FileLock

from veriserum_hf.archive import File, Layout, RawFormat, VeriserumArchive
from veriserum_hf.calibration import RAW_HEIGHT_PX, RAW_WIDTH_PX
from veriserum_hf.core import PLANES
from veriserum_hf.simulation.image_files import FrameJob
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import write_all_but_images


class DeferredArchive(VeriserumArchive):
    """A simulated archive without its images, in a folder that is made where it is missing.

    Parameters
    ----------
    folder : where its tables and implants are kept, with the exact poses in ``truth.parquet``.
    settings : what is simulated.

    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            write_all_but_images(folder, settings)
        super().__init__(folder)

    def _find_layout(self, path: object) -> Layout:
        layout = super()._find_layout(self.folder)
        for plane in PLANES:
            layout.frames[plane] = {
                number: File(str(self.folder / f"{plane}_{number:06d}.jpg"), 1, 0)
                for number in range(1, self.settings.measurement_id(self.settings.trials, 0))
            }
        return layout

    def _sample_frames(self) -> RawFormat:
        return RawFormat(white_level=255, aspect=RAW_WIDTH_PX / RAW_HEIGHT_PX)


@contextmanager
def drawn(rows: pa.Table, settings: Settings) -> Iterator[pa.Table]:
    """Rows of a plan of a deferred archive, with the paths of their frames, which exist within the context only."""
    columns = [column for column in (f"path_{plane}" for plane in PLANES) if column in rows.column_names]
    if not columns:  # implants are kept
        yield rows
        return
    with TemporaryDirectory(prefix="veriserum-") as name:
        folder = Path(name)
        for measurement_id in rows["measurement_id"].to_pylist():
            trial_index, frame = settings.place_of(measurement_id)
            FrameJob(settings, trial_index, {frame: (measurement_id,)}, folder, folder).run(lambda _: None)
        for column in columns:
            paths = [str(folder / Path(path).name) for path in rows[column].to_pylist()]
            rows = rows.set_column(rows.column_names.index(column), column, pa.array(paths))
        yield rows
