"""Which cases of a manifest a run does."""

from pathlib import Path

import pytest
from runs import add_case, run, write_manifest

from voxtile.errors import ManifestError
from voxtile.run.job import RunSettings


def test_only_the_chosen_splits_run(tmp_path: Path) -> None:
    rows = [
        {**add_case(tmp_path, name), "split": split}
        for name, split in zip("abc", ("train", "val", "test"), strict=True)
    ]
    manifest = write_manifest(tmp_path, rows)
    result = run(manifest, tmp_path / "out", settings=RunSettings(splits=("val", "test")))
    assert [report.case_id for report in result.reports] == ["b", "c"]
    rows[1]["split"] = rows[2]["split"] = "train"
    with pytest.raises(ManifestError, match="no case of split val"):
        run(write_manifest(tmp_path, rows), tmp_path / "x", settings=RunSettings(splits=("val",)))
