"""Real world values are used where they are the only ones, and said where they differ."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicoms import voxels, write_series
from pydicom import Dataset

from voxtile.errors import CaseError
from voxtile.reading.channels import read_scan
from voxtile.reading.dicom.folder import Place
from voxtile.reading.dicom.real_world import Values, real_world

NO_RESCALE = Values(1.0, 0.0, given=False)
RESCALE = Values(2.0, -1.0, given=True)
PLACE = Place(Path("x"), 1, 1)
MAP = "1.2.840.10008.5.1.4.1.1.30"


def mapping(slope: float | None, intercept: float = 5.0) -> Dataset:
    item = Dataset()
    if slope is None:
        item.RealWorldValueLUTData = [1.0, 2.0]
    else:
        item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    return item


def group(*mappings: Dataset) -> Dataset:
    found = Dataset()
    if mappings:
        found.RealWorldValueMappingSequence = list(mappings)
    return found


def enhanced(shared: Dataset, *frames: Dataset, **elements: Any) -> Dataset:
    dataset = Dataset()
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = list(frames)
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def test_a_map_has_its_values_for_all_frames_or_for_each() -> None:
    everywhere = enhanced(group(mapping(0.001)), group(), group(), SOPClassUID=MAP)
    assert real_world(everywhere, 1, RESCALE, PLACE) == Values(0.001, 5.0, given=True)
    each = enhanced(
        group(), group(mapping(2.0)), group(mapping(3.0), mapping(3.0)), SOPClassUID=MAP
    )
    assert [real_world(each, k, RESCALE, PLACE).slope for k in (0, 1)] == [2.0, 3.0]
    assert real_world(enhanced(group(), group()), 0, RESCALE, PLACE) == RESCALE


@pytest.mark.parametrize(
    "mappings", [[mapping(2.0), mapping(3.0)], [mapping(None)], [mapping(0.0)], [mapping(np.inf)]]
)
def test_a_map_without_one_slope_is_refused_and_another_image_keeps_its_values(mappings) -> None:
    dataset = enhanced(group(*mappings), group(), SOPClassUID=MAP)
    with pytest.raises(CaseError, match=r"in several ways .* convert it first") as caught:
        real_world(dataset, 0, RESCALE, PLACE)
    assert caught.value.code == "real_world_values"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    for rescale in (RESCALE, NO_RESCALE):
        found = real_world(dataset, 0, rescale, PLACE)
        assert found == Values(rescale.slope, rescale.intercept, rescale.given, others=True)


@pytest.mark.parametrize(
    ("rescale", "slope", "codes"),
    [
        ({"RescaleSlope": None, "RescaleIntercept": None}, 0.25, []),
        ({"RescaleSlope": "0.25", "RescaleIntercept": "5"}, 0.25, []),
        ({"RescaleSlope": "3", "RescaleIntercept": "0"}, 3, ["real_world_values"]),
    ],
)
def test_an_image_without_rescale_has_the_values_of_its_mapping(
    tmp_path: Path, rescale, slope, codes
) -> None:
    stored = voxels(3)
    sequence = [mapping(0.25)]
    write_series(tmp_path, stored, RealWorldValueMappingSequence=sequence, **rescale)
    scan = read_scan(tmp_path)
    expected = stored.transpose(2, 1, 0) * slope + (5 if slope == 0.25 else 0)
    np.testing.assert_array_equal(scan.volume.array, expected)
    assert [notice.code for notice in scan.notices] == codes
