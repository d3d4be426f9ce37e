from . import intensifier_torch as intensifier_torch
from .activities import simulate_trial as simulate_trial
from .calibrations import random_distortion as random_distortion, random_source as random_source, rig_of as rig_of
from .deferred import DeferredArchive as DeferredArchive, drawn as drawn
from .imaging import Imaging as Imaging
from .implants import IMPLANT_PAIRS as IMPLANT_PAIRS, IMPLANTS as IMPLANTS, implant_mesh as implant_mesh
from .intensifier import expose as expose
from .scenario import (
    draw_frame as draw_frame,
    draw_grid as draw_grid,
    holders as holders,
    scene as scene,
    session as session,
    trial as trial,
)
from .settings import (
    LIBRARIES_OF_FRAMES as LIBRARIES_OF_FRAMES,
    PAIRS as PAIRS,
    SOURCES_OF_FRAMES as SOURCES_OF_FRAMES,
    Settings as Settings,
    parse_height as parse_height,
)
from .world_images import Drawn as Drawn, draw_images as draw_images
from .world_implants import WorldShape as WorldShape, world_shapes as world_shapes
from .world_ranges import WorldRanges as WorldRanges
from .worlds import Worlds as Worlds
from .write import simulate as simulate
