"""Coded concepts of labels, for DICOM SEG and Slicer's terminology."""

from voxtile.models.spec import Concept, Label

# SNOMED CT, from DICOM PS3.16 CID 7150, Segmentation Property Categories.
TISSUE = Concept(value="85756007", scheme="SCT", meaning="Tissue")
ANATOMY = Concept(value="123037004", scheme="SCT", meaning="Anatomical Structure")


def coded(label: Label) -> tuple[Concept, Concept]:
    """Return a label's segmented property category and type (DICOM PS3.3 C.8.20.4.1).

    A label without a concept is "Tissue" in both, as in 3D Slicer and dcmqi.
    """
    if label.concept is None:
        return TISSUE, TISSUE
    return label.category or ANATOMY, label.concept


def rgb(label: Label) -> tuple[int, int, int]:
    """Return red, green, blue from 0 to 255.

    Examples
    --------
    >>> rgb(Label(value=1, name="ball", color="#e6194b"))
    (230, 25, 75)
    """
    red, green, blue = bytes.fromhex(label.color[1:])
    return red, green, blue


def file_stem(label: Label) -> str:
    """Return a name for a label's file: its value, and its name as letters and digits.

    Examples
    --------
    >>> file_stem(Label(value=12, name="left kidney / upper", color="#e6194b"))
    '12_left_kidney_upper'
    """
    words = "".join(
        letter if letter.isascii() and letter.isalnum() else " " for letter in label.name
    )
    return "_".join([str(label.value), *words[:60].split()])
