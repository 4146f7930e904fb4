"""Sections: outlines in mm, and the chosen slices."""

import re

import numpy as np
from phantoms import ball

from voxtile.phantoms.ellipsoids import centred_affine
from voxtile.report.page.pictures import make_picture
from voxtile.report.page.sections import make_sections
from voxtile.volume import Volume


def test_a_section_shows_the_outline_in_mm_with_the_right_on_the_left() -> None:
    shape, spacing_mm = (20, 30, 10), (2.0, 1.0, 3.0)
    array = np.zeros(shape, np.uint8)
    array[15:19, 4:9, 5] = 1  # to the patient's right, posterior
    image = Volume(array * np.uint8(200), centred_affine(shape, spacing_mm))
    axial, coronal, sagittal = make_sections(make_picture(image, image.with_array(array), None))
    assert (axial["view"], axial["slice"], axial["of"]) == ("axial", 6, 10)
    assert (axial["width_mm"], axial["height_mm"]) == (40, 30)
    ((position, path),) = axial["prediction"]
    numbers = np.array(re.findall(r"[\d.]+", path), float).reshape(-1, 2)
    assert position == 1
    # Columns run from right (index 19) to left, rows from anterior (29) to posterior.
    np.testing.assert_allclose(numbers.min(axis=0), [2, 21])
    np.testing.assert_allclose(numbers.max(axis=0), [10, 26])
    assert axial["reference"] is None
    assert (coronal["left"], sagittal["left"]) == ("R", "A")


def test_sections_are_taken_where_the_masks_differ_most() -> None:
    _, truth = ball()
    other = np.array(truth.array)
    other[:, :, 9:] = 0
    sections = make_sections(make_picture(truth, truth, truth.with_array(other)))
    assert sections[0]["slice"] > 9
    assert sections[0]["why"] == "prediction and reference differ most"
    empty = truth.with_array(np.zeros_like(truth.array))
    assert make_sections(make_picture(truth, empty, None))[0]["slice"] == 7
