"""How ``load_dataset("veriserum")`` finds the builder.

The library has no interface to add a builder, so `register_builder` puts it into the library's own table of packaged
modules. This module imports nothing large: it runs whenever datasets is imported.
"""

from veriserum_hf.jobs import source_hash

NAME = "veriserum"
_BUILDER = "veriserum_hf.dataset.builder"
# Modules that determine the rows, in addition to archive and options; see `veriserum_hf.jobs.source_hash`.
SOURCES_OF_ROWS = (
    "archive.closer_distortions",
    "archive.archive",
    "archive.calibrations",
    "archive.columns",
    "archive.csv_tables",
    "archive.database",
    "archive.fields",
    "archive.files",
    "archive.formats",
    "archive.frame_names",
    "archive.frames",
    "archive.jpeg",
    "archive.layout",
    "archive.measurements",
    "archive.mesh_repair",
    "archive.meshes",
    "archive.motion",
    "archive.plausible_calibrations",
    "archive.png",
    "archive.pose_frame",
    "archive.pose_rows",
    "archive.poses",
    "archive.raw_image",
    "archive.refined_sources",
    "archive.rotations",
    "archive.sampled",
    "archive.stl",
    "archive.table_specs",
    "archive.tables",
    "archive.tags",
    "archive.tiff",
    "archive.tiff_levels",
    "archive.units",
    "archive.white",
    "calibration.distortion",
    "calibration.distortion_map",
    "calibration.polynomial_distortion",
    "calibration.refined_cameras",
    "calibration.sized_camera",
    "core.domain",
    "dataset.convert",
    "dataset.masks",
    "dataset.plan",
    "dataset.replaced_cameras",
    "dataset.schema",
    "dataset.splits",
    "geometry.camera",
    "geometry.camera_rows",
    "geometry.grid",
    "geometry.plane",
    "geometry.pose",
    "geometry.rig",
    "rendering.compilation",
    "rendering.rasteriser",
)

# The same for rows of own frames, in addition to their files and options.
SOURCES_OF_STUDY_ROWS = (
    "archive.dicom",
    "archive.dicom_fragments",
    "archive.dicom_levels",
    "archive.files",
    "archive.formats",
    "archive.frames",
    "archive.implant_files",
    "archive.jpeg",
    "archive.label_volumes",
    "archive.mesh_repair",
    "archive.meshes",
    "archive.png",
    "archive.raw_image",
    "archive.stacks",
    "archive.stl",
    "archive.tags",
    "archive.tiff",
    "archive.tiff_levels",
    "archive.white",
    "calibration.distortion",
    "calibration.distortion_files",
    "calibration.distortion_map",
    "calibration.image_map",
    "calibration.polynomial_distortion",
    "calibration.refined_cameras",
    "calibration.sized_camera",
    "core.domain",
    "core.number_text",
    "dataset.convert",
    "dataset.replaced_cameras",
    "dataset.study_import",
    "dataset.schema",
    "dataset.splits",
    "dataset.study",
    "dataset.study_cameras",
    "dataset.study_content",
    "dataset.study_file",
    "dataset.study_images",
    "dataset.study_implants",
    "dataset.study_rows",
    "dataset.study_sources",
    "geometry.autoscoper",
    "geometry.camera",
    "geometry.camera_files",
    "geometry.camera_rows",
    "geometry.grid",
    "geometry.pose",
    "poses.csv_poses",
    "poses.files",
    "poses.formats",
    "poses.trajectories",
)


def register_builder() -> None:
    """Make ``load_dataset("veriserum", ...)`` find the builder; datasets has been imported."""
    import datasets.load
    from datasets.data_files import DataFilesDict
    from datasets.load import DatasetModule, PackagedDatasetModuleFactory
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    class ModuleFactory(PackagedDatasetModuleFactory):  # type: ignore[misc]
        """Computes the hash of the sources, which is slow, only when it is needed."""

        def get_module(self) -> DatasetModule:
            if self.name != NAME:
                return super().get_module()
            hash = source_hash(*SOURCES_OF_ROWS)
            _PACKAGED_DATASETS_MODULES[NAME] = (_BUILDER, hash)
            if self.data_files is not None:
                return super().get_module()
            # For a folder or no path, the library would list every file below it first.
            return DatasetModule(_BUILDER, hash, {"data_files": DataFilesDict(), "dataset_name": NAME})

    _PACKAGED_DATASETS_MODULES[NAME] = (_BUILDER, "")
    datasets.load.PackagedDatasetModuleFactory = ModuleFactory
