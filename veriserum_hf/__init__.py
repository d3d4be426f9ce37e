"""Veriserum, dual-plane fluoroscopy of knee implants, as Hugging Face datasets.

Importing this package registers the builder: ``load_dataset("veriserum", data_files="PATH/....db")``.
"""

import lazy_loader
import wrapt

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


@wrapt.when_imported("datasets")
def _register_builder(_: object) -> None:
    """Register as soon as datasets is imported, or now if it is: neither is worth a second where only one is used."""
    from veriserum_hf.dataset import register_builder

    register_builder()
