"""Write a synthetic volume as a DICOM series, for the demo and the tests."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from voxtile.volume import Volume

# RAS+ to DICOM's LPS+ (PS3.3 C.7.6.2.1.1): x and y change sign.
_LPS = np.diag([-1.0, -1.0, 1.0])


def write_series(folder: Path, volume: Volume) -> None:
    """Write one CT file for each slice along k.

    The volume is int16, (i, j, k): i runs along a row of a slice, j down its columns. k must be at
    right angles to i and j, and (i, j, k) must be right-handed in LPS. ValueError if a CT series
    cannot have this grid or type.
    """
    if volume.array.dtype != np.int16 or volume.array.ndim != 3:
        raise ValueError(
            f"volume has type {volume.array.dtype}, but a series needs int16 voxels in 3D"
        )
    directions = _LPS @ volume.affine[:3, :3] / volume.spacing_mm
    if not np.allclose(np.cross(directions[:, 0], directions[:, 1]), directions[:, 2], atol=1e-6):
        raise ValueError(
            "axis k must be the right-handed normal of i and j in LPS; flip an axis first"
        )
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for index in range(volume.shape[2]):
        position = _LPS @ (volume.affine @ (0, 0, index, 1))[:3]
        pixels = volume.array[:, :, index].T
        dataset = _slice(pixels, position, directions, volume.spacing_mm)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID = frame
        dataset.InstanceNumber = index + 1
        dataset.save_as(folder / f"slice{index + 1:04d}.dcm", enforce_file_format=True)


def _slice(
    pixels: np.ndarray,
    position: np.ndarray,
    directions: np.ndarray,
    spacing: tuple[float, float, float],
) -> Dataset:
    """Return the dataset of one slice (CT Image IOD, PS3.3 A.3)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "CT"
    dataset.PatientName = "Phantom"
    dataset.PatientID = "phantom"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyID = ""
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = dataset.Manufacturer = ""
    dataset.SeriesNumber = dataset.AcquisitionNumber = 1
    dataset.PositionReferenceIndicator = ""
    dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    dataset.KVP = None
    dataset.ImagePositionPatient = [f"{value:.10g}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.10g}" for value in directions[:, :2].T.ravel()]
    dataset.PixelSpacing = [f"{spacing[1]:.10g}", f"{spacing[0]:.10g}"]
    dataset.SliceThickness = f"{spacing[2]:.10g}"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept, dataset.RescaleSlope = 0, 1
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    return dataset
