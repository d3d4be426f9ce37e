from .arrays import (
    BoolArray as BoolArray,
    ByteImage as ByteImage,
    FloatArray as FloatArray,
    Grey as Grey,
    ImageArray as ImageArray,
    IndexArray as IndexArray,
)
from .blades import beyond_blades as beyond_blades
from .clipping import clipped_pixels as clipped_pixels
from .domain import (
    COMPONENTS as COMPONENTS,
    CONVERGED as CONVERGED,
    FAILED as FAILED,
    INITIAL as INITIAL,
    MANUAL as MANUAL,
    NOT_ASSESSED as NOT_ASSESSED,
    PLANES as PLANES,
    SIDES as SIDES,
    VERDICTS as VERDICTS,
    Component as Component,
    DistortionFields as DistortionFields,
    Encoding as Encoding,
    Engine as Engine,
    FrameIds as FrameIds,
    JointConvention as JointConvention,
    PlaneName as PlaneName,
    Rotations as Rotations,
    ShardFormat as ShardFormat,
    Side as Side,
    SplitBy as SplitBy,
    Verdict as Verdict,
)
from .endpoint import endpoint_fault as endpoint_fault, masked as masked
from .field import round_field as round_field
from .images import image_size as image_size, reading_image as reading_image
from .number_text import joined_numbers as joined_numbers, numbers_of as numbers_of, text_lines as text_lines
from .plain_yaml import load_plain_yaml as load_plain_yaml
from .regular import (
    NotAFileError as NotAFileError,
    not_a_file as not_a_file,
    open_regular as open_regular,
    read_regular as read_regular,
    read_text as read_text,
)
from .rows import (
    CAMERA_OF as CAMERA_OF,
    DISTORTION_OF as DISTORTION_OF,
    IMAGE_OF as IMAGE_OF,
    CameraRow as CameraRow,
    FileRow as FileRow,
    FrameRow as FrameRow,
    ImageFile as ImageFile,
    LabelRow as LabelRow,
    MeshFile as MeshFile,
    PoseFileRow as PoseFileRow,
    PoseRow as PoseRow,
    Poses as Poses,
    cameras_of as cameras_of,
)
from .table import Table as Table
from .text import code_span as code_span, listed as listed, one_line as one_line, visible as visible
from .version import __version__ as __version__
