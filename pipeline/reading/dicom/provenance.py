"""Compare what a SEG or RTSTRUCT was drawn on with the scan that it is used for.

Identifiers leave the child process as hashes only.
"""

import hashlib
from collections.abc import Iterable, Sequence

from voxtile.errors import CaseError, Notice
from voxtile.volume import Source

from .header import Instance


def source_of(images: Iterable[Instance]) -> Source:
    """Return pseudonyms for the coordinate systems and the series of the images."""
    every = list(images)
    return Source(
        _pseudonyms(image.frame_of_reference for image in every),
        _pseudonyms(image.series for image in every),
    )


def check_source(frames: Iterable[str], series: Iterable[str], source: Source) -> Sequence[Notice]:
    """Compare the UIDs of a label with the scan's; what is missing on either side is not compared.

    Parameters
    ----------
    frames : iterable of str
        The FrameOfReferenceUID of each segment that is used.
    series : iterable of str
        SeriesInstanceUIDs of the series that the label refers to.

    Raises
    ------
    CaseError
        If the label has another coordinate system, and does not refer to the
        scan's series: positions of two systems cannot be compared.
    """
    referred = _pseudonyms(series)
    same_series = not {*referred}.isdisjoint(source.series)
    if source.frames and not {*_pseudonyms(frames)} <= {*source.frames}:
        if not same_series:
            raise CaseError(
                "label_frame",
                "the reference was drawn in another coordinate system (FrameOfReferenceUID) than "
                "that of the scan and does not refer to its series, so it may be of another scan; "
                "name the series it was drawn on, or, if the two are aligned, convert the scan to "
                "NIfTI with `voxtile convert` and name that file",
            )
        sentence = (
            "the reference states another coordinate system (FrameOfReferenceUID) than the scan, "
            "but refers to its series; its positions were used"
        )
        return [Notice("label_frame", sentence)]
    if referred and source.series and not same_series:
        sentence = "the reference refers to another series than the scan; its positions were used"
        return [Notice("label_series", sentence)]
    return []


def _pseudonyms(uids: Iterable[str]) -> tuple[str, ...]:
    """Return the hash of each different UID; empty UIDs are left out."""
    return tuple(hashlib.sha256(uid.encode()).hexdigest() for uid in sorted({*uids} - {""}))
