"""Images of frames with axes or outlines; animations and recordings of trials."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
