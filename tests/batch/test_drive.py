"""A batch: workers change no result, and too many failures stop it."""

from pathlib import Path

import pytest
from faulty import (
    VALID,
    make_cases,
    results,
    run_faulty,
    temporary_files,
    valid_cases,
)

from voxtile.batch.settings import BatchSettings
from voxtile.engines import Wish, choose_engine
from voxtile.models.bundle import load_bundle


def test_results_do_not_depend_on_workers(tmp_path: Path) -> None:
    manifest = make_cases(
        tmp_path, {**{f"c{number}": VALID for number in range(5)}, "broken": VALID}
    )
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    run_faulty(manifest, tmp_path / "here")
    expected = results(tmp_path / "here")
    assert len(expected) == 5 + 6 + 2
    for workers in (1, 3):
        out = tmp_path / f"workers{workers}"
        result = run_faulty(manifest, out, BatchSettings(workers=workers))
        assert [report.case_id for report in result.reports][-1] == "broken"
        assert results(out) == expected
        assert temporary_files(out) == []


@pytest.mark.parametrize("workers", [None, 1])
def test_too_many_failures_stop_the_batch(tmp_path: Path, workers) -> None:
    manifest = valid_cases(tmp_path, 6)
    for number in (1, 2):
        (tmp_path / f"c00{number}.nii.gz").write_bytes(b"")
    out = tmp_path / "out"
    result = run_faulty(manifest, out, BatchSettings(workers=workers, max_failures=1))
    assert (len(result.reports), result.not_run) == (2, 4)
    assert len((out / "report.csv").read_text().splitlines()) == 3
    result = run_faulty(manifest, out, BatchSettings(workers=workers))
    assert (result.kept, len(result.failed), result.not_run) == (2, 2, 0)


def test_engine_facts_without_importing_keras_equal_those_of_keras() -> None:
    from voxtile.models.backend import keras

    facts = choose_engine(load_bundle("hippocampus"), Wish(engine="keras")).decisive()
    assert facts["keras"] == keras.__version__
    assert facts["backend"] == keras.backend.backend()
    assert (facts["precision"], facts["device"]) == ("float32", "cpu")
