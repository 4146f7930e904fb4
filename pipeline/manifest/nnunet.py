"""Read and write an nnU-Net v2 raw data set.

    Dataset001_Name/
      dataset.json               channel_names, labels, numTraining, file_ending
      imagesTr/<case>_0000.nii.gz, <case>_0001.nii.gz, ...  one file per channel
      labelsTr/<case>.nii.gz
      imagesTs/, labelsTs/       the same for test cases

See documentation/dataset_format.md of nnU-Net v2.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxtile.case import Case, Split
from voxtile.errors import ManifestError, first_few
from voxtile.reading.formats import SUFFIXES

from .names import case_ids, find_files, split_channel
from .source import Found, channel_names, label_names, read_object
from .splits_final import read_splits

# nnU-Net leaves voxels of this label out of loss and scores
# (documentation/ignore_label.md of nnU-Net v2).
_IGNORE = "ignore"


@dataclass(slots=True)
class _Part:
    """The training cases of the data set, or its test cases."""

    split: Split
    images: dict[str, list[Path]] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)


def read_nnunet(folder: Path, fold: int | None = None) -> Found:
    """Return the cases of an nnU-Net v2 raw data set: `Tr` as train, `Ts` as test.

    A ``splits_final.json`` beside them gives the column `fold`; with `fold`, the
    splits train and val are those of that fold. Data sets that nnU-Net would
    refuse are refused here too.
    """
    path = folder / "dataset.json"
    document = read_object(path)
    channels = channel_names(document.get("channel_names", document.get("modality")), path)
    ending = document.get("file_ending", ".nii.gz")
    if ending not in SUFFIXES:
        raise ManifestError(
            [f"{path}: file_ending {ending!r} is not supported; convert the images to .nii.gz"]
        )
    problems: list[str] = []
    if isinstance(document.get("dataset"), dict):
        parts = [_named(document["dataset"], folder, path, problems)]
    else:
        parts = [
            _found(folder, "Tr", "train", str(ending), len(channels), problems),
            _found(folder, "Ts", "test", str(ending), len(channels), problems),
        ]
    notices = _judge(document, parts, channels, path, problems)
    if problems:
        raise ManifestError(problems)
    named_labels = label_names(document.get("labels"))
    labels = tuple((value, name) for value, name in named_labels if name != _IGNORE)
    notices += _label_notices(document.get("labels"), labels)
    rows = [(part, name) for part in parts for name in part.images]
    ids = case_ids([(part.split, name) for part, name in rows])
    named = ["image"] if len(channels) == 1 else channels
    splits = read_splits(folder, list(parts[0].images), fold)
    notices += splits.notices
    cases = [
        Case(
            case,
            tuple(zip(named, part.images[name], strict=True)),
            part.labels.get(name),
            splits.split[name] if part.split == "train" else part.split,
            extras=(("fold", splits.fold[name]),) if part.split == "train" and splits.fold else (),
        )
        for case, (part, name) in zip(ids, rows, strict=True)
    ]
    cases.sort(key=lambda case: (case.split == "test", case.case_id))
    return Found(tuple(cases), tuple(notices), labels)


def _label_notices(described: Any, labels: Sequence[tuple[int, str]]) -> Iterator[str]:
    """Yield notices about labels of a dataset.json that a manifest cannot express."""
    if not isinstance(described, dict):
        return
    if _IGNORE in described:
        yield (
            f"dataset.json marks label value {described[_IGNORE]!r:.20} as {_IGNORE!r}; leave "
            "these voxels out of training and scores with --labels dataset.json, or with "
            f"--ignore {described[_IGNORE]!r:.20}"
        )
    named = {value for value, _ in labels}
    regions = {
        str(name): values
        for name, values in described.items()
        if isinstance(values, list) and len(values) > 1
    }
    parts = {value for values in regions.values() for value in values if isinstance(value, int)}
    if parts - named:
        yield (
            f"label values {first_few(sorted(parts - named))} have no name of their own, only "
            f"regions of several values ({first_few(list(regions))}); train these regions with "
            "--labels dataset.json"
        )


def places(case: Case) -> tuple[tuple[str, ...], str]:
    """Return the files of a case in the data set: one for each channel, and the label."""
    half = "Ts" if case.split == "test" else "Tr"
    images = tuple(
        f"images{half}/{case.case_id}_{number:04d}.nii.gz" for number in range(len(case.images))
    )
    return images, f"labels{half}/{case.case_id}.nii.gz"


def describe(
    cases: Sequence[Case], channels: Sequence[str], labels: Mapping[int, str], name: str
) -> dict[str, Any]:
    """Return the JSON files of a data set, by name.

    These are ``dataset.json``, and ``splits_final.json`` if the manifest divides
    the training cases, by column `fold` or else by splits. Cases of split
    ``test`` are test cases, all others training cases.

    Raises
    ------
    ManifestError
        If a training case has no label, or label values are not 1, 2, 3 and so
        on, each with a different name.
    """
    training = [case for case in cases if case.split != "test"]
    problems = []
    without = [case.case_id for case in training if case.label is None]
    if without:
        problems.append(
            f"no label for {first_few(without)}; nnU-Net trains on all cases except those of split "
            "test, so name their labels or give them that split"
        )
    if not training:
        problems.append("every case has split test; nnU-Net needs training cases")
    if sorted(labels) != list(range(1, len(labels) + 1)):
        problems.append(
            f"label values {first_few(sorted(labels))} must be 1, 2, 3 and so on without a gap for "
            "nnU-Net; renumber them first"
        )
    values_of: dict[str, list[str]] = {"background": ["0"]}
    for value in sorted(labels):
        values_of.setdefault(labels[value], []).append(str(value))
    problems += [
        f"label values {first_few(values)} are all called {name!r}, but nnU-Net finds a value by "
        "its name; give each a name of its own with --labels"
        for name, values in values_of.items()
        if len(values) > 1
    ]
    if problems:
        raise ManifestError(problems)
    files: dict[str, Any] = {
        "dataset.json": {
            "name": name,
            "channel_names": {str(number): channel for number, channel in enumerate(channels)},
            "labels": {"background": 0} | {labels[value]: value for value in sorted(labels)},
            "numTraining": len(training),
            "file_ending": ".nii.gz",
        }
    }
    splits = _splits(training)
    return files | ({"splits_final.json": splits} if splits else {})


def _splits(training: Sequence[Case]) -> list[dict[str, list[str]]]:
    """Return training and validation cases of each fold; empty if the cases are not divided."""
    of_fold = {case.case_id: dict(case.extras).get("fold", "") for case in training}
    numbers = sorted(set(of_fold.values()) - {""}, key=lambda fold: (len(fold), fold))
    if not numbers:
        of_fold = {case.case_id: case.split or "train" for case in training}
        numbers = ["val"]
    splits = [
        {
            "train": [name for name, fold in of_fold.items() if fold != number],
            "val": [name for name, fold in of_fold.items() if fold == number],
        }
        for number in numbers
    ]
    return [split for split in splits if split["train"] and split["val"]]


def _found(
    folder: Path, half: str, split: Split, ending: str, channels: int, problems: list[str]
) -> _Part:
    """Return the training cases or the test cases, by their folders."""
    part = _Part(split)
    images, labels = folder / f"images{half}", folder / f"labels{half}"
    if not images.is_dir():
        if half == "Tr":
            problems.append(f"{images} does not exist, but an nnU-Net data set needs it")
        return part
    files: dict[str, dict[int, Path]] = {}
    for path in find_files(images):
        if path.name.endswith(ending):
            numbered = split_channel(path.name[: -len(ending)])
            if numbered is None:
                problems.append(
                    f"{path} must be named <case>_<channel>{ending}, the channel in four digits"
                )
            else:
                files.setdefault(numbered[0], {})[int(numbered[1])] = path
    for name, found in files.items():
        if sorted(found) != list(range(channels)):
            problems.append(
                f"{images}: case {name} has channels {sorted(found)}, but dataset.json names "
                f"{channels}, counted from 0"
            )
        part.images[name] = [found[number] for number in sorted(found)]
    if labels.is_dir():
        part.labels = {
            path.name[: -len(ending)]: path
            for path in find_files(labels)
            if path.name.endswith(ending)
        }
    return part


def _named(dataset: dict[str, Any], folder: Path, path: Path, problems: list[str]) -> _Part:
    """Return the cases that ``dataset`` of a dataset.json names; their files may be anywhere."""
    part = _Part("train")
    for name, entry in dataset.items():
        try:
            images = [folder / image for image in entry["images"]]
            label = folder / entry["label"]
        except (TypeError, KeyError):
            problems.append(f"{path}: dataset {name!r:.80} must have a list `images` and a `label`")
            continue
        problems += [
            f"{path}: dataset {name!r:.80} names {file}, which does not exist"
            for file in [*images, label]
            if not file.is_file()
        ]
        part.images[name], part.labels[name] = images, label
    return part


def _judge(
    document: dict[str, Any],
    parts: Sequence[_Part],
    channels: Sequence[str],
    path: Path,
    problems: list[str],
) -> list[str]:
    """Add messages about wrong cases to `problems`, and return notices."""
    train = parts[0]
    problems += [
        f"{path}: case {name} has {len(images)} channels, but {len(channels)} are named"
        for part in parts
        for name, images in part.images.items()
        if len(images) != len(channels) and isinstance(document.get("dataset"), dict)
    ]
    missing = [name for name in train.images if name not in train.labels]
    if missing:
        problems.append(f"{path.parent / 'labelsTr'} has no label for {first_few(missing)}")
    if not train.images and not problems:
        problems.append(f"{path.parent} has no training case, so there is nothing to list")
    notices = []
    for part in parts:
        orphans = [name for name in part.labels if name not in part.images]
        if orphans:
            notices.append(f"no {part.split} image for label {first_few(orphans)}")
    said = document.get("numTraining")
    if isinstance(said, int) and said != len(train.images):
        notices.append(f"dataset.json says numTraining {said}, but {len(train.images)} were found")
    return notices
