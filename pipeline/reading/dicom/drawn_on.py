"""Find the series that a SEG or RTSTRUCT was drawn on, by the UIDs that it names.

A SEG names them in ReferencedSeriesSequence (PS3.3 C.12.1.1). An RTSTRUCT names
them for each frame of reference (PS3.3 C.8.8.5, RT Referenced Series Sequence).
"""

from pydicom import Dataset, dcmread

from .folder import Place
from .kinds import annotation_file

_TAGS = ["FrameOfReferenceUID", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"]


def references(place: Place) -> tuple[list[str], list[str]] | None:
    """Return the series and frames of reference of an annotation; None for another file."""
    if annotation_file(place.path) is None:
        return None
    with place.open() as file:
        dataset = dcmread(file, specific_tags=_TAGS, stop_before_pixels=True)
    frames = dataset.get("ReferencedFrameOfReferenceSequence") or ()
    drawn_on = _uids(dataset.get("ReferencedSeriesSequence"))
    for frame in frames:
        for study in frame.get("RTReferencedStudySequence") or ():
            drawn_on = [*drawn_on, *_uids(study.get("RTReferencedSeriesSequence"))]
    named = [dataset, *frames]
    return list(dict.fromkeys(drawn_on)), list(
        dict.fromkeys(
            str(one.FrameOfReferenceUID) for one in named if one.get("FrameOfReferenceUID")
        )
    )


def _uids(items: list[Dataset] | None) -> list[str]:
    """Return the SeriesInstanceUIDs of the items of a sequence."""
    return [str(item.SeriesInstanceUID) for item in items or () if item.get("SeriesInstanceUID")]
