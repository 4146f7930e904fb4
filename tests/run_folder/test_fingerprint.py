"""A fingerprint changes with everything that decides a result."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import dicoms
import numpy as np
import pytest
from phantoms import ball
from runs import add_case, run, write_manifest

from voxtile.errors import CaseError
from voxtile.preparation.plan import PlanWish
from voxtile.run.job import RunSettings
from voxtile.run_folder.fingerprint import InputWatch, content_hash
from voxtile.writing.nifti import write_volume


def test_a_fingerprint_changes_only_with_what_decides_the_result(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, "a")]
    manifest = write_manifest(tmp_path, rows)
    prints = [
        run(manifest, tmp_path / "1").reports[0].fingerprint,
        run(manifest, tmp_path / "2", settings=RunSettings(plan=PlanWish(batch=3)))
        .reports[0]
        .fingerprint,
        run(manifest, tmp_path / "3", settings=RunSettings(plan=PlanWish(overlap=0.1)))
        .reports[0]
        .fingerprint,
        run(manifest, tmp_path / "4", weighting="constant").reports[0].fingerprint,
    ]
    image, _ = ball(shape=(24, 20, 12))
    write_volume(tmp_path / "a.nii.gz", image.with_array(image.array + np.int16(1)))
    prints.append(run(manifest, tmp_path / "5").reports[0].fingerprint)
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_the_hash_of_a_file_equals_that_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"case_id,image\n")
    assert content_hash(tmp_path / "m.csv") == hashlib.sha256(b"case_id,image\n").hexdigest()


def test_a_fingerprint_includes_files_behind_links(tmp_path: Path) -> None:
    for name in ("elsewhere/deep/a", "scan/b", "scan/.c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    plain = content_hash(tmp_path / "scan")
    parts = (hashlib.sha256(name.encode()).digest() for name in ("scan/.c", "scan/b"))
    assert plain == hashlib.sha256(b"".join(parts)).hexdigest()  # what finished runs have
    (tmp_path / "scan/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "scan/.hidden").symlink_to("/")  # which no reader enters
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "scan")
    linked = content_hash(tmp_path / "scan")
    (tmp_path / "elsewhere/deep/a").write_text("other")
    assert len({plain, linked, content_hash(tmp_path / "scan")}) == 3


def test_a_fingerprint_includes_the_files_that_a_dicomdir_names(tmp_path: Path) -> None:
    for index, picture in enumerate(dicoms.voxels(3)):
        dicoms.save(dicoms.make_slice(index, picture), tmp_path / f"IM{index}")
    medium = dicoms.write_dicomdir(tmp_path, [["IM0"], ["IM1"]])
    before = content_hash(medium)
    (tmp_path / "IM2").unlink()
    assert content_hash(medium) == before
    dicoms.save(dicoms.make_slice(1, dicoms.voxels(1)[0]), tmp_path / "IM1")
    assert content_hash(medium) != before
    (tmp_path / "IM1").unlink()
    with pytest.raises(CaseError, match="names 2 files, but 1 of them cannot be found"):
        content_hash(medium)


def put_back(path: Path) -> None:
    """Change a file and restore its content, size and time."""
    before, times = path.read_bytes(), path.stat()
    path.write_bytes(before[::-1])
    path.write_bytes(before)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "scan/IM0").write_bytes(b"other"),
        lambda folder: put_back(folder / "scan/IM0"),
        lambda folder: (folder / "scan/IM1").unlink(),
        lambda folder: (folder / "scan/IM2").touch(),
        lambda folder: (folder / "scan/IM0").rename(folder / "scan/IM3"),
    ],
    ids=["written", "put back", "removed", "added", "renamed"],
)
def test_a_watch_finds_any_change_of_a_scan(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    (tmp_path / "scan").mkdir()
    for name in ("scan/IM0", "scan/IM1", "label"):
        (tmp_path / name).write_text(name)
    watch = InputWatch.of({"scan": tmp_path / "scan", "label": tmp_path / "label"})
    watch.check()
    time.sleep(0.02)  # clocks of file systems have steps of up to 10 ms
    change(tmp_path)
    with pytest.raises(CaseError, match="the scan was changed by another program while") as error:
        watch.check()
    assert error.value.code == "input_changed"
