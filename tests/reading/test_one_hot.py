"""Channels of 0 and 1 are the label map that they were made of, or are refused."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phantoms import ball

from voxtile.errors import CaseError
from voxtile.models.spec import Label
from voxtile.reading.one_hot import flatten
from voxtile.reading.reference import read_label_map, read_reference
from voxtile.scoring.overlap import plain_labels
from voxtile.volume import Axes, reorient

IMAGE, _ = ball(shape=(7, 6, 5), axes="LPS")
NESTED = [
    Label(value=1, name="whole", color="#00ff00", region=(1, 2, 3)),
    Label(value=2, name="core", color="#ff0000", region=(2, 3)),
    Label(value=3, name="enhancing", color="#0000ff"),
]
MAPS = arrays(np.uint8, (4, 3, 2), elements=st.integers(0, 3))


def channels_of(array: np.ndarray, first: int, count: int = 3) -> np.ndarray:
    return np.stack([array == value for value in range(first, count + 1)], axis=-1).astype(np.uint8)


@given(MAPS)
def test_channels_with_and_without_background_give_the_label_map_back(array) -> None:
    with_background, _ = flatten(channels_of(array, 0))
    np.testing.assert_array_equal(with_background, array)
    if (array == 0).any():  # else the first label could be the background
        without, _ = flatten(channels_of(array, 1))
        np.testing.assert_array_equal(without, array)


@given(MAPS)
def test_nested_channels_give_the_label_map_of_regions(array) -> None:
    array[0, 0, 0] = 0  # else the first region could be the background
    nested = np.stack([array >= value for value in (1, 2, 3)], axis=-1).astype(np.float32)
    joined, _ = flatten(nested, NESTED)
    np.testing.assert_array_equal(joined, array)


@given(MAPS, st.permutations([1, 2, 3]))
def test_a_label_map_gives_channels_other_labels(array, order) -> None:
    swapped = channels_of(array, 0)[..., [0, *order]]
    numbers = {number: value for number, value in enumerate(order, start=1)}
    joined, _ = flatten(swapped, label_map=numbers)
    np.testing.assert_array_equal(joined, array)


def write(path: Path, *masks: np.ndarray) -> Path:
    nibabel.Nifti1Image(np.stack(masks, axis=-1), IMAGE.affine).to_filename(path)
    return path


def test_channels_are_read_in_any_storage_order_with_a_notice(tmp_path: Path) -> None:
    one, two = np.zeros((2, *IMAGE.shape), np.float32)
    one[1:3, 2, 2], two[4, 4, :] = 0.9999, 1
    path = write(tmp_path / "l.nii.gz", one, two)
    turned = reorient(IMAGE, Axes((2, 0, 1), (True, False, True)))
    mask, notices = read_reference(path, turned, plain_labels({1: "one", 2: "two"}))
    expected = turned.array * 0
    axes = Axes((2, 0, 1), (True, False, True))
    expected[axes.apply(one) > 0.5], expected[axes.apply(two) > 0.5] = 1, 2
    np.testing.assert_array_equal(mask.array, expected)
    assert [notice.code for notice in notices] == ["label_one_hot", "label_reoriented"]
    assert "has 2 channels of 0 and 1; they were taken as labels 1 to 2" in notices[0].sentence
    scan = read_label_map(path, "prediction")
    assert scan.volume.array.max() == 2
    assert [notice.code for notice in scan.notices] == ["prediction_one_hot"]
    whole = write(tmp_path / "b.nii", 1 - np.rint(one) - two, np.rint(one), two)
    (notice,) = read_label_map(whole, "label").notices
    assert "3 channels of 0 and 1; the first is the background, the others were" in notice.sentence
    survey = read_label_map(path, "label", survey=True)
    assert survey.volume.shape == IMAGE.shape
    assert "has 2 volumes; they can be used if each is a channel" in survey.notices[0].sentence


def test_channels_that_no_label_map_holds_are_refused(tmp_path: Path) -> None:
    one, two, three = np.zeros((3, *IMAGE.shape), np.uint8)
    one[:3], two[2:5], three[6] = 1, 1, 1
    path = write(tmp_path / "l.nii", one, two, three)
    named = plain_labels({1: "a", 2: "b", 3: "c"})
    with pytest.raises(CaseError, match="channel 1 overlaps others in 30 voxels") as caught:
        read_reference(path, IMAGE, named)
    assert caught.value.sentence.endswith("leave one out with --label-map 1:0")
    assert (read_reference(path, IMAGE, named, {1: 0})[0].array == 3).sum() == 30
    with pytest.raises(CaseError, match=r"use labels that are regions$"):
        read_label_map(path, "prediction")
    with pytest.raises(CaseError, match="has values 3, but the model has only 0, 1, 2"):
        read_reference(path, IMAGE, plain_labels({1: "a", 2: "b"}), {1: 0})
    # Regions in another order do not lie in each other.
    path = write(tmp_path / "r.nii", two * 0 + (np.arange(7) > 4)[:, None, None], two, three)
    with pytest.raises(CaseError, match="overlaps others"):
        read_reference(path, IMAGE, NESTED)
    for wrong in (0.5, 2, -1):
        path = write(tmp_path / "w.nii", one * np.float32(wrong), two.astype(np.float32))
        with pytest.raises(
            CaseError, match="has 2 volumes with values other than 0 and 1"
        ) as caught:
            read_label_map(path, "label")
        assert caught.value.code == "several_volumes"
