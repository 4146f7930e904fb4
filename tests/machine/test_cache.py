"""Where the user's cache folder is."""

import os
import time
from pathlib import Path

import pytest

from voxtile.errors import EnvironmentFault
from voxtile.machine.cache import cache_folder, cache_problem, trim


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
    # Where it cannot be created: a private folder, the same for every process.
    monkeypatch.setenv("HOME", str(tmp_path / "not mounted"))
    shared = cache_folder()
    assert shared == tmp_path / f"temporary/voxtile-{os.getuid()}"
    assert not (tmp_path / "not mounted").exists()
    assert shared.stat().st_mode & 0o777 == 0o700
    assert cache_folder() == shared
    shared.chmod(0o777)  # somebody else may have put something there
    own = cache_folder()
    assert own != shared
    assert own.stat().st_mode & 0o777 == 0o700
    assert cache_folder() == own  # one for each process


def test_a_cache_that_others_can_write_to_is_not_used_and_the_reason_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    cache = tmp_path / "above" / "cache"
    monkeypatch.setenv("VOXTILE_CACHE", str(cache))
    assert cache_folder("networks") == cache / "networks"
    assert cache_problem("networks") == ""
    for folder in (cache, cache / "networks"):
        for mode in (0o770, 0o707):
            folder.chmod(mode)
            assert cache_folder("networks").is_relative_to(tmp_path / "temporary")
            assert cache_problem("networks") == (
                f"the cache {folder} is not used: others can write to it; chmod go-w {folder}"
            )
        folder.chmod(0o700)
    cache.parent.chmod(0o777)  # somebody could replace the cache
    assert f"others can write to {cache.parent}, and replace it" in cache_problem("networks")
    cache.parent.chmod(0o1777)  # sticky, as /tmp
    assert cache_folder("networks") == cache / "networks"


def test_a_link_is_held_against_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "mine").mkdir(mode=0o700)
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").symlink_to("open")
    assert "others can write to it" in cache_problem()
    assert cache_folder() == tmp_path / f"voxtile-{os.getuid()}"
    (tmp_path / "cache").unlink()
    (tmp_path / "cache").symlink_to("mine")
    assert cache_folder() == tmp_path / "cache"
    (tmp_path / "mine/networks").symlink_to("../open")
    assert "others can write to it" in cache_problem("networks")
    (tmp_path / "cache").unlink()
    (tmp_path / "cache").symlink_to("cache")
    assert "it cannot be created" in cache_problem()
    (tmp_path / "cache").unlink()
    (tmp_path / "cache").write_text("a file")
    assert "it cannot be created" in cache_problem()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_cache_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOXTILE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    (tmp_path / "xdg").mkdir(mode=0o700)
    assert cache_problem() == ""
    for folder in ("xdg", "xdg/voxtile"):
        os.chown(tmp_path / folder, 12345, -1)
        assert "it belongs to another user" in cache_problem()
        os.chown(tmp_path / folder, 0, -1)
    (tmp_path / "xdg").chmod(0o770)
    assert "others can write to it" in cache_problem()


def test_without_a_folder_for_temporary_files_there_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    (tmp_path / "file").touch()
    (tmp_path / "none").symlink_to("file")
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(EnvironmentFault, match=r"cannot be written .* set VOXTILE_CACHE"):
        cache_folder()


def test_what_was_not_used_for_longest_is_removed_first(tmp_path: Path) -> None:
    for age_s, name in ((300, "oldest"), (200, "folder/part"), (100, "newer"), (1, "newest")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(10))
        for one in {path, path.parent} - {tmp_path}:
            os.utime(one, (time.time() - age_s,) * 2)
    trim(tmp_path.iterdir(), 40)
    assert len(list(tmp_path.iterdir())) == 4
    trim(tmp_path.iterdir(), 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["newer", "newest"]
    trim(tmp_path.iterdir(), 0, idle_s=50)
    assert [path.name for path in tmp_path.iterdir()] == ["newest"]
