from .server import serve as serve
from .workbench import open_workbench as open_workbench
