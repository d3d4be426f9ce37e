from .guests import serve_guests as serve_guests
from .server import serve as serve
from .workbench import open_workbench as open_workbench
