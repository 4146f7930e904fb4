"""A run folder is made ready, and cleaned."""

import shutil
from pathlib import Path

import pytest
from faulty import (
    run_faulty,
    temporary_files,
    valid_cases,
)

from voxtile.batch.folder import clear
from voxtile.batch.settings import BatchSettings
from voxtile.case import Case
from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.shard import Shard


def make_temporary_files(out: Path, case_id: str) -> list[Path]:
    """Make temporary files of a case wherever a writer may have been killed."""
    entities = f"sub-{case_id}"
    places = [
        f"cases/{case_id}.json",
        f"masks/{case_id}.nii.gz",
        f"qc/{case_id}.png",
        f"images/{case_id}.nii.gz",
        f"exports/seg.nrrd/{case_id}.seg.nrrd",
        f"exports/dicom-seg/{case_id}.dcm",
        f"exports/glb/{case_id}.glb",
        f"exports/binary/{case_id}/1_ball.nii.gz",
        f"exports/bids/{entities}/anat/{entities}_desc-threshold_dseg.nii.gz",
    ]
    paths = [out / Path(place).parent / f".{Path(place).name}.abcd1234.tmp" for place in places]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"patient data")
    return paths


def test_temporary_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 2)
    out = tmp_path / "out"
    own, others = (make_temporary_files(out, name) for name in ("c000", "c001"))
    run_faulty(manifest, out, BatchSettings(shard=Shard(1, 2)))
    assert not any(path.exists() for path in own)
    assert all(path.exists() for path in others)
    (out / "report_files/volumes").mkdir(parents=True)
    (out / "report_files/volumes/.c001.js.abcd1234.tmp").touch()
    run_faulty(manifest, out)
    assert temporary_files(out) == []


def test_temporary_images_of_a_killed_shard_are_removed_by_their_channels(tmp_path: Path) -> None:
    case = Case("c", (("ct", tmp_path), ("pet", tmp_path)))
    for name in ("c_ct", "c_pet", "c", "other_ct"):
        path = tmp_path / f"images/.{name}.nii.gz.abcd1234.tmp"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    clear(RunFolder(tmp_path), [case], Shard(1, 2), ("ct", "pet"))
    left = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert left == [".c.nii.gz.abcd1234.tmp", ".other_ct.nii.gz.abcd1234.tmp"]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 1)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (out / "masks/c000.nii.gz").unlink()
    (out / "masks/c000.nii.gz").symlink_to(victim)
    run_faulty(manifest, out)
    assert victim.read_text() == "precious"
    assert not (out / "masks/c000.nii.gz").is_symlink()
    table = (out / "report.csv").read_bytes()
    (out / "report.csv").unlink()
    (out / "report.csv").symlink_to(victim)
    with pytest.raises(ManifestError, match=r"report.csv would be replaced"):
        run_faulty(manifest, out)
    assert victim.read_text() == "precious"
    (out / "report.csv").unlink()
    (out / "report.csv").write_bytes(table)
    (out / "events.jsonl").unlink()
    (out / "events.jsonl").symlink_to(victim)
    with pytest.raises(EnvironmentFault, match=r"events.jsonl cannot be written"):
        run_faulty(manifest, out)
    assert victim.read_text() == "precious"


def test_a_full_disk_is_found_before_the_first_case(tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(EnvironmentFault, match="has 1 MB free, and at least 64 MB are needed"):
        run_faulty(valid_cases(tmp_path, 1), tmp_path / "out")
