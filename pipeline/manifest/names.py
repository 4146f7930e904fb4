"""Make case ids from file names, and list the volumes of a folder in order."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from voxtile.case import id_problem
from voxtile.errors import ManifestError
from voxtile.machine.files import files_below
from voxtile.reading.formats import split_suffix, volumes_among
from voxtile.run_folder.layout import RunFolder

# A case with nnU-Net's channel number (documentation/dataset_format.md of nnU-Net v2).
_CHANNEL = re.compile(r"(.+)_(\d{4})")


def find_volumes(folder: Path) -> list[Path]:
    """Return the files below a folder that are volumes (not DICOM), in the order of their names.

    If there are no volumes, return pictures; if there are no pictures either, archives.
    Of a pair only the header is returned. Hidden files are left out: macOS
    puts a ``._x.nii.gz`` beside each ``x.nii.gz`` that it copies.
    """
    return volumes_among(find_files(folder))


def find_files(source: Path) -> list[Path]:
    """Return a file, or all files below a folder that are not hidden, in the order of their names.

    Links to folders are followed, each folder once, as the DICOM reader does. Run folders are left
    out, because their masks would be taken for references.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ManifestError([f"{source} is not a folder; name the folder of the data set"])
    found = sorted(files_below(source, _refuse))
    runs = run_folders(found)
    if source in runs:
        raise ManifestError([f"{source} is the folder of a run; name the folder of its scans"])
    return [path for path in found if runs.isdisjoint(path.parents)]


def run_folders(files: Iterable[Path]) -> set[Path]:
    """Return the folders among those of the files that hold the masks of a run."""
    folders = {path.parent for path in files if path.name.startswith("run")}
    return {folder for folder in folders if RunFolder(folder).has_masks_of_a_run}


def stem(path: Path) -> str:
    """Return a file's name without the suffix of a volume."""
    return split_suffix(path.name)[0]


def split_channel(name: str) -> tuple[str, str] | None:
    """Return case and channel of nnU-Net's ``case_0000``; None for another name."""
    match = _CHANNEL.fullmatch(name)
    return None if match is None else (match[1], match[2])


def channel_name(text: str) -> str:
    """Return a name that is allowed in a column ``image_<channel>``."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", text)[:40] or "_"


def case_id(text: str) -> str:
    """Return a case id for any text: characters that are not allowed become ``_``."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", text)
    # A leading "-" makes a formula in a spreadsheet, and an option in a shell.
    kept = re.sub(r"^-", "_", kept)
    if not kept.strip("."):
        return kept.replace(".", "_") or "_"
    # Windows drops dots at the end of a name.
    kept = re.sub(r"\.+$", "_", kept)
    short = len(kept) <= 100  # `case_ids` refuses a longer one
    return f"_{kept}" if short and id_problem(kept) else kept


def case_ids(names: Sequence[Sequence[str]]) -> list[str]:
    """Return an id for each case, unique even if upper and lower case are ignored.

    Parameters
    ----------
    names : sequence of sequence of str
        For each case its folders, relative to the data set, and its name. The
        id is the name if all names differ, else the folders and the name.

    Raises
    ------
    ManifestError
        If two cases would have the same id, or an id would be too long.

    Examples
    --------
    >>> case_ids([("a", "scan"), ("b", "scan")])
    ['a_scan', 'b_scan']
    """
    ids = [case_id(parts[-1]) for parts in names]
    if _repeated(ids):
        ids = [case_id("_".join(parts)) for parts in names]
    problems = [
        f"{'/'.join(parts)!r} and another file both become case_id {chosen!r}; rename one"
        for parts, chosen in zip(names, ids, strict=True)
        if chosen.casefold() in _repeated(ids)
    ]
    problems += [
        f"case_id {chosen[:40]!r}... would have {len(chosen)} characters, but at most 100 are "
        "allowed; rename the file"
        for chosen in ids
        if len(chosen) > 100
    ]
    if problems:
        raise ManifestError(problems)
    return ids


def _repeated(ids: Sequence[str]) -> set[str]:
    """Return the ids that occur several times."""
    counts = Counter(name.casefold() for name in ids)
    return {name for name, count in counts.items() if count > 1}


def _refuse(error: OSError) -> None:
    """Refuse a folder that cannot be read: a manifest must not silently lack cases."""
    raise ManifestError([f"{error.filename} cannot be read: {error.strerror}"]) from error
