"""One table says which file belongs to which reader; everyone asks it."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from voxtile.manifest.build import Outputs, build_manifest, detect
from voxtile.manifest.rows import read_manifest
from voxtile.reading import formats
from voxtile.reading.channels import read_scan, survey_scan
from voxtile.reading.formats import (
    DICOM,
    FILES,
    Format,
    files_of,
    find_volume,
    format_of,
    is_volume,
    split_suffix,
)
from voxtile.reading.scan import Scan
from voxtile.volume import Volume


@pytest.mark.parametrize(
    ("name", "stem", "volume"),
    [
        ("a.b.nii.gz", "a.b", True),
        ("A.NII", "A", True),
        ("a.hdr.gz", "a", True),
        ("a.img", "a", False),
        ("a.img.gz", "a", False),
        ("a.dcm", "a.dcm", False),
        ("nii", "nii", False),
    ],
)
def test_names_are_split_before_the_suffix_of_a_volume(name, stem, volume) -> None:
    assert split_suffix(name)[0] == stem
    assert is_volume(Path(name)) == volume


def test_dicom_is_recognised_by_content_and_other_formats_by_suffix(tmp_path: Path) -> None:
    (tmp_path / "scan").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "text").write_text("text")
    assert format_of(tmp_path) is format_of(tmp_path / "scan") is DICOM
    assert format_of(Path("missing.dcm")) is format_of(Path("missing.IMA")) is DICOM
    # The reader of the first format says what such a file is instead.
    assert format_of(tmp_path / "text") is format_of(tmp_path / "a.nii") is FILES[0]


def test_a_pair_is_both_of_its_files_whichever_is_named(tmp_path: Path) -> None:
    pair = [tmp_path / "A.hdr", tmp_path / "a.img.gz"]
    for path in (*pair, tmp_path / "a.nii", tmp_path / "ab.img"):
        path.touch()
    assert files_of(pair[0]) == files_of(pair[1]) == pair
    assert files_of(tmp_path / "a.nii") == [tmp_path / "a.nii"]


def test_a_volume_is_found_under_any_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.hdr").touch()
    (tmp_path / "a.nii").touch()
    assert find_volume(tmp_path, "a") == tmp_path / "a.nii"
    assert find_volume(tmp_path, "b") is None


def test_a_module_and_a_row_are_enough_for_another_format(tmp_path: Path, monkeypatch) -> None:
    def read(path: Path, _: object) -> Scan:
        return Scan(Volume(np.full((2, 2, 2), int(path.read_text())), np.eye(4)))

    module = ModuleType("voxtile.reading.counting")
    module.read = module.survey = read  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    counting = Format("Counting", "counting", "read", "survey", (".count",))
    monkeypatch.setattr(formats, "FILES", (*FILES, counting))
    monkeypatch.setattr(formats, "SUFFIXES", (*formats.SUFFIXES, ".count"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d/c1.count").write_text("7")
    assert read_scan(tmp_path / "d/c1.count").volume.array.max() == 7
    assert survey_scan(tmp_path / "d/c1.count").volume.array.max() == 7
    assert detect(tmp_path / "d") == "nifti"
    build_manifest(tmp_path / "d", Outputs(tmp_path / "m.csv"), kind="nifti")
    (case,) = read_manifest(tmp_path / "m.csv")
    assert (case.case_id, case.images) == ("c1", (("image", tmp_path / "d/c1.count"),))
