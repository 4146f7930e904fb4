"""Find the place of each frame of reconstructed nuclear medicine (SPECT) in one file.

PS3.3 C.8.4.15: the detector's item gives the position of the first slice. Each
further slice is SpacingBetweenSlices further along the normal, or against it if
the spacing is negative. Vectors with a number for each frame give its slice, and
its energy window, detector or phase.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from voxtile.errors import CaseError

from .elements import numbers, words
from .folder import Place

# The vectors (PS3.3 C.8.4.8), and the attributes that they give.
_VECTORS = {
    "EnergyWindowVector": "energy window",
    "DetectorVector": "detector",
    "RRIntervalVector": "temporal position",
    "PhaseVector": "temporal position",
    "TimeSlotVector": "time slot",
    "TimeSliceVector": "time slot",
}


@dataclass(frozen=True, slots=True)
class Tomogram:
    """Where one frame is: orientation, position, and the counts that tell volumes apart."""

    orientation: Dataset
    position: tuple[float, float, float]
    counts: Mapping[str, float]


def tomograms(dataset: Dataset, place: Place, frames: int) -> list[Tomogram] | None:
    """Return the frames of a reconstruction; None for other images, such as projections."""
    if not any("RECON" in word for word in words(dataset.get("ImageType"))):
        return None
    detector = (dataset.get("DetectorInformationSequence") or [Dataset()])[0]
    placed = detector if "ImagePositionPatient" in detector else dataset
    orientation = numbers(placed.get("ImageOrientationPatient"))
    position = numbers(placed.get("ImagePositionPatient"))
    spacing = numbers(dataset.get("SpacingBetweenSlices"))
    if len(orientation) != 6 or len(position) != 3 or len(spacing) != 1 or not spacing[0]:
        raise CaseError(
            "no_geometry",
            f"{place} is a tomogram without the position and orientation of its detector or "
            "without SpacingBetweenSlices, so the place of its frames is unknown; export it as "
            "single slices",
        )
    columns = {name: numbers(dataset.get(name)) for name in ("SliceVector", *_VECTORS)}
    columns = {name: column for name, column in columns.items() if column}
    if any(len(column) != frames for column in columns.values()) or (
        "SliceVector" not in columns and columns
    ):
        raise CaseError(
            "damaged",
            f"{place} has {frames} frames, but its vectors do not number the slice of each; copy "
            "it again",
        )
    numbered = columns.pop("SliceVector", tuple(range(1, frames + 1)))
    normal = np.cross(orientation[:3], orientation[3:])
    found = []
    for index, number in enumerate(numbered):
        x, y, z = (position + normal * spacing[0] * (number - 1)).tolist()
        counts = {_VECTORS[name]: column[index] for name, column in columns.items()}
        found.append(Tomogram(placed, (x, y, z), counts))
    return found
