"""Find the series and patient of each file of a tree. Runs in the child process."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread

from voxtile.errors import CaseError
from voxtile.reading.isolation import Workspace

from .folder import Place, is_dicom
from .header import read_header
from .selection import NO_VOLUME, Series

# Blanks around them have no meaning (PS3.5 6.2, LO).
_IDENTIFIERS = ["PatientID", "IssuerOfPatientID", "StudyInstanceUID"]


def catalogue_here(
    workspace: Workspace, paths: Sequence[str], identify: bool
) -> list[dict[str, Any] | None]:
    """Do the work of `voxtile.reading.dicom.catalogue` in this process."""
    found = []
    for number, path in enumerate(paths, start=1):
        place = Place(Path(path), number, len(paths))
        workspace.at(str(place))
        try:
            found.append(_entry(place, identify) if is_dicom(place) else None)
        except (CaseError, OSError):
            found.append({"kind": "damaged"})
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
    except Exception as error:  # pydicom raises anything on a damaged file
        raise CaseError("damaged", f"{place} has a damaged header; copy it again") from error
    entry: dict[str, Any] = {
        "kind": kind,
        "series": instance.series,
        "instance": instance.uid,
        "label": Series(instance.series, ()).label,
        "modality": instance.modality,
        "slices": len(instance.slices),
        "patient": _hash(patient),
        "issuer": _hash(issuer) if patient else "",
        "study": _hash(study),
    }
    if identify:
        entry["identity"] = (patient, study)
    return entry


def _hash(text: str) -> str:
    """Return the SHA-256 of a tag's value in hexadecimal; empty if the value is empty."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest() if text else ""
