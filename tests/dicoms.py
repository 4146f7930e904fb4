"""Small DICOM series with known voxels and positions, for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SERIES = "1.2.826.0.1.3680043.8.498.1"
# A rotation about an oblique axis, so that no axis of the grid is parallel to an axis of the world.
OBLIQUE = ((0.8, 0.6, 0.0), (-0.48, 0.64, 0.6))
Change = Callable[[Dataset, int], None]


def make_slice(index: int, pixels: np.ndarray, **changes: Any) -> Dataset:
    """A CT slice, 2.5 mm from the one before; keywords replace elements, None removes them."""
    across, down = OBLIQUE
    place = np.array([-30.0, 12.5, 7.25]) + 2.5 * index * np.cross(across, down)
    elements = {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "Modality": "CT",
        "SliceThickness": 3,
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2",
        "SeriesInstanceUID": SERIES,
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.3",
        "InstanceNumber": index + 1,
        "ImagePositionPatient": [f"{value:.10g}" for value in place],
        "ImageOrientationPatient": [*across, *down],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "PixelSpacing": [0.75, 0.5],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        **changes,
    }
    dataset = Dataset()
    for keyword, value in elements.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def voxels(count: int = 5, rows: int = 4, columns: int = 6, seed: int = 0) -> np.ndarray:
    """Stored values of a small scan, uint16, shape (slices, rows, columns)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4096, (count, rows, columns), np.uint16)


def save(dataset: Dataset, path: Path) -> None:
    """Write one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)


def write_series(
    folder: Path, stored: np.ndarray, change: Change | None = None, **changes: Any
) -> np.ndarray:
    """Write a series and return its affine, (column, row, slice) to RAS+ mm.

    `change` gets each data set with its index, before it is written.
    """
    for index, pixels in enumerate(stored):
        dataset = make_slice(index, pixels, **changes)
        if change is not None:
            change(dataset, index)
        save(dataset, folder / f"{index:03d}.dcm")
    return affine()


def write_dicomdir(folder: Path, files: list[list[str]]) -> Path:
    """Write a DICOMDIR that names files by their parts below its folder, and return its path."""
    directory = Dataset()
    directory.file_meta = make_slice(0, voxels(1)[0]).file_meta
    records = [Dataset()]  # one for the patient, which names no file
    for parts in files:
        records.append(Dataset())
        records[-1].ReferencedFileID = parts
    directory.DirectoryRecordSequence = records
    save(directory, folder / "DICOMDIR")
    return folder / "DICOMDIR"


def affine() -> np.ndarray:
    """Where `make_slice` puts voxels: PS3.3 equation C.7.6.2.1-1, then LPS to RAS."""
    across, down = np.array(OBLIQUE)
    matrix = np.eye(4)
    matrix[:3, 0] = across * 0.5
    matrix[:3, 1] = down * 0.75
    matrix[:3, 2] = np.cross(across, down) * 2.5
    matrix[:3, 3] = (-30.0, 12.5, 7.25)
    return np.diag([-1, -1, 1, 1]) @ matrix
