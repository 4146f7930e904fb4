"""The version of a package is known, whatever its distribution is called."""

from importlib.metadata import version
from pathlib import Path

import pytest

from voxtile.machine.versions import installed_version


def test_a_package_has_the_version_of_its_distribution() -> None:
    assert installed_version("numpy") == version("numpy")
    assert installed_version("no_such_package") is None


def test_a_package_of_a_distribution_of_another_name_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorlike").mkdir()
    (tmp_path / "tensorlike/__init__.py").touch()
    (tmp_path / "alone.py").touch()  # without metadata
    made = tmp_path / "tensorlike_cpu-2.21.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorlike-cpu\nVersion: 2.21.0\n")
    (made / "RECORD").write_text("tensorlike/__init__.py,,\n")
    (made / "top_level.txt").write_text("tensorlike\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_version("tensorlike") == "2.21.0 (tensorlike-cpu)"
    assert installed_version("alone") is None
