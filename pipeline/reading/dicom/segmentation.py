"""Read a DICOM segmentation (SEG): place its frames on a scan's grid by their positions.

PS3.3 A.51 and C.8.20. A frame is one plane of one segment. Most files leave
out frames without a voxel, so frames are not a stack, and each is placed by
its own position and orientation.
"""

from pathlib import Path

import highdicom
import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code

from voxtile.errors import CaseError, Notice, counted

from .drawing import Grid, Segment

_SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
# In voxels. A frame has the rounded position of its slice, but a grid has an even step.
_OFF_GRID = 0.1


class Segmentation:
    """A SEG, read from its file and header; its masks are on the grid."""

    what = "segment"

    def __init__(self, path: Path, dataset: Dataset, grid: Grid) -> None:
        if dataset.get("SOPClassUID") not in _SOP_CLASSES:
            raise CaseError(
                "label_kind",
                "the reference is a DICOM object, but neither SEG nor RTSTRUCT; export it as one",
            )
        self._grid = grid
        # Not segread, which refuses segmentations for details that are not used here.
        self._frames = highdicom.imread(path)
        self._type = str(dataset.SegmentationType)
        self._uncertain = 0
        self._scale = int(dataset.get("MaximumFractionalValue", 1))
        self._owners: dict[int, list[int]] = {}
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            if self._type != "LABELMAP":
                name = "SegmentIdentificationSequence"
                identification = groups.get(name) or shared.get(name)
                owner = int(identification[0].ReferencedSegmentNumber)
                self._owners.setdefault(owner, []).append(index)
        self._geometry = [
            _frame_affine(groups, shared) for groups in dataset.PerFrameFunctionalGroupsSequence
        ]
        self.segments = tuple(
            Segment(
                int(item.SegmentNumber),
                str(item.get("SegmentLabel", "")),
                coded(item, "SegmentedPropertyTypeCodeSequence"),
            )
            for item in dataset.SegmentSequence
            # A LABELMAP describes its background too, as segment 0.
            if int(item.SegmentNumber) > 0
        )
        self._map: np.ndarray | None = None

    def mask(self, number: int) -> np.ndarray:
        """Return the voxels of a segment, bool, on the grid."""
        if self._type == "LABELMAP":
            if self._map is None:
                self._map = np.zeros(self._grid.shape, np.uint16)
                for index in range(len(self._geometry)):
                    frame = self._frames.get_stored_frame(index + 1)
                    self._lay(frame, frame > 0, index, self._map)
            labelled: np.ndarray = self._map == number
            return labelled
        mask = np.zeros(self._grid.shape, bool)
        for index in self._owners.get(number, []):
            frame = self._frames.get_stored_frame(index + 1)
            if self._type == "FRACTIONAL":
                self._uncertain += int(((frame > 0) & (frame < self._scale)).sum())
                inside = frame.astype(np.float64) >= 0.5 * self._scale
            else:
                inside = frame > 0
            self._lay(inside, inside, index, mask)
        return mask

    def notices(self) -> list[Notice]:
        """Return notices about the masks drawn so far."""
        if not self._uncertain:
            return []
        return [
            Notice(
                "label_fractional",
                f"the reference is fractional, with {counted(self._uncertain, 'voxel')} between 0 "
                "and 1; values of at least 0.5 were taken as inside",
            )
        ]

    def _lay(self, values: np.ndarray, inside: np.ndarray, index: int, out: np.ndarray) -> None:
        """Write the values of a frame's inside pixels to their voxels of the grid."""
        rows, columns = np.nonzero(inside)
        if not rows.size:
            return
        # Three points fix the map from pixel (column, row) to voxel, which must be whole numbers.
        corner, along, down = self._grid.indices(
            (self._geometry[index] @ [[0, 1, 0], [0, 0, 1], [1, 1, 1]])[:3].T
        )
        steps = np.array([corner, along - corner, down - corner])
        whole = np.rint(steps)
        # A small error in the spacing adds up along the frame; this is the error at its far end.
        reach = np.array([[1], [inside.shape[1]], [inside.shape[0]]])
        off = float((np.abs(steps - whole) * reach).max())
        if off > _OFF_GRID or (np.abs(whole[1:]).sum(axis=1) != 1).any():
            raise CaseError(
                "label_grid",
                f"frames of the reference are {off:.3g} voxels away from the image's voxels; "
                "resample the reference to the image first, or name the series it was drawn on",
            )
        start, right, below = whole.astype(int)
        voxels = start + np.outer(columns, right) + np.outer(rows, below)
        outside = ((voxels < 0) | (voxels >= self._grid.shape)).any(axis=1)
        if outside.any():
            raise CaseError(
                "label_grid",
                f"a frame of the reference has {counted(int(outside.sum()), 'pixel')} outside the "
                "image; name the series it was drawn on",
            )
        i, j, k = voxels.T
        out[i, j, k] = values[rows, columns]


def _frame_affine(groups: Dataset, shared: Dataset) -> np.ndarray:
    """Return (column, row, 1) to the patient (LPS, mm), shape (3, 3) (PS3.3 C.7.6.2.1.1)."""

    def group(name: str) -> Dataset:
        items = groups.get(name) or shared.get(name)
        if not items:
            raise CaseError(
                "label_geometry",
                f"a frame of the reference has no {name}, so it has no position; export it again",
            )
        found: Dataset = items[0]
        return found

    rows_mm, columns_mm = map(float, group("PixelMeasuresSequence").PixelSpacing)
    direction = np.array(group("PlaneOrientationSequence").ImageOrientationPatient, np.float64)
    position = np.array(group("PlanePositionSequence").ImagePositionPatient, np.float64)
    return np.stack([direction[:3] * columns_mm, direction[3:] * rows_mm, position], axis=1)


def coded(described: Dataset, sequence: str) -> Code | None:
    """Return the first code of a code sequence (PS3.3 section 8.8), if there is one."""
    (item, *_) = described.get(sequence) or [Dataset()]
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    if not value:
        return None
    return Code(str(value), str(item.get("CodingSchemeDesignator", "")), "")
