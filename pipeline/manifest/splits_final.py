"""Read nnU-Net's ``splits_final.json``: training and validation cases of each fold.

    [{"train": ["p1", "p2"], "val": ["p3"]}, {"train": ["p1", "p3"], "val": ["p2"]}]

nnU-Net looks for this file in its folder of preprocessed data (documentation of
nnU-Net v2, "manual_data_splits"); people also keep it in the raw data set.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxtile.case import Split
from voxtile.errors import ManifestError, UsageError, counted, first_few

from .source import read_json

_NAME = "splits_final.json"


@dataclass(frozen=True, slots=True)
class Splits:
    """The split and the fold of each training case by its name, and notices."""

    split: Mapping[str, Split | None]
    fold: Mapping[str, str]
    notices: tuple[str, ...] = ()


def read_splits(folder: Path, names: Collection[str], fold: int | None = None) -> Splits:
    """Return the splits of an nnU-Net data set; all cases are train if it has no such file.

    A case's fold is the fold in which it is val. With `fold`, or if there is only
    one fold, the split of a case is its part in that fold.

    Raises
    ------
    ManifestError
        If the file does not have the form that nnU-Net writes.
    UsageError
        If there is no such fold.
    """
    preprocessed = folder.absolute().parent.parent / "nnUNet_preprocessed" / folder.absolute().name
    path = next((one / _NAME for one in (folder, preprocessed) if (one / _NAME).is_file()), None)
    if path is None:
        if fold is not None:
            raise UsageError(f"--fold {fold} needs {_NAME} in {folder} or {preprocessed}")
        return Splits(dict.fromkeys(names, "train"), {})
    folds = _folds(path)
    if fold is not None and not 0 <= fold < len(folds):
        raise UsageError(f"--fold {fold}: {path} has the folds 0 to {len(folds) - 1}")
    chosen = 0 if len(folds) == 1 else fold
    notices = []
    listed = {name for train, val in folds for name in (*train, *val)}
    for some, words in (
        (listed - set(names), "names cases that are not here"),
        (set(names) - listed, "does not name"),
    ):
        if some:
            notices.append(f"{path.name} {words}: {first_few(sorted(some))}")
    split: dict[str, Split | None] = dict.fromkeys(names, "train")
    if chosen is not None:
        train, val = folds[chosen]
        split = {
            name: "val" if name in val else "train" if name in train else None for name in names
        }
        notices.append(f"splits are those of fold {chosen} of {path}")
    numbers = {name: [str(n) for n, (_, val) in enumerate(folds) if name in val] for name in names}
    once = len(folds) > 1 and all(len(found) <= 1 for found in numbers.values())
    if once:
        notices.append(
            f"column fold has the {counted(len(folds), 'fold')} of {path}"
            + ("" if chosen is not None else "; --fold 0 writes fold 0 as splits train and val")
        )
    elif chosen is None:
        notices.append(
            f"{path} has cases that are val in several folds, so they have no column fold; choose "
            "one with --fold"
        )
    return Splits(split, {name: "".join(numbers[name]) for name in names if once}, tuple(notices))


def _folds(path: Path) -> list[tuple[Sequence[str], Sequence[str]]]:
    """Return training and validation cases of each fold."""
    document = read_json(path)
    folds = document if isinstance(document, list) else []
    for entry in folds:
        parts = [entry.get(key) for key in ("train", "val")] if isinstance(entry, dict) else [None]
        texts = [isinstance(part, list) and all(isinstance(x, str) for x in part) for part in parts]
        if not all(texts) or set(parts[0] or ()) & set(parts[1] or ()):
            folds = []
            break
    if not folds:
        raise ManifestError(
            [
                f'{path} must be a list with {{"train": [...], "val": [...]}} for each fold, and a '
                "case can be in only one of the two; correct it, or move it away"
            ]
        )
    return [(entry["train"], entry["val"]) for entry in folds]
