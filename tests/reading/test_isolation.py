"""What a reader does in its child process, and what is left when the child dies."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from phantoms import ball

from voxtile.errors import CaseError, Notice
from voxtile.phantoms.dicom import write_series
from voxtile.reading import isolation
from voxtile.reading.dicom import read_series
from voxtile.reading.isolation import run_isolated


@pytest.fixture(params=[True, False], ids=["lent files", "a folder of files"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both ways to a child: that of POSIX systems, and that of all others."""
    monkeypatch.setattr(isolation, "_LENDS", request.param)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    assert [*tmp_path.iterdir()] == []


def test_a_result_comes_back_complete_and_read_only(way: None) -> None:
    scan = run_isolated("isolated:ramp", (3, 4, 5))
    np.testing.assert_array_equal(scan.volume.array, np.arange(60).reshape(3, 4, 5).T)
    assert scan.volume.array.dtype == np.int32
    assert not scan.volume.array.flags.writeable
    np.testing.assert_array_equal(scan.volume.affine, np.diag([2.0, 3.0, 4.0, 1.0]))
    assert scan.notices == (Notice("ramp", "a ramp"),)


def test_one_child_serves_many_scans_and_it_is_not_this_process() -> None:
    first, second = (int(run_isolated("isolated:process").volume.array[0, 0, 0]) for _ in "ab")
    assert first == second != os.getpid()


def test_results_stay_valid_when_the_next_scan_is_read(way: None) -> None:
    first = run_isolated("isolated:ramp", (1, 2, 3))
    run_isolated("isolated:ramp", (5, 5, 5))
    assert first.volume.array.sum() == 15


@pytest.mark.parametrize(
    ("function", "code", "words"),
    [
        ("die", "decoder_crashed", "at file 2 of 3 .SIGSEGV."),
        ("refuse", "truncated", "file 2 of 3 ends early"),
        ("eat", "too_large", "more memory than the limit of its reader"),
        ("eat_heap", "too_large", "more memory than the limit of its reader"),
        ("fail", "decoder_failed", "RuntimeError, isolated.py line"),
    ],
)
def test_a_failure_is_an_error_of_the_case_and_the_next_scan_is_read(
    way: None, function: str, code: str, words: str
) -> None:
    with pytest.raises(CaseError, match=words) as caught:
        run_isolated(f"isolated:{function}")
    assert caught.value.code == code
    assert "Doe" not in str(caught.value)
    assert run_isolated("isolated:ramp", (1, 2, 3)).volume.array.sum() == 15


def test_a_child_without_a_sign_of_life_is_ended(way: None) -> None:
    with pytest.raises(CaseError, match=r"no progress for 0\.5 s at file 1 of 3") as caught:
        run_isolated("isolated:fall_silent", quiet_s=0.5)
    assert caught.value.code == "decoder_hung"


def test_output_of_libraries_is_discarded(capfd: pytest.CaptureFixture[str]) -> None:
    run_isolated("isolated:chatter")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_threads_may_read_at_the_same_time() -> None:
    shapes = [(1, 2, n) for n in range(1, 20)]
    with ThreadPoolExecutor(4) as threads:
        scans = list(threads.map(lambda shape: run_isolated("isolated:ramp", shape), shapes))
    assert [scan.volume.shape for scan in scans] == [shape[::-1] for shape in shapes]


def test_a_script_without_main_guard_reads_and_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from voxtile.reading.isolation import run_isolated\n"
        "print('begin')\n"
        "print(run_isolated('isolated:ramp', (1, 2, 3)).volume.array.sum())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["begin", "15"]
    assert result.stderr == ""


def test_a_daemonic_worker_may_read() -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.apply(_sum_in_worker) == 15


def _sum_in_worker() -> int:
    return int(run_isolated("isolated:ramp", (1, 2, 3)).volume.array.sum())


def test_a_series_is_read_equally_by_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, ball()[0])
    one = read_series(tmp_path)
    monkeypatch.setattr(isolation, "_LENDS", False)
    other = read_series(tmp_path)
    np.testing.assert_array_equal(one.volume.array, other.volume.array)
    np.testing.assert_array_equal(one.volume.affine, other.volume.affine)
    assert one.notices == other.notices
