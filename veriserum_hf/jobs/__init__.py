"""Long work: processes that share it, and the folder that keeps what is finished."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
