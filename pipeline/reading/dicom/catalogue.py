"""Find the series and patient of each file of a tree. Runs in the child process."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread

from voxtile.errors import CaseError
from voxtile.reading.isolation import Workspace

from .drawn_on import references
from .folder import Place, is_dicom
from .glance import Key, glance
from .header import read_header
from .selection import NO_VOLUME, Series

# Blanks around these values have no meaning (PS3.5 6.2, LO).
_IDENTIFIERS = ["PatientID", "IssuerOfPatientID", "StudyInstanceUID"]


def catalogue_here(
    workspace: Workspace, paths: Sequence[str], identify: bool
) -> list[dict[str, Any] | None]:
    """Do the work of `voxtile.reading.dicom.catalogue` in this process."""
    found: list[dict[str, Any] | None] = []
    known: dict[Key, dict[str, Any]] = {}
    for number, path in enumerate(paths, start=1):
        place = Place(Path(path), number, len(paths))
        workspace.at(str(place))
        seen = glance(place)
        if seen is not None and seen.key in known:
            found.append({**known[seen.key], "instance": seen.instance})
            continue
        try:
            entry = _entry(place, identify) if is_dicom(place) else None
        except (CaseError, OSError):
            entry = {"kind": "damaged"}
        found.append(entry)
        slices = entry["slices"] if entry is not None and entry["kind"] == "image" else 0
        if seen is not None and entry is not None and slices == 1:
            known[seen.key] = entry
    return found


def _entry(place: Place, identify: bool) -> dict[str, Any]:
    """Return the entry of one DICOM file."""
    instance = read_header(place)
    kind = instance.kind
    if kind == "image" and instance.problem is not None and instance.problem.code in NO_VOLUME:
        kind = "picture"
    try:
        with place.open() as file:
            named = dcmread(file, specific_tags=_IDENTIFIERS, stop_before_pixels=True)
        patient, issuer, study = (str(named.get(name) or "").strip() for name in _IDENTIFIERS)
        drawn_on = references(place) if kind == "other" else None
    except Exception as error:  # pydicom raises anything on a damaged file
        raise CaseError("damaged", f"{place} has a damaged header; copy it again") from error
    entry: dict[str, Any] = {
        "kind": kind if drawn_on is None else "annotation",
        "series": instance.series,
        "instance": instance.uid,
        "label": Series(instance.series, ()).label,
        "modality": instance.modality,
        "slices": len(instance.slices),
        "frame": instance.frame_of_reference,
        "patient": _hash(patient),
        "issuer": _hash(issuer) if patient else "",
        "study": _hash(study),
    }
    if drawn_on is not None:
        entry["drawn_on"], entry["frames"] = drawn_on
    if identify:
        entry["identity"] = (patient, study)
    return entry


def _hash(text: str) -> str:
    """Return the SHA-256 of a tag's value in hexadecimal; empty if the value is empty."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest() if text else ""
