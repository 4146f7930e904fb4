"""One run in one folder at a time."""

import json
import os
import socket
from pathlib import Path

import pytest
from faulty import run_faulty, valid_cases

from voxtile.batch.settings import BatchSettings
from voxtile.errors import EnvironmentFault
from voxtile.run_folder import lock
from voxtile.run_folder.lock import locked
from voxtile.run_folder.shard import Shard


def holder(**changes) -> str:
    record = {"pid": 1, "host": socket.gethostname(), "started": "2026", "identity": "x"}
    return json.dumps({**record, **changes})


def test_the_lock_of_a_dead_holder_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".lock.json").write_text(holder())
    with locked(tmp_path):
        mine = json.loads((tmp_path / ".lock.json").read_text())
        assert mine["pid"] == os.getpid()
    assert not (tmp_path / ".lock.json").exists()


def test_the_lock_of_another_host_is_not(tmp_path: Path) -> None:
    (tmp_path / ".lock.json").write_text(holder(host="elsewhere", pid=7))
    message = (
        r"in use by process 7 on elsewhere, started 2026; .* if that run is dead, remove .*json"
    )
    with pytest.raises(EnvironmentFault, match=message), locked(tmp_path):
        pass


def test_shards_share_a_folder_and_exclude_a_whole_run(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 4)
    out = tmp_path / "out"
    with locked(out, Shard(1, 2)):
        run_faulty(manifest, out, BatchSettings(shard=Shard(2, 2)))
        for shard in (None, Shard(1, 2), Shard(1, 3)):
            with pytest.raises(EnvironmentFault, match=f"in use by process {os.getpid()} on"):
                run_faulty(manifest, out, BatchSettings(shard=shard))
    with locked(out), pytest.raises(EnvironmentFault, match="is in use by"):
        run_faulty(manifest, out, BatchSettings(shard=Shard(1, 2)))


def test_what_this_process_could_not_remove_is_taken_over(tmp_path: Path) -> None:
    with locked(tmp_path):
        left = (tmp_path / ".lock.json").read_text()
        with pytest.raises(EnvironmentFault, match="is in use by"), locked(tmp_path):
            pass
    (tmp_path / ".lock.json").write_text(left)  # as on a disk that became read-only
    with locked(tmp_path):
        pass
    assert not (tmp_path / ".lock.json").exists()


def test_of_two_hosts_that_start_together_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other writes its record after this one has looked, on a disk without locks."""
    real = lock.write_new

    def late(path: Path, text: str) -> bool:
        path.write_text(holder(host="elsewhere", pid=7))
        return real(path, text)

    monkeypatch.setattr(lock, "write_new", late)
    message = "in use by process 7 on elsewhere"
    with pytest.raises(EnvironmentFault, match=message), locked(tmp_path):
        pass
    assert "elsewhere" in (tmp_path / ".lock.json").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []
