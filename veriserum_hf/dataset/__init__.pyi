from .builder import ROWS_VERSION as ROWS_VERSION
from .card import NAME_TO_FILL_IN as NAME_TO_FILL_IN
from .export import convert_archive as convert_archive, parse_size as parse_size
from .folder import ConversionResult as ConversionResult, Counts as Counts
from .frame_calibration import (
    calibration_of_archive as calibration_of_archive,
    calibration_of_files as calibration_of_files,
    files_of_archive as files_of_archive,
)
from .frames import Frames as Frames, holds_images as holds_images, is_raw as is_raw
from .mesh_records import described_meshes as described_meshes
from .model_frames import Frame as Frame, frame_of_files as frame_of_files, frame_of_row as frame_of_row
from .open import SPECIAL as SPECIAL, is_archive as is_archive, no_folder as no_folder, open_rows as open_rows
from .plan import Options as Options
from .plugin import SOURCES_OF_ROWS as SOURCES_OF_ROWS, register_builder as register_builder
from .provenance import (
    DataRecord as DataRecord,
    check_reachable as check_reachable,
    data_record as data_record,
    is_hub_name as is_hub_name,
    public_name as public_name,
)
from .replaced_cameras import CamerasFile as CamerasFile, check_trials as check_trials
from .rows import ALL as ALL, Rows as Rows
from .selection import row_at as row_at, rows_found as rows_found, with_images as with_images
from .stored import (
    StoredFrames as StoredFrames,
    StreamedFrames as StreamedFrames,
    decoded as decoded,
    files_of as files_of,
)
from .study_content import ImportOptions as ImportOptions
from .study_import import import_study as import_study
from .study_sources import SOURCES as SOURCES
from .trials import (
    TRAINING_DATA as TRAINING_DATA,
    TrainingTrials as TrainingTrials,
    TrialOverlap as TrialOverlap,
    conversion_identity as conversion_identity,
    no_trials as no_trials,
    training_trials as training_trials,
    trial_overlap as trial_overlap,
)
