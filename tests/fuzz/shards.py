"""Changes of the shards of a converted data set."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.cases import Case, NotFittingError


def shard(case: Case, config: str = "calibrated") -> Path:
    """One shard; the rows of the frames in it may change."""
    path: Path = case.one(sorted((case.data / "dataset" / config).glob("*.parquet")))
    key = "anatomy_id" if config == "anatomies" else "measurement_id"
    if config == "anatomies":
        case.touch_all()
    else:
        case.touch(*(f"calibrated {id}" for id in pq.read_table(path, columns=[key])[key].to_pylist()))
    return path


def changed_row(case: Case, path: Path, change: Any) -> str:
    """Change the values of one row of a shard; the shard keeps its schema."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    k = case.random.randrange(len(rows))
    case.touched = {f"calibrated {rows[k]['measurement_id']}"} if "measurement_id" in rows[k] else None
    text = change(rows[k])
    try:
        changed = pa.Table.from_pylist(rows, table.schema)
    except pa.ArrowInvalid as error:  # which Arrow itself does not write
        raise NotFittingError(str(error)) from error
    pq.write_table(changed, path)
    return f"{path.name} row {k}: {text}"
