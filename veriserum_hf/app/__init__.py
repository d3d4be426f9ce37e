"""The workbench in the browser: see a trial, match implants by hand, refine, save."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
