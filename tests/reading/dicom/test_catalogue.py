"""A file that is recognised by a few tags has the entry that its whole header gives."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from dicoms import make_slice

import voxtile.reading.dicom as room
from voxtile.reading.dicom import catalogue

module = import_module("voxtile.reading.dicom.catalogue")
room.catalogue = catalogue  # importing the module puts it in the place of the function


class Silent:
    """A workspace that nobody watches."""

    def at(self, place: str) -> None:
        """Take the name of a file."""


def entries(paths: list[Path], monkeypatch, *, whole: bool):
    with monkeypatch.context() as changed:
        if whole:
            changed.setattr(module, "glance", lambda place: None)
        return module.catalogue_here(Silent(), [str(path) for path in paths], True)


def write(folder: Path, *changes: dict) -> list[Path]:
    paths = []
    for index, change in enumerate(changes):
        pixels = np.zeros((4, 6), np.int16)
        paths.append(folder / f"{index}.dcm")
        make_slice(index, pixels, **change).save_as(paths[-1], enforce_file_format=True)
    return paths


ODD = {
    "scout": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    "no position": {"ImagePositionPatient": None},
    "position of one number": {"ImagePositionPatient": [1.0]},
    "colour": {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
    "other patient": {"PatientID": "other"},
    "other series": {"SeriesInstanceUID": "1.2.3"},
    "other modality": {"Modality": "PT"},
    "other frame": {"FrameOfReferenceUID": "1.2.3"},
    "frames": {"NumberOfFrames": 2},
    "mosaic": {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]},
}


@pytest.mark.parametrize("odd", ODD)
def test_a_file_that_differs_is_read_completely(tmp_path: Path, monkeypatch, odd) -> None:
    paths = write(tmp_path, {}, {}, ODD[odd], {}, ODD[odd])
    some = entries(paths, monkeypatch, whole=False)
    assert some == entries(paths, monkeypatch, whole=True)
    assert some[2] != {**some[1], "instance": some[2]["instance"]}


def test_files_that_are_alike_are_read_by_a_few_tags(tmp_path: Path, monkeypatch) -> None:
    paths = write(tmp_path, *[{}] * 5)
    read = []
    header = module.read_header
    monkeypatch.setattr(
        module, "read_header", lambda place: read.append(place.number) or header(place)
    )
    found = entries(paths, monkeypatch, whole=False)
    assert read == [1]
    assert len({entry["instance"] for entry in found}) == 5


def test_a_file_without_pixels_is_not_like_one_with_them(tmp_path: Path, monkeypatch) -> None:
    paths = write(tmp_path, {}, {}, {})
    whole = make_slice(1, np.zeros((4, 6), np.int16))
    del whole.PixelData
    whole.save_as(paths[1], enforce_file_format=True)
    paths[2].write_bytes(paths[2].read_bytes()[:300])
    some = entries(paths, monkeypatch, whole=False)
    assert some == entries(paths, monkeypatch, whole=True)


def test_the_corpora_have_the_same_entries(data_dir: Path, monkeypatch) -> None:
    paths = sorted(
        path
        for folder in ("dicom_to_nifti", "dicom_seg_rtstruct", "edge_cases/dicom")
        for path in (data_dir / folder).rglob("*")
        if path.is_file()
    )
    assert len(paths) > 200
    some = entries(paths, monkeypatch, whole=False)
    whole = entries(paths, monkeypatch, whole=True)
    for path, one, other in zip(paths, some, whole, strict=True):
        assert one == other, path
    assert catalogue(paths[:3]) == [
        entry and {name: one for name, one in entry.items() if name != "identity"}
        for entry in some[:3]
    ]
