"""A model that may be published."""

from pathlib import Path

import pytest
from bundles import write_bundle


@pytest.fixture
def model(tmp_path: Path, network: bytes) -> Path:
    """A model folder with card and licence."""
    folder = write_bundle(tmp_path / "liver", network, name="liver")
    (folder / "README.md").write_text("# liver\n\nIt finds the ball in phantoms.\n")
    (folder / "LICENSE").write_text("CC0-1.0\n")
    return folder
