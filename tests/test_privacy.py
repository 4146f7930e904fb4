"""No text of a DICOM file and no name of one reaches anything that a run leaves or says."""

import gzip
from pathlib import Path

import pydicom
import pytest
from phantoms import ball, make_bundle, threshold_model
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from typer.testing import CliRunner

from voxtile import run_manifest
from voxtile.cli import app
from voxtile.phantom_dicom import write_series
from voxtile.run import RunSettings
from voxtile.scan import ReadPolicy

MARKER = "ZEBRAFISH"
TEXT = {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE"}


def mark(folder: Path) -> None:
    """Plant the marker in every text tag, in private tags and in the file names of a series."""
    for number, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        for element in dataset:
            if element.VR in TEXT:
                element.value = MARKER
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientAddress",
            "PatientComments",
            "InstitutionName",
            "OperatorsName",
            "StudyDescription",
            "SeriesDescription",
            "ProtocolName",
            "ImageComments",
            "StationName",
            "ReferringPhysicianName",
            "AccessionNumber",
        ):
            dataset.add(DataElement(keyword, dictionary_VR(keyword), MARKER[:16]))
        block = dataset.private_block(0x0029, f"{MARKER} 1.0", create=True)
        block.add_new(0x10, "LO", MARKER)
        dataset.save_as(folder / f"{MARKER}_{number:03d}.dcm", enforce_file_format=True)
        path.unlink()


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
