"""Read and write lists of cases in JSON: Medical Segmentation Decathlon and MONAI.

    {"training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
     "test": ["./imagesTs/b.nii.gz"]}

Decathlon: ``dataset.json`` of arXiv:1902.09063 with `modality` and `labels`.
MONAI: `monai.data.load_decathlon_datalist`; images may be lists with one file
per channel, and entries may have further keys, such as Auto3DSeg's `fold`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtile.case import Case, Split
from voxtile.errors import ManifestError

from .names import case_ids, stem
from .rows import KNOWN
from .source import Found, channel_names, label_names, read_json, read_object

_SPLITS: dict[str, Split]
_SPLITS = {"training": "train", "validation": "val", "test": "test", "testing": "test"}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a list whose files exist."""

    images: tuple[Path, ...]
    label: Path | None
    split: Split | None
    further: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """Return the value of a further key, or None if it is missing or empty."""
        return dict(self.further).get(name) or None


def read_decathlon(path: Path) -> Found:
    """Return the cases of a Decathlon ``dataset.json``: training as train, test as test.

    nnU-Net v1 lists ``x.nii.gz`` but stores ``x_0000.nii.gz`` and so on; then
    the stored files are used.
    """
    document = read_object(path)
    entries = _entries(document, path, path.parent)
    modality = document.get("modality")
    channels = channel_names(modality, path) if modality else []
    found = _cases(entries, channels)
    notices = []
    if len(channels) > 1 and all(len(entry.images) == 1 for entry in entries):
        notices.append(
            f"{len(channels)} modalities ({', '.join(channels)}) are in each file as volumes; "
            "choose one with --volume, or split the files into columns image_<channel>"
        )
    return Found(found, tuple(notices), label_names(document.get("labels")))


def read_monai(path: Path, root: Path | None = None) -> Found:
    """Return the cases of a MONAI datalist; relative paths begin at `root` or its own folder."""
    document = read_json(path)
    entries = _entries(document, path, root or path.parent)
    labels = document.get("labels") if isinstance(document, dict) else None
    return Found(_cases(entries, []), labels=label_names(labels))


def places(case: Case) -> tuple[tuple[str, ...], str]:
    """Return the files of a case in the data set: one for each channel, and the label."""
    names = [
        case.case_id if len(case.images) == 1 else f"{case.case_id}_{channel}"
        for channel, _ in case.images
    ]
    return tuple(f"images/{name}.nii.gz" for name in names), f"labels/{case.case_id}.nii.gz"


def describe(
    cases: Sequence[Case], channels: Sequence[str], labels: Mapping[int, str], name: str
) -> dict[str, Any]:
    """Return the datalist of some cases, as ``datalist.json``.

    Cases of split ``train`` or without a split are in the list training, cases of
    ``val`` in validation, cases of ``test`` in testing. Cases with a fold that are
    not of split ``test`` are in training with its number, as Auto3DSeg expects.

    Raises
    ------
    ManifestError
        If two images would have the same file name, such as channel ``ce_T1``
        of case ``p1`` and channel ``T1`` of case ``p1_ce``.
    """
    _require_own_files(cases)
    lists: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "testing": []}
    keys = {"val": "validation", "test": "testing"}
    for case in cases:
        images, label = places(case)
        entry: dict[str, Any] = {"image": images[0] if len(images) == 1 else list(images)}
        if case.label is not None:
            entry["label"] = label
        entry |= {"case_id": case.case_id} | ({"group": case.group} if case.group else {})
        fold = dict(case.extras).get("fold", "")
        if fold.isdecimal() and case.split != "test":
            entry["fold"] = int(fold)
        key = "training" if "fold" in entry else keys.get(case.split or "", "training")
        lists[key].append(entry)
    described = {str(number): channel for number, channel in enumerate(channels)}
    named = {"0": "background"} | {str(value): labels[value] for value in sorted(labels)}
    document = {"name": name, "modality": described, "labels": named}
    return {"datalist.json": document | {key: found for key, found in lists.items() if found}}


def _require_own_files(cases: Sequence[Case]) -> None:
    """Refuse cases whose images would overwrite each other."""
    owners: dict[str, str] = {}
    problems = []
    for case in cases:
        for place in places(case)[0]:
            # Some file systems do not distinguish upper and lower case.
            other = owners.setdefault(place.casefold(), case.case_id)
            if other != case.case_id:
                problems.append(
                    f"cases {other!r} and {case.case_id!r} would both have an image {place}; "
                    "rename one of the cases, or the column of the channel"
                )
    if problems:
        raise ManifestError(problems)


def _entries(document: Any, path: Path, root: Path) -> list[_Entry]:
    """Return the entries of all lists, or raise an error that names all of their problems."""
    lists: list[tuple[str, Split | None, Any]] = []
    if isinstance(document, list):
        lists = [("list", None, document)]
    elif isinstance(document, dict):
        lists = [(key, split, document[key]) for key, split in _SPLITS.items() if key in document]
    if not lists:
        raise ManifestError([f"{path} must have one of the lists {', '.join(_SPLITS)}"])
    problems: list[str] = []
    entries = []
    for key, split, items in lists:
        if not isinstance(items, list):
            problems.append(f"{path}: {key} is a {type(items).__name__}, but a list is needed")
            continue
        for number, item in enumerate(items):
            try:
                entries.append(_entry(item, split, root))
            except ValueError as error:
                problems.append(f"{path}: {key}[{number}] {error}")
    if not entries and not problems:
        problems.append(f"{path} lists no case")
    if problems:
        raise ManifestError(problems)
    return entries


def _entry(item: Any, split: Split | None, root: Path) -> _Entry:
    """Return one entry, or raise a ValueError that says what is wrong with it."""
    if isinstance(item, str):
        item = {"image": item}
    if not isinstance(item, dict):
        raise ValueError(f"is a {type(item).__name__}; it must name an image, and may name a label")
    image, label = item.get("image"), item.get("label")
    names = [image] if isinstance(image, str) else image
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError(f"has image {image!r:.80}; it must be a path or a list of paths")
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if label is not None and not isinstance(label, str):
        raise ValueError(f"has label {label!r:.80}, which must be one path")
    images = [found for name in names for found in _files(root / name)]
    missing = [file for file in [*images, *([root / label] if label else [])] if not file.exists()]
    if missing:
        raise ValueError(f"names {', '.join(map(str, missing))}, which does not exist")
    further = tuple(
        (key, str(value))
        for key, value in item.items()
        if key not in ("image", "label") and isinstance(value, str | int | float)
    )
    return _Entry(tuple(images), root / label if label else None, split, further)


def _files(path: Path) -> list[Path]:
    """Return the file of a listed image, or its channels' files if these exist instead."""
    if path.exists():
        return [path]
    bare = stem(path)
    ending = path.name[len(bare) :]
    channels: list[Path] = []
    while (file := path.with_name(f"{bare}_{len(channels):04d}{ending}")).exists():
        channels.append(file)
    return channels or [path]


def _cases(entries: list[_Entry], channels: list[str]) -> tuple[Case, ...]:
    """Return the cases of the entries; cases of the same split follow each other."""
    # If all files have the same name, the folder is part of the case's name.
    names = [
        (entry.images[0].parent.name, entry.get("case_id") or _name(entry)) for entry in entries
    ]
    cases = []
    for name, entry in zip(case_ids(names), entries, strict=True):
        count = len(entry.images)
        named = ["image"] if count == 1 else channels
        if len(named) != count:
            named = [str(number) for number in range(count)]
        cases.append(
            Case(
                name,
                tuple(zip(named, entry.images, strict=True)),
                entry.label,
                entry.split,
                entry.get("group"),
                extras=tuple(
                    (key, value)
                    for key, value in entry.further
                    if key != "case_id" and key not in KNOWN
                ),
            )
        )
    order = [*_SPLITS.values(), None]
    return tuple(sorted(cases, key=lambda case: (order.index(case.split), case.case_id)))


def _name(entry: _Entry) -> str:
    """Return the name of a case: its image's name without the number of a channel."""
    name = stem(entry.images[0])
    return name.removesuffix("_0000") if len(entry.images) > 1 else name
