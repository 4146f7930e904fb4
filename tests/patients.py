"""DICOM series of patients who do not exist, for tests."""

from pathlib import Path

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement

from voxtile.phantoms.dicom import write_series
from voxtile.phantoms.ellipsoids import centred_affine, draw

MARKER = "ZEBRAFISH"
TEXT = {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE"}


def add_series(folder: Path, **tags) -> None:
    """A CT series of three slices, with tags set in every file."""
    shape, spacing = (6, 5, 3), (1.0, 1.0, 2.0)
    image, _ = draw(shape, centred_affine(shape, spacing, axes="LPS"), [])
    write_series(folder, image)
    for path in folder.glob("slice*.dcm"):
        dataset = pydicom.dcmread(path)
        for name, value in tags.items():
            setattr(dataset, name, value)
        dataset.save_as(path)


def mark(folder: Path) -> None:
    """Write the marker into every text tag, private tags and the file names of a series."""
    for number, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        for element in dataset:
            if element.VR in TEXT:
                element.value = MARKER
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientAddress",
            "PatientComments",
            "InstitutionName",
            "OperatorsName",
            "StudyDescription",
            "SeriesDescription",
            "ProtocolName",
            "ImageComments",
            "StationName",
            "ReferringPhysicianName",
            "AccessionNumber",
        ):
            dataset.add(DataElement(keyword, dictionary_VR(keyword), MARKER[:16]))
        block = dataset.private_block(0x0029, f"{MARKER} 1.0", create=True)
        block.add_new(0x10, "LO", MARKER)
        dataset.save_as(folder / f"{MARKER}_{number:03d}.dcm", enforce_file_format=True)
        path.unlink()
