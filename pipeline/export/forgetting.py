"""What earlier runs exported of a case is removed when the case is done again, or fails."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from voxtile.errors import CaseError
from voxtile.files import remove
from voxtile.models.spec import Label

from .bids import bids_entities
from .tables import remove_other_tables

# Where each format keeps a case: a file, or a folder with a file for each label.
_PLACES = {
    "seg.nrrd": "{}.seg.nrrd",
    "dicom-seg": "{}.dcm",
    "dicom-seg-labelmap": "{}.dcm",
    "binary": "{}",
    "stl": "{}",
    "glb": "{}.glb",
    "probabilities": "{}",
    "probabilities16": "{}",
}


def forget_exports(out: Path, case_id: str, labels: Sequence[Label]) -> None:
    """Remove a case from every format in ``exports/``, and label tables of other labels.

    Parameters
    ----------
    out : Path
        The run folder.
    case_id : str
    labels : sequence of Label
        Of the mask that the case gets.

    Raises
    ------
    EnvironmentFault
        If a file cannot be removed.
    """
    remove_other_tables(out / "masks", labels)
    exports = out / "exports"
    if not exports.is_dir():
        return
    for name, place in _PLACES.items():
        path = exports / name / place.format(case_id)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            remove(path)
    for path in _in_bids(exports / "bids", case_id):
        remove(path)


def _in_bids(root: Path, case_id: str) -> Iterator[Path]:
    """Yield the files of a case in a BIDS folder, of whatever model; its sidecar names it."""
    try:
        subject = root / bids_entities(case_id)[0]
    except CaseError:
        return  # it has no name in BIDS, so it was never there
    for sidecar in sorted(subject.rglob("*_dseg.json")):
        try:
            named = json.loads(sidecar.read_bytes()).get("VoxtileCaseID")
        except (OSError, ValueError, AttributeError):
            continue
        if named == case_id:
            yield sidecar.with_suffix("").with_suffix(".nii.gz")
            yield sidecar
