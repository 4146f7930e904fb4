"""A written mask is read to its end and compared, plane by plane."""

import gzip
import tracemalloc
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from voxtile.errors import CaseError
from voxtile.reading.nifti import compare_nifti
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask
from voxtile.writing.read_back import check_written

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
shapes = st.tuples(*[st.integers(1, 5)] * 3)


@settings(max_examples=40)
@given(
    data=st.data(),
    kind=st.sampled_from(["uint8", "uint16"]),
    order=st.sampled_from(["C", "F"]),
    ending=st.sampled_from([".nii", ".nii.gz"]),
)
def test_one_different_voxel_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    kind: str,
    order: Literal["C", "F"],
    ending: str,
) -> None:
    array = np.asarray(data.draw(arrays(kind, shapes)), order=order)  # type: ignore[call-overload]
    path = tmp_path_factory.mktemp("m") / f"m{ending}"
    write_mask(path, Volume(array, AFFINE, (1, 1)))
    scan, same = compare_nifti(path, array)
    assert same
    assert scan.volume.shape == array.shape
    place = tuple(data.draw(st.integers(0, size - 1)) for size in array.shape)
    other = array.copy()
    other[place] ^= 1
    assert not compare_nifti(path, other)[1]
    assert not compare_nifti(path, array.astype(np.uint32))[1]
    assert not compare_nifti(path, array[..., np.newaxis])[1]


def test_a_written_mask_that_differs_from_the_computed_one_is_refused(tmp_path: Path) -> None:
    mask = Volume(np.ones((3, 4, 5), np.uint8), AFFINE, (1, 1))
    path = tmp_path / "m.nii.gz"
    write_mask(path, mask)
    facts = check_written(path, mask)
    assert facts["check"] == {"position_mm": 0.0, "direction": 0.0, "voxels_equal": True}
    with pytest.raises(CaseError, match="differs from the computed one"):
        check_written(path, mask.with_array(mask.array * 2))
    with pytest.raises(CaseError, match="differs from the computed one"):
        check_written(path, Volume(mask.array[:2], AFFINE, (1, 1)))
    with pytest.raises(CaseError, match="2 mm apart"):
        check_written(path, Volume(mask.array, AFFINE + np.eye(4, k=3) * 2, (1, 1)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CaseError, match="ends too early"):
        check_written(path, mask)


def test_voxels_that_a_slope_changes_are_not_equal(tmp_path: Path) -> None:
    array = np.ones((2, 2, 2), np.uint8)
    image = nibabel.Nifti1Image(array, AFFINE)
    image.header.set_slope_inter(2, 0)
    content = bytearray(image.to_bytes())
    content[112:116] = np.float32(2).tobytes()  # scl_slope
    path = tmp_path / "m.nii.gz"
    path.write_bytes(gzip.compress(bytes(content)))
    assert not compare_nifti(path, array)[1]


def test_no_second_volume_is_in_memory(tmp_path: Path) -> None:
    array = np.zeros((200, 200, 200), np.uint8, order="F")  # 8 MB
    path = tmp_path / "m.nii.gz"
    write_mask(path, Volume(array, AFFINE, (1, 1)))
    compare_nifti(path, array)  # what is imported at first use is not counted
    tracemalloc.start()
    assert compare_nifti(path, array)[1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6
