"""Labels, NIfTI headers and maps as other tools write them: the kinds of docs/ingest.md.

The inputs are those of `field/ingest`, whose `cases.csv` says what each must give.
"""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest

from voxtile.errors import CaseError
from voxtile.models.bundle import load_bundle
from voxtile.reading.channels import read_scan
from voxtile.reading.reference import read_reference

# The codes of the notices.
LABELS = {
    "label_10um_from_other_converter": {"label_off_grid"},
    "rt_interpolated_planar_every_second": set(),
    "rt_roi_in_two_items": set(),
    "rt_roi_without_contours": {"label_empty"},
    "rt_contour_above_scan": {"label_clipped"},
    "label_one_hot_4d": {"label_one_hot"},
}
SCANS = {
    "nifti_sform_zero_qform_good": {"bad_sform"},
    "nifti_units_micron": {"unit"},
    "parametric_map_integer_rwvm": set(),
}


@pytest.fixture
def field(data_dir: Path) -> Path:
    folder = data_dir / "field" / "ingest"
    if not folder.is_dir():
        pytest.skip("the inputs of field/ingest are not on this machine")
    return folder


def read_label(folder: Path) -> tuple[np.ndarray, set[str]]:
    """The label of a folder's manifest on the grid of its scan, and the codes of the notices."""
    with (folder / "manifest.csv").open() as file:
        (row,) = csv.DictReader(file)
    image = read_scan(folder / row["image"]).volume
    labels = load_bundle("hippocampus").spec.labels
    mask, notices = read_reference(folder / row["label"], image, labels)
    return mask.array, {notice.code for notice in notices}


@pytest.mark.parametrize("name", LABELS)
def test_a_label_of_the_field_is_read_exactly(field: Path, name: str) -> None:
    array, codes = read_label(field / name)
    expected = np.asarray(nibabel.load(field / name / "expected_mask.nii.gz").dataobj)
    np.testing.assert_array_equal(array, expected)
    assert codes == LABELS[name]


@pytest.mark.parametrize("name", SCANS)
def test_a_scan_of_the_field_is_read_exactly(field: Path, name: str) -> None:
    folder = field / name
    (path,) = folder.glob("input*")
    scan = read_scan(path)
    expected = nibabel.load(folder / "expected.nii.gz")
    np.testing.assert_allclose(scan.volume.array, np.asarray(expected.dataobj), rtol=1e-6)
    np.testing.assert_allclose(scan.volume.affine, expected.affine, rtol=1e-6, atol=1e-6)
    assert {notice.code for notice in scan.notices} == SCANS[name]


def test_a_label_of_another_frame_of_reference_is_refused(field: Path) -> None:
    with pytest.raises(CaseError, match="another coordinate system") as caught:
        read_label(field / "rt_other_frame_and_series")
    assert caught.value.code == "label_frame"
