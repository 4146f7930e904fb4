"""What earlier runs exported of a case is removed when the case is done again, or fails.

So is what writers that were killed left of it.
"""

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from voxtile.errors import CaseError
from voxtile.machine.files import clear_temporary, remove
from voxtile.models.spec import Label
from voxtile.run_folder.layout import RunFolder

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
    folder = RunFolder(out)
    remove_other_tables(folder.masks, labels)
    exports = folder.exports
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


def clear_exports(out: Path, case_ids: Collection[str]) -> None:
    """Remove the temporary files of cases from every format in ``exports/``.

    Parameters
    ----------
    out : Path
        The run folder.
    case_ids : collection of str
        Nobody may be exporting them.
    """
    exports = RunFolder(out).exports
    for name, place in _PLACES.items():
        names = {place.format(case_id) for case_id in case_ids}
        clear_temporary(exports / name, names)
        for folder in (exports / name).glob("*/"):
            if folder.name in names:  # with a file for each label
                clear_temporary(folder)
    begins = {begin for case_id in case_ids for begin in _bids_names(case_id)}
    for path in (exports / "bids").rglob(".*_desc-*.tmp"):
        if path.name[1:].partition("_desc-")[0] in begins:
            remove(path)


def _bids_names(case_id: str) -> Iterator[str]:
    """Yield how the names of a case's files in BIDS begin, if it has one."""
    with suppress(CaseError):
        yield "_".join(bids_entities(case_id))


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
