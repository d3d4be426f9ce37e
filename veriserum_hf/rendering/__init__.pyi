from . import differentiable as differentiable, scenes as scenes
from .compilation import compiled as compiled
from .contours import outline as outline
from .detail import simplified as simplified
from .rasteriser import (
    Window as Window,
    check_closed as check_closed,
    path_length as path_length,
    path_length_window as path_length_window,
)
from .silhouettes import ContourGenerator as ContourGenerator, ContourPieces as ContourPieces
