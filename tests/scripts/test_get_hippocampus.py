"""`scripts/get_hippocampus` against an archive as the Decathlon's, served on this machine."""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from file_server import serving

from voxtile.errors import SourceError
from voxtile.manifest.rows import read_manifest
from voxtile.volume import Volume
from voxtile.writing.nifti import nifti_bytes

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "get_hippocampus.py"
# Of the shipped manifest; then two whose digest 5 divides, as all that are not in it.
LISTED = {"hippocampus_001": "train", "hippocampus_006": "train", "hippocampus_007": "val"}
HELD_BACK = ["hippocampus_003", "hippocampus_034"]


def load():
    """The script, as a module."""
    spec = spec_from_file_location("get_hippocampus", SCRIPT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scan(spacing: float = 1.0, shape: tuple[int, int, int] = (5, 6, 7)) -> bytes:
    """A scan's file."""
    affine = np.diag([spacing, spacing, spacing, 1])
    return nifti_bytes(Volume(np.ones(shape, np.uint8), affine))


def archive(names: list[str], **changes: bytes | None) -> bytes:
    """An archive with an image and a label for each case, but for what is changed or left out."""
    files = {}
    for name in names:
        files[f"imagesTr/{name}.nii.gz"] = scan()
        files[f"labelsTr/{name}.nii.gz"] = changes.get(name, scan())
    training = [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        for name in names
    ]
    files["imagesTs/hippocampus_002.nii.gz"] = scan()
    files["dataset.json"] = json.dumps({"numTraining": len(names), "training": training}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            if content is not None:
                info = tarfile.TarInfo(f"Task04_Hippocampus/{path}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A manifest of three cases."""
    path = tmp_path / "listed.csv"
    rows = [f"{n},images/{n}.nii.gz,labels/{n}.nii.gz,{split}\n" for n, split in LISTED.items()]
    path.write_text("case_id,image,label,split\n" + "".join(rows))
    return path


@pytest.fixture
def get(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listed: Path):
    """Run the script's function on an archive; what it says, and the requests that it made."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def run(content: bytes) -> tuple[list[str], int]:
        said: list[str] = []
        with serving(content) as served:
            md5 = hashlib.md5(content).hexdigest()
            load().get(tmp_path / "out", url=served.url, md5=md5, listed=listed, say=said.append)
        return said, served.requests

    return run


def rows_of(folder: Path) -> dict[str, str]:
    """The split of each case of the written manifest."""
    with (folder / "out/Task04_Hippocampus/hippocampus.csv").open() as file:
        return {row["case_id"]: row["split"] for row in csv.DictReader(file)}


def test_what_is_not_listed_is_test_and_everything_can_be_read(get, tmp_path: Path) -> None:
    said, _ = get(archive([*HELD_BACK, *LISTED]))
    assert rows_of(tmp_path) == {**LISTED, **dict.fromkeys(HELD_BACK, "test")}
    assert said[-1].endswith("hippocampus.csv: 2 train, 1 val, 2 test")
    assert "2 other labelled cases were found, but 43 were expected" in said[-2]
    data = tmp_path / "out/Task04_Hippocampus"
    assert len(read_manifest(data / "hippocampus.csv")) == 5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "Task04_Hippocampus",
        "Task04_Hippocampus.tar",
        ".Task04_Hippocampus.lock",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"out", "listed.csv"}


def test_the_manifest_of_the_repository_finds_the_files_too(
    get, tmp_path: Path, listed: Path
) -> None:
    get(archive([*HELD_BACK, *LISTED]))
    cases = read_manifest(listed, root=tmp_path / "out/Task04_Hippocampus")
    assert [case.case_id for case in cases] == list(LISTED)


def test_a_second_run_asks_for_nothing_and_writes_the_same(get, tmp_path: Path) -> None:
    content = archive([*HELD_BACK, *LISTED])
    get(content)
    first = (tmp_path / "out/Task04_Hippocampus/hippocampus.csv").read_bytes()
    said, asked = get(content)
    assert asked == 0
    assert "exists; nothing is downloaded" in said[0]
    assert (tmp_path / "out/Task04_Hippocampus/hippocampus.csv").read_bytes() == first
    (tmp_path / "out/Task04_Hippocampus.tar").unlink()  # not needed any more
    assert get(content)[1] == 0


def test_labels_that_fit_no_image_are_left_out_and_named(get, tmp_path: Path) -> None:
    content = archive(
        [*HELD_BACK, "hippocampus_118", "hippocampus_281", *LISTED],
        hippocampus_118=None,
        hippocampus_281=scan(5.0, (9, 9, 9)),
    )
    said, _ = get(content)
    assert rows_of(tmp_path) == {**LISTED, **dict.fromkeys(HELD_BACK, "test")}
    left_out = [sentence for sentence in said if "is left out" in sentence]
    assert "hippocampus_118 is left out: " in left_out[0]
    assert "hippocampus_281 is left out: its label, (9, 9, 9), has another grid" in left_out[1]


def test_a_case_that_the_rule_would_have_given_to_development_is_said(get) -> None:
    said, _ = get(archive(["hippocampus_002", *LISTED]))
    assert "not held back by the rule of manifests/README.md: hippocampus_002" in said


def test_another_edition_is_refused(get, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"1 of the 3 cases of listed\.csv, such as hippocamp"):
        get(archive([*HELD_BACK, "hippocampus_001", "hippocampus_006"]))
    assert not (tmp_path / "out/Task04_Hippocampus/hippocampus.csv").exists()


def test_a_listed_case_with_another_label_is_refused(get) -> None:
    with pytest.raises(SourceError, match=r"hippocampus_006: its label.*remove"):
        get(archive(list(LISTED), hippocampus_006=scan(2.0)))


def test_the_held_back_cases_of_these_tests_are_none_of_the_217() -> None:
    with (ROOT / "manifests/hippocampus.csv").open() as file:
        shipped = {row["case_id"] for row in csv.DictReader(file)}
    digests = {name: int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 for name in shipped}
    assert set(LISTED) <= shipped
    assert all(digests.values())  # the rule of manifests/README.md, for what is listed
    for name in (*HELD_BACK, "hippocampus_118", "hippocampus_281"):
        assert int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 == 0


@pytest.mark.parametrize(("status", "code"), [(404, 6), (200, 4)])
def test_exit_codes(tmp_path: Path, status: int, code: int) -> None:
    # The script with another address, in a process of its own: no test reaches the internet.
    with serving(b"no archive", statuses=[status] if status != 200 else []) as served:
        program = (
            f"import runpy, sys; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
            f"sys.argv = ['get', {str(tmp_path / 'out')!r}]\n"
            "import voxtile.machine.download as d; real = d.download\n"
            f"d.download = lambda url, *words: real({served.url!r}, *words)\n"
            f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        )
        environment = {**os.environ, "no_proxy": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert ("404" if status == 404 else "9d24dba78a72977dbd1d2e110310f31b") in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".Task04_Hippocampus.lock"]


def test_no_folder_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Missing argument" in done.stderr
