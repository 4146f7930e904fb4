"""Read a DICOM segmentation (SEG): place its frames on a scan's grid by their positions.

PS3.3 A.51 and C.8.20. A frame is one plane of one segment. Most files leave
out frames without a voxel, so frames are not a stack, and each is placed by
its own position and orientation.
"""

import highdicom
import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code

from voxtile.errors import CaseError, Notice, counted
from voxtile.reading.scan import off_grid
from voxtile.volume import OFF_GRID

from .drawing import Grid, Segment
from .folder import Place

_SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


class Segmentation:
    """A SEG, read from its file and header; its masks are on the grid."""

    what = "segment"

    def __init__(self, place: Place, dataset: Dataset, grid: Grid) -> None:
        if dataset.get("SOPClassUID") not in _SOP_CLASSES:
            raise CaseError(
                "label_kind",
                "the reference is a DICOM object, but neither SEG nor RTSTRUCT; export it as one",
            )
        self._grid = grid
        # segread is not used, because it refuses segmentations for details that do not matter here.
        with place.open() as file:
            self._frames = highdicom.imread(file)
        self._type = str(dataset.SegmentationType)
        self._uncertain = 0
        self._off = 0.0  # in voxels
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
                str(dataset.get("FrameOfReferenceUID", "")),
            )
            for item in dataset.SegmentSequence
            # A LABELMAP describes its background too, as segment 0.
            if int(item.SegmentNumber) > 0
        )
        self.series = frozenset(
            str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence") or ()
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
        notices = []
        if self._uncertain:
            sentence = (
                f"the reference is fractional, with {counted(self._uncertain, 'voxel')} between 0 "
                "and 1; values of at least 0.5 were taken as inside"
            )
            notices.append(Notice("label_fractional", sentence))
        if self._off > 1e-3:
            notices.append(off_grid("label", "the reference", self._off))
        return notices

    def _lay(self, values: np.ndarray, inside: np.ndarray, index: int, out: np.ndarray) -> None:
        """Write the values of a frame's inside pixels to their voxels of the grid."""
        rows, columns = np.nonzero(inside)
        if not rows.size:
            return
        # Three points give the map from pixel (column, row) to voxel; it must be whole numbers.
        placed = (self._geometry[index] @ [[0, 1, 0], [0, 0, 1], [1, 1, 1]])[:3].T
        corner, along, down = self._grid.indices(placed)
        steps = np.array([corner, along - corner, down - corner])
        whole = np.rint(steps)
        # A small error in the spacing adds up along the frame, so its corners are compared.
        last_row, last_column = np.array(inside.shape) - 1
        corners = [[1, 0, 0], [1, last_column, 0], [1, 0, last_row], [1, last_column, last_row]]
        off = float(np.abs(corners @ (steps - whole)).max())
        if off > OFF_GRID or (np.abs(whole[1:]).sum(axis=1) != 1).any():
            raise CaseError(
                "label_grid",
                f"frames of the reference are {off:.3g} voxels away from the image's voxels; "
                "resample the reference to the image first, or name the series it was drawn on",
            )
        self._off = max(self._off, off)
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
