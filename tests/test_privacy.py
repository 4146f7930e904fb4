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
from voxtile.writing.nifti import write_mask, write_volume


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


def test_a_name_of_a_file_is_in_no_result_of_a_run_or_an_evaluation(tmp_path: Path) -> None:
    image, truth = ball()
    write_volume(tmp_path / f"{MARKER}.nii.gz", image)
    write_mask(tmp_path / f"{MARKER}_label.nii.gz", truth)
    (tmp_path / f"{MARKER}_cut.nii.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / f"{MARKER}_voxels.raw").write_bytes(b"00")
    space = "space: RAS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)"
    fields = f"type: int16\ndimension: 3\nsizes: 2 2 2\nendian: little\nencoding: raw\n{space}"
    (tmp_path / f"{MARKER}.nhdr").write_text(
        f"NRRD0004\n{fields}\ndata file: {MARKER}_voxels.raw\n\n"
    )
    (tmp_path / f"{MARKER}.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_SHORT\n"
        f"ElementDataFile = {MARKER}_voxels.raw\n"
    )
    names = (".nii.gz", "_cut.nii.gz", ".nhdr", ".mhd")
    rows = [f"c{n},{MARKER}{name},{MARKER}_label.nii.gz\n" for n, name in enumerate(names)]
    manifest, out = tmp_path / "m.csv", tmp_path / "out"
    manifest.write_text("case_id,image,label\n" + "".join(rows))
    (tmp_path / "predictions").mkdir()
    for number in range(4):
        write_mask(tmp_path / f"predictions/c{number}.nii.gz", truth)
    run = run_manifest(manifest, make_bundle(), out / "run", models=[threshold_model])
    codes = [report.reason and report.reason.code for report in run.reports]
    assert codes == [None, "truncated", "truncated", "truncated"]
    words = ["--predictions", str(tmp_path / "predictions"), "--out", str(out / "scores")]
    for command in (
        ["report", str(out / "run"), "--manifest", str(manifest)],
        ["evaluate", str(manifest), *words],
    ):
        said = CliRunner().invoke(app, command)
        assert MARKER not in said.output
    page = (out / "scores/report.html").read_text()
    assert "the header promises" in page
    for path in out.rglob("*"):
        assert MARKER not in str(path.relative_to(out))
        assert not path.is_file() or MARKER.encode() not in path.read_bytes()
