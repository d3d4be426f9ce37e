"""The data set: schema, splits, conversion, the `datasets` builder and the folder for the hub."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
