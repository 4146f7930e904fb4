"""Remove earlier exports of a case when it is processed again or fails, and temporary files."""

import gzip
import os
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from voxtile.errors import CaseError
from voxtile.machine.files import clear_temporary, remove, temporary_for
from voxtile.machine.json_objects import read_object
from voxtile.models.spec import Label
from voxtile.run_folder.layout import RunFolder

from .bids import bids_entities
from .formats import PLACES
from .tables import remove_other_tables

# `file_stem` of a label, with the suffix of a format.
_OF_LABEL = re.compile(r"\d+(?:_[A-Za-z0-9]+)*\.(?:nii\.gz|stl)")
_BIDS_SHARED = re.compile(r"dataset_description\.json|README\.md|desc-\w+_dseg\.tsv")

# The first bytes of each export contain one of these; other programs add a comment to a NRRD.
_OURS = (b"voxtile", b"Voxtile", b"NRRD0004\ntype:")
_BEGINNING = 4096


def forget_exports(out: Path, case_id: str, labels: Sequence[Label]) -> None:
    """Remove a case from every format in ``exports/``, and tables of other labels than `labels`."""
    folder = RunFolder(out)
    remove_other_tables(folder.masks, labels)
    exports = folder.exports
    if not exports.is_dir():
        return
    for name, place in _by_id():
        path = exports / name / place.format(case_id)
        if not path.is_dir() or path.is_symlink():
            _remove_own(path)
        elif place == "{}":  # a folder with a file for each label
            for one in path.iterdir():
                if _OF_LABEL.fullmatch(temporary_for(one) or one.name):
                    _remove_own(one)
            with suppress(OSError):  # files of other programs stay
                path.rmdir()
    for path in _in_bids(exports / "bids", case_id):
        _remove_own(path)


def refuse_to_replace(out: Path, case_id: str, name: str) -> None:
    """Refuse to export a case if this would replace a file that voxtile did not write.

    Raises
    ------
    CaseError
        With the name of that file.
    """
    for path in exported_paths(out, case_id, (name,)):
        if not _is_own(path):
            raise CaseError(
                "export_foreign",
                f"{path.name} in exports/{name} is not from voxtile, or was changed; move it away",
            )


def _remove_own(path: Path) -> None:
    """Remove a file, unless another program wrote it."""
    if _is_own(path):
        remove(path)


def _is_own(path: Path) -> bool:
    """Whether a file begins like an export, or is empty, or is missing."""
    if not path.is_file() or path.is_symlink():
        return not os.path.lexists(path)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            begin = file.read(_BEGINNING)
    except (OSError, EOFError, zlib.error):
        return False
    return not begin or any(mark in begin for mark in _OURS)


def exported_paths(
    out: Path, case_id: str, names: Collection[str] = tuple(PLACES)
) -> Iterator[Path]:
    """Yield the existing files of a case in ``exports/``, without temporary ones."""
    exports = RunFolder(out).exports
    if not exports.is_dir():
        return
    for name, place in _by_id():
        if name not in names:
            continue
        path = exports / name / place.format(case_id)
        found = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() else [path]
        yield from (one for one in found if os.path.lexists(one) and temporary_for(one) is None)
    if "bids" in names:
        yield from _in_bids(exports / "bids", case_id)


def clear_shared_exports(out: Path) -> None:
    """Remove the temporary files of the files that all cases share in ``exports/bids``."""
    bids = RunFolder(out).exports / "bids"
    found = {temporary_for(path) for path in bids.glob(".*.tmp")}
    clear_temporary(bids, {name for name in found if name and _BIDS_SHARED.fullmatch(name)})


def clear_exports(out: Path, case_ids: Collection[str]) -> None:
    """Remove the temporary files of cases that no other process exports now."""
    exports = RunFolder(out).exports
    for name, place in _by_id():
        names = {place.format(case_id) for case_id in case_ids}
        clear_temporary(exports / name, names)
        for folder in (exports / name).glob("*/"):
            if folder.name in names:  # a folder with a file for each label
                clear_temporary(folder)
    begins = {begin for case_id in case_ids for begin in _bids_names(case_id)}
    for path in (exports / "bids").rglob(".*_desc-*.tmp"):
        target = temporary_for(path)
        if target is not None and target.partition("_desc-")[0] in begins:
            remove(path)


def lacks_export(out: Path, case_id: str, name: str) -> bool:
    """Whether a format has no file of a case; label tables are for all cases."""
    if place := PLACES[name]:
        return not (RunFolder(out).export(name) / place.format(case_id)).exists()
    return name != "bids" or not any(_in_bids(RunFolder(out).export(name), case_id))


def _by_id() -> Iterator[tuple[str, str]]:
    """Yield the formats that name files by case id, each with the path of a case."""
    return ((name, place) for name, place in PLACES.items() if place)


def _bids_names(case_id: str) -> Iterator[str]:
    """Yield the prefix of a case's file names in BIDS, if its id is possible there."""
    with suppress(CaseError):
        yield "_".join(bids_entities(case_id))


def _in_bids(root: Path, case_id: str) -> Iterator[Path]:
    """Yield the files of a case in a BIDS folder, of any model; the sidecar names the case."""
    try:
        subject = root / bids_entities(case_id)[0]
    except CaseError:
        return  # the case cannot have a name in BIDS, so it has no file there
    for sidecar in sorted(subject.rglob("*_dseg.json")):
        try:
            named = read_object(sidecar, {}).get("VoxtileCaseID")
        except (OSError, ValueError):
            continue
        if named == case_id:
            yield sidecar.with_suffix("").with_suffix(".nii.gz")
            yield sidecar
