"""The state of a run folder, during a run and afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest
from faulty import (
    run_faulty,
    valid_cases,
)

from voxtile.batch.status import read_status, status_lines
from voxtile.errors import ManifestError


def test_status_counts_done_failed_running_and_missing_cases(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 4)
    (tmp_path / "c001.nii.gz").write_bytes(b"")
    out = tmp_path / "out"
    with pytest.raises(ManifestError, match="is not a run folder"):
        read_status(tmp_path)
    seen = []

    def look(report, number, count) -> None:
        seen.append(read_status(out))

    run_faulty(manifest, out, on_case=look)
    assert [(status.done, status.failed, len(status.missing)) for status in seen] == [
        (1, 0, 3),
        (1, 1, 2),
        (2, 1, 1),
        (3, 1, 0),
    ]
    assert all("process" in status.runs[0] for status in seen)
    status = read_status(out)
    assert (status.total, status.done, status.reasons, status.runs) == (4, 3, {"empty_file": 1}, ())
    assert (status.usable, status.look) == (3, {})
    assert "  verdict: 4 cases: 3 usable, 0 to look at, 1 failed" in status_lines(status)
    (out / "cases/c003.json").unlink()
    lines = list(status_lines(read_status(out)))
    assert lines[0] == "4 cases: 2 done, 1 failed, 0 running, 1 missing"
    assert "  verdict: 4 cases: 2 usable, 0 to look at, 1 failed, 1 missing" in lines
    assert "  missing: c003" in lines
    assert "the same command again" in lines[-1]


def test_status_imports_nothing_heavy() -> None:
    code = (
        "import sys, voxtile.batch.status; "
        "print([m for m in ('numpy', 'pandas', 'keras', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
