"""The picture of a case: orientation, colours, and any shape."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from phantoms import ball
from PIL import Image

from voxtile.reading.nifti import read_nifti
from voxtile.report.error_map import ERRORS
from voxtile.report.montage import montage, write_montage
from voxtile.scoring.overlap import plain_labels
from voxtile.volume import Volume

LABELS = plain_labels({1: "one", 2: "two"})


def colours(picture: Image.Image) -> set[str]:
    red, green, blue = np.moveaxis(np.asarray(picture).astype(int), -1, 0)
    return {f"#{value:06x}" for value in np.unique(red * 65536 + green * 256 + blue).tolist()}


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIL"])
def test_outlines_have_the_colours_of_their_labels(axes) -> None:
    image, truth = ball(axes=axes)
    labels = plain_labels({1: "ball", 2: "absent"})
    picture = montage(image, truth, labels, reference=truth)
    panels = picture.crop((0, 0, picture.width, 384))
    assert labels[0].color in colours(panels)
    assert labels[1].color not in colours(panels)
    assert {label.color for label in labels} <= colours(picture)  # the legend


def test_the_patients_right_is_on_the_left_and_superior_is_up() -> None:
    array = np.zeros((30, 30, 30), np.int16)
    array[20:28, 14:16, 2:6] = 100  # to the right, and low
    image = Volume(array, np.eye(4))
    for volume in (image, Volume(array[::-1, ::-1], np.diag([-1, -1, 1, 1]))):
        mask = volume.with_array((volume.array > 0).astype(np.uint8))
        label = plain_labels({1: "one"})[0]
        pixels = np.asarray(montage(volume, mask, [label]))
        coronal = pixels[:384, 384:768]
        rgb = [int(label.color[start : start + 2], 16) for start in (1, 3, 5)]
        rows, columns = np.nonzero((coronal == rgb).all(axis=-1))
        assert columns.max() < 192 < rows.min()


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 1, 3), (3, 200, 2), (5, 6, 1)])
def test_any_shape_and_an_empty_mask_can_be_drawn(shape, tmp_path: Path) -> None:
    image = Volume(np.full(shape, 7, np.float32), np.eye(4))
    mask = image.with_array(np.zeros(shape, np.uint8))
    write_montage(tmp_path / "a.png", montage(image, mask, LABELS))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (3 * 384, 384 + 40)
    several = image.with_array(np.zeros((*shape, 2), np.int16))
    assert montage(several, mask, LABELS, reference=mask).height == 2 * 384 + 40


def test_a_single_voxel_in_a_large_scan_is_found() -> None:
    array = np.zeros((200, 200, 150), np.uint8)
    array[101, 33, 77] = 1
    mask = Volume(array, np.eye(4))
    label = plain_labels({1: "one"})[0]
    picture = montage(mask, mask, [label])
    assert label.color in colours(picture.crop((0, 0, 1152, 384)))


def test_forty_labels_have_a_legend() -> None:
    image, truth = ball()
    labels = plain_labels({value: f"structure number {value}" for value in range(1, 42)})
    assert montage(image, truth, labels).height > 384 + 100


def test_a_real_case_is_drawn(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "metrics_reference" / "spine_semantic"
    ref = read_nifti(folder / "ref.nii.gz").volume
    pred = ref.with_array(read_nifti(folder / "pred.nii.gz").volume.array)
    values = [int(value) for value in np.unique(ref.array) if value]
    labels = plain_labels({value: str(value) for value in values})
    write_montage(tmp_path / "a.png", montage(ref, pred, labels, reference=ref))
    with Image.open(tmp_path / "a.png") as picture:
        assert len({label.color for label in labels} & colours(picture)) > 10


def test_a_single_plane_has_one_panel_and_a_picture_has_no_letters() -> None:
    mask = np.zeros((40, 30, 1), np.uint8)
    mask[10:20, 5:15] = 1
    plane = Volume(mask, np.diag([-1.0, -1.0, 1.0, 1.0]))
    label = plain_labels({1: "one"})[0]
    pixels = np.asarray(montage(plane, plane, [label]))
    assert len(np.unique(pixels[:384, 384:].reshape(-1, 3), axis=0)) == 1
    shown = replace(plane, is_picture=True)
    assert (np.asarray(montage(shown, shown, [label])) != pixels).any()


def test_with_a_reference_a_second_row_shows_the_errors() -> None:
    image = Volume(np.zeros((30, 30, 30), np.int16), np.eye(4))
    prediction, reference = np.zeros((2, 30, 30, 30), np.uint8)
    prediction[5:20, 10:20, 10:20] = 1
    reference[10:25, 10:20, 10:20] = 1
    shown = montage(
        image, image.with_array(prediction), LABELS, reference=image.with_array(reference)
    )
    errors = colours(shown.crop((0, 384, shown.width, 768)))
    dark = []
    for _, color in ERRORS:
        parts = [round(int(color[place : place + 2], 16) * 0.6) for place in (1, 3, 5)]
        dark.append("#{:02x}{:02x}{:02x}".format(*parts))
    assert set(dark[:3]) <= errors
    assert dark[3] not in errors
