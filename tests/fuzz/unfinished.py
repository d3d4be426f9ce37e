"""A conversion that is stopped just before its last step."""

from contextlib import suppress
from pathlib import Path
from unittest import mock

from veriserum_hf.dataset import export, folder
from veriserum_hf.dataset.plan import Options


def convert_and_stop(archive: Path, out: Path) -> None:
    """Leave ``OUT.incomplete`` with every shard, and a finished conversion in ``DONE`` next to it."""
    options = {"options": Options(size=128), "workers": 1, "shard_size_bytes": 100_000}
    export.convert_archive(archive, out.with_name("DONE"), **options)  # type: ignore[arg-type]
    with suppress(KeyboardInterrupt), mock.patch.object(folder, "put_in_place", side_effect=KeyboardInterrupt):
        export.convert_archive(archive, out, **options)  # type: ignore[arg-type]
