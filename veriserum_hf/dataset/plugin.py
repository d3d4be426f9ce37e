"""How ``load_dataset("veriserum")`` finds the builder.

The library has no way to plug a builder in, so `register_builder` puts it into the library's own table of packaged
modules. This module imports nothing large: it runs whenever datasets is imported.
"""

from veriserum_hf.jobs import source_hash

NAME = "veriserum"
_BUILDER = "veriserum_hf.dataset.builder"
# What shapes the rows of a data set, beside archive and options; see `veriserum_hf.jobs.source_hash`.
SOURCES_OF_ROWS = (
    "core.domain",
    "geometry.cameras",
    "geometry.pose",
    "geometry.rig",
    "calibration.distortion",
    "archive.archive",
    "archive.calibrations",
    "archive.frame_names",
    "archive.frames",
    "archive.layout",
    "archive.measurements",
    "archive.meshes",
    "archive.pose_frame",
    "archive.pose_rows",
    "archive.poses",
    "archive.rotations",
    "archive.tables",
    "dataset.convert",
    "dataset.plan",
    "dataset.schema",
    "dataset.splits",
)


def register_builder() -> None:
    """Make ``load_dataset("veriserum", ...)`` find the builder; datasets has been imported."""
    import datasets.load
    from datasets.data_files import DataFilesDict
    from datasets.load import DatasetModule, PackagedDatasetModuleFactory
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    class ModuleFactory(PackagedDatasetModuleFactory):  # type: ignore[misc]
        """Fills in the hash of the sources, which takes a while, when it is asked for."""

        def get_module(self) -> DatasetModule:
            if self.name != NAME:
                return super().get_module()
            hash = source_hash(*SOURCES_OF_ROWS)
            _PACKAGED_DATASETS_MODULES[NAME] = (_BUILDER, hash)
            if self.data_files is not None:
                return super().get_module()
            # The library, asked for a folder or for nothing, would list every file below it first.
            return DatasetModule(_BUILDER, hash, {"data_files": DataFilesDict(), "dataset_name": NAME})

    _PACKAGED_DATASETS_MODULES[NAME] = (_BUILDER, "")
    datasets.load.PackagedDatasetModuleFactory = ModuleFactory
