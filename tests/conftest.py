"""Fixtures that several test files share."""

from pathlib import Path

import pytest
from own_data import own, things  # noqa: F401

from neurovl.smallworld.subjects import simulate

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def tiny_nsd(tmp_path_factory) -> Path:
    """A simulated NSD folder: subjects 1 and 2, one session, 10.8-mm voxels. Read it, never write."""
    return simulate(
        tmp_path_factory.mktemp("nsd"), subjects=(1, 2), sessions=1, scale=6.0, seed=0, n_jobs=2
    )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings and weights beside the repository; the test is skipped without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder ../shared/data is not here")
    return SHARED_DATA
