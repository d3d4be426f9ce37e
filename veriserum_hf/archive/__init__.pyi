from .archive import VeriserumArchive as VeriserumArchive
from .audit import AuditReport as AuditReport, audit_archive as audit_archive
from .calibrations import INTER_PLANE as INTER_PLANE
from .conventions import disagreement as disagreement, require_agreement as require_agreement
from .evidence import (
    CorrectedFields as CorrectedFields,
    Implant as Implant,
    agreement as agreement,
    surface as surface,
)
from .frames import (
    RawFormat as RawFormat,
    decode_frame as decode_frame,
    read_bytes as read_bytes,
    read_frame as read_frame,
    white_level as white_level,
)
from .layout import SIMULATION_RECORD as SIMULATION_RECORD, File as File, Layout as Layout, find_layout as find_layout
from .meshes import ImplantMesh as ImplantMesh, read_mesh as read_mesh
from .problems import Decision as Decision, Findings as Findings
from .readings import disagree as disagree, judge as judge
