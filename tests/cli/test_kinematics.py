"""``veriserum kinematics`` on poses of a simulated archive's implants."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.knee.motions import placed, table_of
from tests.knee.test_axes import landmarks, written


@pytest.fixture
def poses(tmp_path):
    """Two trials of a right knee in a file."""
    values = [(4.0 * k, 1, 2, 0.5, -3, 30) for k in range(10)]
    tables = [table_of(*placed(values, "right"), trial_id=trial, first_id=100 * trial) for trial in (1, 2)]
    path = tmp_path / "poses.parquet"
    pq.write_table(pa.concat_tables(tables), path)
    return path


@pytest.fixture
def axes(tmp_path):
    return written(tmp_path, landmarks())
