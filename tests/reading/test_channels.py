"""The channels of a case become one scan, if they are on one grid; choices are those of a run."""

import inspect
from dataclasses import fields, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicoms import voxels, write_series
from phantoms import ball
from pydicom import Dataset

from voxtile.case import Case
from voxtile.errors import CaseError, UsageError
from voxtile.models.spec import Fixed, Intensity, MinMax, NoScaling, Percentile, Window, ZScore
from voxtile.preparation.intensity import measure
from voxtile.reading.channels import read_channels, read_volume, survey_channels
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import Volume
from voxtile.writing.nifti import write_volume

IMAGE, _ = ball()


def pair(folder: Path, voxels: float) -> Case:
    """A case of two channels; the last corner of the second is some voxels off along k."""
    step = np.diag([1, 1, 1 + voxels / (IMAGE.shape[2] - 1), 1])
    write_volume(folder / "a.nii.gz", IMAGE)
    write_volume(folder / "b.nii.gz", Volume(IMAGE.array, IMAGE.affine @ step))
    return Case("x", (("t1", folder / "a.nii.gz"), ("t2", folder / "b.nii.gz")))


@pytest.mark.parametrize("read", [read_channels, survey_channels])
def test_a_channel_may_be_a_tenth_of_a_voxel_off(tmp_path: Path, read) -> None:
    scan = read(pair(tmp_path, 0.05), ("t1", "t2"))
    np.testing.assert_allclose(scan.volume.affine, IMAGE.affine, atol=1e-5)
    assert [str(notice).split(" voxels")[0] for notice in scan.notices] == [
        "channel_off_grid: channel t2 is up to 0.05"
    ]
    assert not read(pair(tmp_path, 0), ("t1", "t2")).notices
    with pytest.raises(CaseError, match=r"channel t2 has shape .* resample one of them"):
        read(pair(tmp_path, 0.11), ("t1", "t2"))


def test_reading_a_volume_takes_every_choice_of_a_run() -> None:
    choices = {
        name: one.default
        for name, one in inspect.signature(read_volume).parameters.items()
        if one.kind is one.KEYWORD_ONLY
    }
    assert choices == {field.name: field.default for field in fields(ReadPolicy)}
    with pytest.raises(UsageError, match="tilt 'maybe' must be one of refuse, native, resample"):
        read_volume("a.nii", tilt="maybe")  # type: ignore[arg-type]


def test_each_choice_has_its_effect(tmp_path: Path) -> None:
    array = np.stack([IMAGE.array.astype(np.float32)] * 2, axis=-1)
    array[..., 1] += 1
    array[0, 0, 0, 1] = np.nan
    nibabel.Nifti1Image(array, IMAGE.affine).to_filename(tmp_path / "four.nii")
    second = read_volume(str(tmp_path / "four.nii"), volume=1, nan="fill").array
    assert second[0, 0, 0] == 1
    np.testing.assert_array_equal(second[1:], IMAGE.array[1:] + 1)

    def described(name: str, uid: str):
        def change(dataset: Dataset, _: int) -> None:
            dataset.SeriesDescription, dataset.SeriesInstanceUID = name, uid

        return change

    stored = voxels(5)
    write_series(tmp_path / "both/1", stored, described("T1 mprage Doe", "1.2.1"))
    write_series(tmp_path / "both/2", stored[:3] // 2, described("T2, axial", "1.2.2"))
    for rule in ("description=t1*", "1.2.1", "largest", "description=* MPRAGE doe,modality=CT"):
        volume = read_volume(tmp_path / "both", series=rule)
        np.testing.assert_array_equal(volume.array, stored.transpose(2, 1, 0).astype(int) - 1024)
    assert read_volume(tmp_path / "both", series="description=t2? axial").shape[2] == 3
    for rule in ("description=t1", "description=t*"):
        with pytest.raises(CaseError, match=r"no series matches|there are 2 series") as caught:
            read_volume(tmp_path / "both", series=rule)
        assert "Doe" not in caught.value.sentence

    gap = tmp_path / "gap"
    write_series(gap, stored, described("a", "1.2.3"))
    (gap / "002.dcm").unlink()
    assert read_volume(gap, missing_slices="interpolate").shape[2] == 5
    write_series(gap / "more", stored[:1] // 2, described("a", "1.2.3"))
    with pytest.raises(CaseError, match="duplicates first"):
        read_volume(gap, missing_slices="interpolate")
    read_volume(gap, missing_slices="interpolate", duplicates="first")

    def lean(dataset: Dataset, index: int) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, f"{float(y) + index:.6g}", z]

    write_series(tmp_path / "tilted", stored, lean)
    with pytest.raises(CaseError, match="tilt"):
        read_volume(tmp_path / "tilted")
    assert read_volume(tmp_path / "tilted", tilt="native").shape == (6, 4, 5)


def gap(folder: Path, first: str = "t1") -> Case:
    """A case of two channels, of which only one has an image."""
    case = pair(folder, 0)
    return replace(case, images=((first, folder / "a.nii.gz"),), channels=("t1", "t2"))


@pytest.mark.parametrize(
    "method",
    [
        NoScaling(),
        MinMax(),
        Percentile(),
        ZScore(),
        ZScore(nonzero=True, clip=(0.5, 99.5)),
        Window(center=40, width=401),
        Fixed(mean=33.3, sd=7, low=-100, high=200),
    ],
)
def test_a_missing_channel_is_scaled_to_zeros(tmp_path: Path, method: Intensity) -> None:
    scan = read_channels(gap(tmp_path), ("t1", "t2"), None, {"t2": method.zero})
    channel = scan.volume.array[..., 1]
    np.testing.assert_array_equal(measure(channel, method).apply(channel), 0)
    np.testing.assert_array_equal(scan.volume.array[..., 0], IMAGE.array)
    assert [notice.code for notice in scan.notices] == ["channel_missing"]


@pytest.mark.parametrize("read", [read_channels, survey_channels])
def test_the_grid_is_that_of_the_first_channel_that_is_there(tmp_path: Path, read) -> None:
    scan = read(gap(tmp_path, "t2"), ("t1", "t2"), None, {"t1": 0.0})
    assert scan.volume.shape == IMAGE.shape
    np.testing.assert_allclose(scan.volume.affine, IMAGE.affine, atol=1e-6)


def test_only_a_model_that_was_trained_so_takes_a_case_without_a_channel(tmp_path: Path) -> None:
    for absent in (None, {"t1": 0.0}):
        with pytest.raises(CaseError, match=r"cell of image_t2 is empty.* add the scan, leave"):
            read_channels(gap(tmp_path), ("t1", "t2"), None, absent)
    with pytest.raises(CaseError, match=r"at least one channel is needed"):
        read_channels(gap(tmp_path), ("t2",), None, {"t2": 0.0})
    # A model of one channel of any name must not take what is left of several.
    with pytest.raises(CaseError, match="model needs channels image"):
        read_channels(gap(tmp_path), ("image",))
