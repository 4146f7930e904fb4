"""Where the user's cache folder is."""

import os
from pathlib import Path

import pytest

from voxtile.machine.cache import cache_folder


def test_the_cache_is_where_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("VOXTILE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/voxtile"
    monkeypatch.delenv("XDG_CACHE_HOME")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home/.cache/voxtile"
    # Where it cannot be made: a private folder, the same for every process.
    monkeypatch.setenv("HOME", str(tmp_path / "not mounted"))
    shared = cache_folder()
    assert shared == tmp_path / f"temporary/voxtile-{os.getuid()}"
    assert not (tmp_path / "not mounted").exists()
    assert shared.stat().st_mode & 0o777 == 0o700
    assert cache_folder() == shared
    shared.chmod(0o777)  # somebody else may have put something there
    assert cache_folder() not in (shared, cache_folder())
