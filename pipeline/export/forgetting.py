"""Remove earlier exports of a case when the case is processed again, or fails.

Temporary files of killed processes are removed too.
"""

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from voxtile.errors import CaseError
from voxtile.machine.files import clear_temporary, remove
from voxtile.machine.json_objects import read_object
from voxtile.models.spec import Label
from voxtile.run_folder.layout import RunFolder

from .bids import bids_entities
from .formats import PLACES
from .tables import remove_other_tables


def forget_exports(out: Path, case_id: str, labels: Sequence[Label]) -> None:
    """Remove a case from every format in ``exports/``, and label tables of other labels.

    Parameters
    ----------
    out : Path
        The run folder.
    labels : sequence of Label
        The labels of the new mask.

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
    for name, place in _by_id():
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
        Cases that no other process exports now.
    """
    exports = RunFolder(out).exports
    for name, place in _by_id():
        names = {place.format(case_id) for case_id in case_ids}
        clear_temporary(exports / name, names)
        for folder in (exports / name).glob("*/"):
            if folder.name in names:  # a folder with a file for each label
                clear_temporary(folder)
    begins = {begin for case_id in case_ids for begin in _bids_names(case_id)}
    for path in (exports / "bids").rglob(".*_desc-*.tmp"):
        if path.name[1:].partition("_desc-")[0] in begins:
            remove(path)


def lacks_export(out: Path, case_id: str, name: str) -> bool:
    """Whether a format has no file of a case; label tables are of all cases, and may be of few."""
    if place := PLACES[name]:
        return not (RunFolder(out).export(name) / place.format(case_id)).exists()
    return name != "bids" or not any(_in_bids(RunFolder(out).export(name), case_id))


def _by_id() -> Iterator[tuple[str, str]]:
    """Yield the formats that keep a case under its id, with its path."""
    return ((name, place) for name, place in PLACES.items() if place)


def _bids_names(case_id: str) -> Iterator[str]:
    """Yield the beginning of the names of a case's files in BIDS, if it can have files there."""
    with suppress(CaseError):
        yield "_".join(bids_entities(case_id))


def _in_bids(root: Path, case_id: str) -> Iterator[Path]:
    """Yield the files of a case in a BIDS folder, of any model; the sidecar names the case."""
    try:
        subject = root / bids_entities(case_id)[0]
    except CaseError:
        return  # it cannot have a name in BIDS, so it has no file there
    for sidecar in sorted(subject.rglob("*_dseg.json")):
        try:
            named = read_object(sidecar, {}).get("VoxtileCaseID")
        except (OSError, ValueError):
            continue
        if named == case_id:
            yield sidecar.with_suffix("").with_suffix(".nii.gz")
            yield sidecar
