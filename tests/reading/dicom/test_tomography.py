"""Reconstructed nuclear medicine in one file: each frame is where the detector's item says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicoms import OBLIQUE, make_slice, save, voxels
from pydicom import Dataset
from pydicom.uid import NuclearMedicineImageStorage

from voxtile.errors import CaseError
from voxtile.reading.channels import read_volume
from voxtile.reading.dicom import read_series
from voxtile.reading.scan import ReadPolicy


def tomogram(stored: np.ndarray, **changes: Any) -> Dataset:
    """A reconstruction whose frames are 4 mm apart."""
    detector = Dataset()
    detector.ImagePositionPatient = [-30.0, 12.5, 7.25]
    detector.ImageOrientationPatient = [*OBLIQUE[0], *OBLIQUE[1]]
    elements = {
        "SOPClassUID": NuclearMedicineImageStorage,
        "Modality": "NM",
        "ImageType": ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"],
        "NumberOfFrames": len(stored),
        "DetectorInformationSequence": [detector],
        "ImagePositionPatient": None,
        "ImageOrientationPatient": None,
        "SpacingBetweenSlices": 4,
        "SliceVector": list(range(1, len(stored) + 1)),
        **changes,
    }
    return make_slice(0, stored, Rows=stored.shape[1], Columns=stored.shape[2], **elements)


@pytest.mark.parametrize("spacing", [4, -4])
@pytest.mark.parametrize("shuffled", [False, True])
def test_frames_lie_along_the_normal(spacing: int, shuffled: bool, tmp_path: Path) -> None:
    stored = voxels(5)
    order = np.array([3, 0, 4, 1, 2]) if shuffled else np.arange(5)
    vector = (order + 1).tolist()
    save(
        tomogram(stored[order], SliceVector=vector, SpacingBetweenSlices=spacing),
        tmp_path / "a.dcm",
    )
    volume = read_series(tmp_path).volume
    ours = stored if spacing > 0 else stored[::-1]
    np.testing.assert_array_equal(volume.array, ours.astype(int).T - 1024)
    normal = np.cross(*OBLIQUE) * [-1, -1, 1]
    first = np.array([30.0, -12.5, 7.25]) + normal * min(0, spacing) * 4
    np.testing.assert_allclose(volume.affine[:3, 2], normal * 4, atol=1e-9)
    np.testing.assert_allclose(volume.affine[:3, 3], first, atol=1e-9)


@pytest.mark.parametrize(
    ("vector", "wanted"), [("EnergyWindowVector", "window 2"), ("TimeSlotVector", "phase 2")]
)
def test_windows_and_phases_are_volumes(vector: str, wanted: str, tmp_path: Path) -> None:
    stored = np.concatenate([voxels(3, seed=seed) for seed in range(2)])
    changes = {vector: [1, 1, 1, 2, 2, 2], "SliceVector": [1, 2, 3] * 2}
    save(tomogram(stored, **changes), tmp_path / "a.dcm")
    with pytest.raises(CaseError, match=rf"0 \({wanted[:-1]}1\), 1 \({wanted}\)"):
        read_series(tmp_path)
    array = read_volume(tmp_path, volume=wanted).array
    np.testing.assert_array_equal(array, stored[3:].astype(int).T - 1024)
    assert (read_series(tmp_path, ReadPolicy(volume=1)).volume.array == array).all()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"SpacingBetweenSlices": None}, "no_geometry"),
        ({"DetectorInformationSequence": None}, "no_geometry"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"]}, "no_geometry"),
        ({"SliceVector": [1, 2]}, "damaged"),
        ({"SliceVector": None, "EnergyWindowVector": [1, 1, 2]}, "damaged"),
    ],
)
def test_frames_without_a_place_are_refused(
    changes: dict[str, Any], code: str, tmp_path: Path
) -> None:
    save(tomogram(voxels(3), **changes), tmp_path / "a.dcm")
    with pytest.raises(CaseError) as caught:
        read_series(tmp_path)
    assert caught.value.code == code
