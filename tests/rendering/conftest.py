import pytest

from veriserum_hf.geometry.rig import DualPlaneRig


@pytest.fixture(scope="session")
def rig():
    """The rig of a published calibration."""
    return DualPlaneRig.from_calibration(
        principal_point_bs_mm=(2.72, -6.12),
        sid_bs_mm=1860.54,
        principal_point_fs_mm=(-10.14, 2.03),
        sid_fs_mm=1851.35,
    )
