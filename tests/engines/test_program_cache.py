"""Compiled programs are cached whole, and a damaged one counts as missing."""

import os
from pathlib import Path

import numpy as np
import pytest

from voxtile.engines import program_cache
from voxtile.engines.device import Device
from voxtile.engines.program_cache import Programs
from voxtile.models.backend_name import backend_name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the programs."""
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "programs"


def damage(path: Path, at: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_program_comes_back_until_a_bit_of_it_is_flipped(folder: Path) -> None:
    programs = Programs()
    assert programs.get("key") is None
    programs.put("key", b"program")
    assert programs.get("key") == b"program"
    (path,) = folder.iterdir()
    for at in (0, -1):
        damage(path, at)
        assert programs.get("key") is None
        programs.put("key", b"again")  # what was compiled instead
        assert programs.get("key") == b"again"


def test_a_program_under_another_name_or_of_other_people_is_not_run(folder: Path) -> None:
    programs = Programs()
    programs.put("one", b"1")
    (path,) = folder.iterdir()
    programs.put("other", b"2")
    (other,) = set(folder.iterdir()) - {path}
    other.write_bytes(path.read_bytes())
    assert programs.get("other") is None
    path.chmod(0o622)
    assert programs.get("one") is None


def test_programs_used_long_ago_are_removed_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "_MOST_BYTES", 280)
    programs = Programs()
    paths: dict[str, Path] = {}
    for key in "abc":  # each takes 92 bytes
        programs.put(key, bytes(60))
        (paths[key],) = set(folder.iterdir()) - set(paths.values())
    for seconds, key in enumerate("abc"):
        os.utime(paths[key], (seconds, seconds))
    programs.get("a")
    programs.put("d", bytes(60))
    assert [key for key in "abcd" if programs.get(key)] == ["a", "c", "d"]


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("VOXTILE_CACHE", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(blocked))
    programs = Programs()
    programs.put("key", b"program")
    assert programs.get("key") is None


@pytest.mark.skipif(backend_name() != "jax", reason="only JAX' programs are cached")
def test_a_later_process_compiles_nothing_and_a_damaged_program_changes_nothing(
    folder: Path,
) -> None:
    import jax

    device = Device("cpu")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    events: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))

    def called() -> tuple[np.ndarray, int, int]:
        """What a new process computes, how many programs it finds, and how many it compiles."""
        jax.clear_caches()
        events.clear()
        answer = device.compiled(lambda x: (x @ x).sum(axis=0) * 2)
        found = np.array(device.fetch(answer(device.send(np.eye(5, dtype=np.float32))))())
        kinds = ("cache_hits", "cache_misses")
        hits, misses = (events.count(f"/jax/compilation_cache/{kind}") for kind in kinds)
        return found, hits, misses

    first, hits, misses = called()
    assert not hits and misses
    second, *counts = called()
    assert counts == [misses, 0]
    for path in folder.iterdir():
        damage(path, path.stat().st_size // 2)
    third, *counts = called()
    assert counts == [0, misses]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert called()[1] == misses
