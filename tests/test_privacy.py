"""No text of a DICOM file and no name of one reaches anything that a run leaves or says."""

import gzip
from pathlib import Path

import pytest
from patients import MARKER, mark
from phantoms import ball, make_bundle, threshold_model
from typer.testing import CliRunner

from voxtile import run_manifest
from voxtile.cli import app
from voxtile.phantoms.dicom import write_series
from voxtile.reading.scan import ReadPolicy
from voxtile.run.job import RunSettings


@pytest.mark.parametrize("damage", ["none", "cut", "missing"])
def test_a_planted_marker_appears_nowhere(tmp_path: Path, capfd, caplog, damage) -> None:
    series = tmp_path / "series"
    image, _ = ball(axes="LPS")
    write_series(series, image)
    mark(series)
    files = sorted(series.iterdir())
    if damage == "cut":
        files[4].write_bytes(files[4].read_bytes()[:-100])
    if damage == "missing":
        files[4].unlink()
    (tmp_path / "m.csv").write_text("case_id,image,series\na,series,\nb,series,modality=MR\n")
    out = tmp_path / "out"
    settings = RunSettings(policy=ReadPolicy(missing_slices="interpolate"))
    result = run_manifest(
        tmp_path / "m.csv", make_bundle(), out, models=[threshold_model], settings=settings
    )
    assert [report.status for report in result.reports] == [
        "failed" if damage == "cut" else "done",
        "failed",
    ]
    said = CliRunner().invoke(app, ["segment", str(series), "hippocampus", str(out / "m.nii.gz")])
    captured = capfd.readouterr()
    everything = [captured.out, captured.err, caplog.text, said.output]
    everything += [str(path.relative_to(out)) for path in out.rglob("*")]
    for path in out.rglob("*.nii.gz"):
        everything.append(gzip.decompress(path.read_bytes())[:100_000].decode("latin-1"))
    everything += [path.read_bytes().decode("latin-1") for path in out.rglob("*") if path.is_file()]
    assert len(everything) > 8
    for text in everything:
        assert MARKER.lower() not in text.lower()
