from .builder import VERSION as VERSION
from .card import NAME_TO_FILL_IN as NAME_TO_FILL_IN
from .export import convert_archive as convert_archive, parse_size as parse_size
from .frames import (
    Frames as Frames,
    FrameSource as FrameSource,
    Row as Row,
    anatomy_ids as anatomy_ids,
    load_frames as load_frames,
    open_frames as open_frames,
)
from .load import (
    ALL as ALL,
    is_archive as is_archive,
    load_meshes as load_meshes,
    load_split as load_split,
    load_split_or_all as load_split_or_all,
    no_folder as no_folder,
)
from .plan import Options as Options
from .plugin import SOURCES_OF_ROWS as SOURCES_OF_ROWS, register_builder as register_builder
from .provenance import data_record as data_record, is_hub_name as is_hub_name, public_name as public_name
from .raw_frames import (
    Frame as Frame,
    calibration_of_archive as calibration_of_archive,
    calibration_of_files as calibration_of_files,
    files_of_archive as files_of_archive,
    frame_of_files as frame_of_files,
    frame_of_row as frame_of_row,
)
from .selection import (
    decoded as decoded,
    load_measurement as load_measurement,
    load_row as load_row,
    load_trial as load_trial,
)
