"""A pipe, device or folder where a file is needed is refused at once, and nothing waits for it."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from phantoms import ball
from runs import add_case, write_manifest
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.errors import CaseError
from voxtile.manifest.names import find_files
from voxtile.reading.channels import read_scan
from voxtile.run_folder.fingerprint import content_hash
from voxtile.writing.nifti import write_mask


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


@pytest.fixture(params=["pipe", "device", "folder"])
def special(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Something that is not a file."""
    path = tmp_path / "special.nii.gz"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    return write_manifest(tmp_path, [add_case(tmp_path, "c1")])


def test_a_file_larger_than_the_memory_is_the_reason_of_its_case_at_once(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((32767, 32767, 100))  # 100 GiB, of which nothing is on the disk
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path = tmp_path / "doe_jane.nii"
    with path.open("wb") as file:
        file.write(header.binaryblock)
        file.truncate(352 + 32767 * 32767 * 100)
    with pytest.raises(CaseError, match=r"100\.0 GiB of voxels, but .* GiB of memory are free"):
        read_scan(path)
    with pytest.raises(CaseError, match="which is more than the memory of this machine or job"):
        content_hash(path)
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"case_id,image,label\nc1,{path.name},{path.name}\n")
    code, said = invoke("run", manifest, "hippocampus", "--out", tmp_path / "out", "--no-html")
    assert code == 3 and "failed  too_large: an input has 100.0 GiB" in said
    code, said = invoke("manifest", "check", manifest, "--deep")
    assert code == 4 and "too_large" in said


def test_commands_refuse_what_is_not_a_file(special: Path, cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    masks = tmp_path / "masks"
    write_mask(masks / "c1.nii.gz", ball()[1])
    for expected, *arguments in (
        (4, "run", special, "hippocampus", "--out", out),
        (4, "plan", special, "hippocampus"),
        (4, "evaluate", special, "--predictions", tmp_path, "--out", out),
        (4, "convert", special, tmp_path / "new.nii.gz"),
        (4, "segment", special, "hippocampus", tmp_path / "new.nii.gz"),
        (4, "manifest", "check", special),
        (4, "manifest", "split", special, "--folds", 2, "--out", out),
        (4, "train", special, "--out", out),
        (4, "train", cohort, "--out", out, "--recipe", special),
        (4, "evaluate", cohort, "--predictions", masks, "--labels", special, "--out", out),
    ):
        code, said = invoke(*arguments)
        assert (code, "Traceback" in said, out.exists()) == (expected, False, False), said


def test_an_imported_network_must_be_a_file(special: Path, cohort: Path, tmp_path: Path) -> None:
    network = special.rename(tmp_path / "network.onnx")
    out = tmp_path / "out"
    for file, spec in ((network, cohort), (cohort.rename(tmp_path / "n.onnx"), network)):
        code, said = invoke("models", "import", file, "--spec", spec, "--out", out)
        assert (code, "Traceback" in said, out.exists()) == (5, False, False), said


def test_a_manifest_that_names_a_pipe_or_device_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    row = add_case(tmp_path, "c1")
    for column, name in (("image", "pipe"), ("label", "device"), ("image", "device")):
        manifest = write_manifest(tmp_path, [row | {column: name}])
        code, said = invoke("run", manifest, "hippocampus", "--out", tmp_path / "out")
        assert (code, f"{column} '{name}' is a pipe, socket or device" in said) == (4, True)
        assert not (tmp_path / "out").exists()


def test_a_pipe_that_appears_later_costs_its_case(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.nii.gz")
    for name in ("a.nii.gz", "a.dcm", "DICOMDIR"):
        if name != "a.nii.gz":
            (tmp_path / name).symlink_to("a.nii.gz")
        with pytest.raises(CaseError):
            content_hash(tmp_path / name)
        with pytest.raises(CaseError):
            read_scan(tmp_path / name)
    assert find_files(tmp_path) == []
