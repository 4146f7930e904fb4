"""Read a BIDS data set: images by suffix, labels by a pattern in its derivatives.

    sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz
    derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_label-lesion_mask.nii.gz

Names are ``entity-value`` pairs and a suffix, joined by ``_`` (BIDS
specification, "Filenames").
"""

import glob
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import ManifestError, UsageError, counted, first_few

from .names import case_ids, channel_name, find_volumes, stem
from .source import Found

_NAME = re.compile(r"((?:[A-Za-z0-9]+-[A-Za-z0-9+]+_)+)([A-Za-z0-9]+)")
_FIELDS = ("sub", "ses", "folder", "entities", "suffix")


@dataclass(frozen=True, slots=True)
class _Image:
    """An image file and the parts of its name."""

    path: Path
    entities: str  # the name without its suffix, such as sub-01_ses-1
    suffix: str
    folder: str  # relative to the data set, such as sub-01/ses-1/anat

    def value(self, entity: str) -> str:
        """Return the value of an entity; empty if the name has no such entity."""
        pairs = dict(pair.split("-", 1) for pair in self.entities.split("_"))
        return pairs.get(entity, "")


def read_bids(
    folder: Path,
    *,
    suffixes: Sequence[str] = (),
    label_pattern: str | None = None,
    entities: Mapping[str, Sequence[str]] | None = None,
    gaps: bool = False,
) -> Found:
    """Return a case for each image of a BIDS data set, with subjects as groups.

    Parameters
    ----------
    folder : Path
        The data set, with folders ``sub-*``.
    suffixes : sequence of str
        Which images to use, such as ``T1w``. Several suffixes are channels of one
        case, if all other entities agree. By default, the only suffix there is.
    label_pattern : str, optional
        Path of an image's label in `folder`: a glob pattern in which ``{sub}``, ``{ses}``,
        ``{folder}``, ``{entities}`` and ``{suffix}`` stand for the image's values, such
        as ``derivatives/manual/{folder}/{entities}_label-*_mask.nii.gz``.
    entities : mapping of str to sequence of str, optional
        Use only images with one of these values of each entity, such as
        ``{"sub": ("01", "02"), "ses": ("1",)}``.
    gaps : bool
        Keep cases that lack some of several suffixes; by default they are left out.

    Raises
    ------
    ManifestError
        If no such image is found, or a suffix or label must be chosen.
    """
    images, others = _images(folder, (entities or {}).get("sub"))
    notices = _misnamed(others)
    if others and not images:
        raise ManifestError([f"{folder} has no image whose name follows BIDS", *notices])
    images = _chosen(images, entities or {}, folder)
    chosen = tuple(suffixes) or _only_suffix(images, folder)
    problems: list[str] = []
    scans = _scans(images, chosen, problems, notices, gaps)
    if not scans:
        there = Counter(image.suffix for image in images)
        problems.append(
            f"{folder} has no case with {' and '.join(chosen)}; it has {_suffixes(there)}"
        )
        raise ManifestError([*problems, *notices])
    cases = []
    channels = ["image"] if len(chosen) == 1 else [channel_name(suffix) for suffix in chosen]
    firsts = [next(found[suffix] for suffix in chosen if suffix in found) for found in scans]
    ids = case_ids([[first.entities] for first in firsts])
    for name, found, first in zip(ids, scans, firsts, strict=True):
        session = first.value("ses")
        columns = zip(channels, chosen, strict=True)
        cases.append(
            Case(
                name,
                tuple((name, found[suffix].path) for name, suffix in columns if suffix in found),
                _label(first, folder, label_pattern, problems) if label_pattern else None,
                group=f"sub-{first.value('sub')}",
                extras=(("session", session),) if session else (),
                channels=() if len(found) == len(chosen) else tuple(channels),
            )
        )
    if problems:
        raise ManifestError(problems)
    without = [case.case_id for case in cases if case.label is None]
    if label_pattern and without:
        notices.append(f"no label for {first_few(without)}")
    return Found(tuple(sorted(cases, key=lambda case: case.case_id)), tuple(notices))


def _misnamed(others: Sequence[str]) -> list[str]:
    """Return a notice about files whose names do not follow BIDS, if there are any."""
    rule = "sub-<label>_..._<suffix> with only letters and digits"
    words = f"{counted(len(others), 'image file')} whose names do not follow BIDS, {rule}"
    return [f"left out {words}: {first_few(others)}"] if others else []


def _scans(
    images: Sequence[_Image],
    chosen: Sequence[str],
    problems: list[str],
    notices: list[str],
    gaps: bool,
) -> list[dict[str, _Image]]:
    """Return the images of each case by suffix, for cases that have all (with `gaps`: any)."""
    grouped: dict[str, dict[str, _Image]] = {}
    for image in images:
        if image.suffix in chosen:
            twins = grouped.setdefault(f"{image.folder}/{image.entities}", {})
            twin = twins.setdefault(image.suffix, image)
            if twin is not image:
                problems.append(f"{twin.path} and {image.path} differ only in suffix; keep one")
    scans = []
    for name, found in grouped.items():
        missing = [suffix for suffix in chosen if suffix not in found]
        if missing:
            kept = "kept" if gaps else "left out"
            notices.append(f"{kept} {name}: it has no {', '.join(missing)}")
        if gaps or not missing:
            scans.append(found)
    return scans


def _chosen(
    images: list[_Image], entities: Mapping[str, Sequence[str]], folder: Path
) -> list[_Image]:
    """Return the images with the wanted values; refuse a value that no image has."""
    for entity, values in entities.items():
        there = {image.value(entity) for image in images} - {""}
        if absent := sorted({*values} - there):
            raise ManifestError(
                f"{folder} has no image with {entity}-{absent[0]}; it has "
                f"{first_few([f'{entity}-{value}' for value in sorted(there)]) or 'no such entity'}"
            )
        images = [image for image in images if image.value(entity) in values]
    return images


def subjects_of(folder: Path) -> list[str]:
    """Return the names of the subjects of a data set, without ``sub-``, in order."""
    found = sorted(path.name[4:] for path in folder.glob("sub-*") if path.is_dir())
    if not found:
        raise ManifestError([f"{folder} is not a BIDS data set: it has no folder sub-*"])
    return found


def _images(folder: Path, names: Sequence[str] | None) -> tuple[list[_Image], list[str]]:
    """Return the images of subjects (all: None), and the files with names that are not BIDS."""
    there = subjects_of(folder)
    if absent := sorted({*(names or ())} - {*there}):
        raise ManifestError(f"{folder} has no participant {absent[0]!r}; it has {first_few(there)}")
    subjects = [folder / f"sub-{name}" for name in there if names is None or name in names]
    images, others = [], []
    for path in (path for subject in subjects for path in find_volumes(subject)):
        match = _NAME.fullmatch(stem(path))
        if match is not None and match[1].startswith("sub-"):
            place = path.parent.relative_to(folder).as_posix()
            images.append(_Image(path, match[1][:-1], match[2], place))
        else:
            others.append(path.relative_to(folder).as_posix())
    return images, others


def _only_suffix(images: Sequence[_Image], folder: Path) -> tuple[str, ...]:
    """Return the suffix of all images, if they have the same one; else refuse them."""
    there = Counter(image.suffix for image in images)
    if len(there) == 1:
        return tuple(there)
    raise ManifestError(
        [
            f"{folder} has {'several kinds of images' if there else 'no image'}: "
            f"{_suffixes(there)}; choose with --suffix, several (as channels) with commas"
        ]
    )


def _suffixes(there: Counter[str]) -> str:
    """Return suffixes with the number of files that have each."""
    return ", ".join(f"{suffix} ({count})" for suffix, count in sorted(there.items())) or "no image"


def _label(image: _Image, folder: Path, pattern: str, problems: list[str]) -> Path | None:
    """Return the label of an image, if exactly one file matches."""
    texts = (image.value("sub"), image.value("ses"), image.folder, image.entities, image.suffix)
    try:
        filled = pattern.format(**dict(zip(_FIELDS, map(glob.escape, texts), strict=True)))
    except (KeyError, IndexError, ValueError):
        raise UsageError(
            f"--label-pattern {pattern!r} may contain "
            f"{', '.join(f'{{{name}}}' for name in _FIELDS)} and glob wildcards"
        ) from None
    try:
        found = sorted(path for path in folder.glob(filled) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"--label-pattern {pattern!r} is not a glob pattern ({error})") from None
    if len(found) > 1:
        problems.append(
            f"{image.folder}/{image.entities}: {len(found)} labels match "
            f"({first_few([path.name for path in found])}); make --label-pattern narrower"
        )
        return None
    return found[0] if found else None
