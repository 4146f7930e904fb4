"""Fixtures: where the real data lie, and a model that costs nothing."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("voxtile", deadline=None)
settings.load_profile("voxtile")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: VOXTILE_DATA, or `shared/data` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VOXTILE_DATA", beside))
    if not folder.is_dir():
        pytest.skip("real data are not here (set VOXTILE_DATA)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this session alone, shared by its workers and by every process they start."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "cache"
    os.environ["VOXTILE_CACHE"] = str(folder)
    return folder
