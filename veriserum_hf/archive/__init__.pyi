from .archive import VeriserumArchive as VeriserumArchive
from .audit import AuditReport as AuditReport, audit_archive as audit_archive
from .calibrations import INTER_PLANE as INTER_PLANE
from .closer_distortions import CLOSER as CLOSER, DISTORTION_FORM as DISTORTION_FORM
from .conventions import (
    LABELS_AND_IMAGES as LABELS_AND_IMAGES,
    disagreement as disagreement,
    require_agreement as require_agreement,
)
from .dicom_proposal import CameraProposal as CameraProposal
from .evidence import (
    CorrectedFields as CorrectedFields,
    Implant as Implant,
    agreement as agreement,
    surface as surface,
)
from .files import read_bytes as read_bytes
from .frames import (
    RawFormat as RawFormat,
    RawFrame as RawFrame,
    check_contrast as check_contrast,
    decode_frame as decode_frame,
    decode_raw as decode_raw,
    read_frame as read_frame,
    read_header as read_header,
)
from .implant_files import read_implant_mesh as read_implant_mesh
from .layout import SIMULATION_RECORD as SIMULATION_RECORD, File as File, Layout as Layout, find_layout as find_layout
from .meshes import ImplantMesh as ImplantMesh, read_mesh as read_mesh
from .plausible_calibrations import check_rig as check_rig
from .problems import Decision as Decision, Findings as Findings
from .readings import disagree as disagree, judge as judge
from .refined_sources import REFINED_CAMERAS as REFINED_CAMERAS
from .remembered import (
    ARCHIVE_VARIABLE as ARCHIVE_VARIABLE,
    WAYS_TO_AN_ARCHIVE as WAYS_TO_AN_ARCHIVE,
    chosen_archive as chosen_archive,
    forget_archive as forget_archive,
    remember_archive as remember_archive,
)
from .stacks import Stack as Stack, open_stack as open_stack
from .white import (
    MOST_ABOVE_WHITE as MOST_ABOVE_WHITE,
    highest_level as highest_level,
    share_above as share_above,
    white_level as white_level,
)
