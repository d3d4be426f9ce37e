"""A conversion that several modules look at."""

import pytest

from veriserum_hf.dataset.export import convert_archive

SHARD_BYTES = 400_000


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="session")
def converted(tiny, tmp_path_factory):
    """The tiny archive in several small shards; not to be changed."""
    out = tmp_path_factory.mktemp("converted") / "out"
    convert_archive(tiny.root, out, shard_size_bytes=SHARD_BYTES, workers=1)
    return out
