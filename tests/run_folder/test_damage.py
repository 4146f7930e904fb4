"""A damaged file of a run folder is no traceback, and changes no number without a word."""

import json
import os
import random
from pathlib import Path

import pytest
from commands import invoke
from damage import DamagedFolders
from faulty import run_faulty, valid_cases

from voxtile.machine.json_objects import sealed
from voxtile.run_folder.lock import locked


def test_any_damaged_file_is_named_or_changes_nothing(tmp_path: Path) -> None:
    folders = DamagedFolders(tmp_path)
    rng = random.Random(19)
    for file in folders.one_of_each():
        folders.try_all(file, rng)


@pytest.mark.parametrize(
    "text",
    [
        b'{"pid": 1' + b"0" * 30 + b', "host": "h"}',
        b'{"running": {}, "eta_s": NaN}',
        b'{"running": {"a": 1}, "eta_s": 1}',
        b'{"running": {}, "eta_s": 1e300}',
        b'{"a":' * 100_000,
        b"[]",
    ],
)
def test_damaged_files_of_a_run_that_goes_on_do_not_hide_its_state(
    tmp_path: Path, text: bytes
) -> None:
    manifest, out = valid_cases(tmp_path, 1), tmp_path / "out"
    run_faulty(manifest, out)
    with locked(out):
        (out / "running.json").write_bytes(text)
        (out / ".lock-1-of-2.json").write_bytes(text)
        code, said = invoke("status", out)
        assert (code, said.splitlines()[0]) == (0, "1 case: 1 done, 0 failed, 0 running, 0 missing")
        for words in (("report", out), ("export", out, "--to", "tables"), ("merge", out)):
            code, said = invoke(*words)
            assert code in (4, 6), said  # no shards, or in use by this process
        assert "ends in about" not in said
    (out / ".lock.json").write_bytes(text)
    assert run_faulty(manifest, out).kept == 1


def test_a_pipe_or_a_huge_file_instead_of_json_is_refused_at_once(tmp_path: Path) -> None:
    manifest, out = valid_cases(tmp_path, 2), tmp_path / "out"
    run_faulty(manifest, out)
    (out / "cases/c000.json").unlink()
    os.mkfifo(out / "cases/c000.json")
    os.truncate(out / "cases/c001.json", 1 << 40)
    said = invoke("status", out)[1]
    assert "c000: its record is damaged: it is a pipe" in said
    assert "c001: its record is damaged: it has more than 256 MiB" in said
    assert run_faulty(manifest, out).kept == 0


def test_clocks_that_run_ahead_do_not_hide_a_later_run(tmp_path: Path) -> None:
    manifest, out = valid_cases(tmp_path, 3), tmp_path / "out"
    run_faulty(manifest, out)
    facts = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(sealed({**facts, "started": "9999-12-31T23:59:59"})))
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:-1]))
    assert run_faulty(manifest, out).kept == 2
    assert invoke("status", out)[1].startswith("2 cases: 2 done")
