"""A BIDS data set: images by suffix, labels by a pattern in its derivatives.

    sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz
    derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_label-lesion_mask.nii.gz

Names are ``entity-value`` pairs and a suffix, joined by ``_`` (BIDS
specification, "Filenames").
"""

import glob
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import ManifestError

from .names import case_ids, channel_name, find_volumes, stem
from .source import Found, listed

_NAME = re.compile(r"((?:[A-Za-z0-9]+-[A-Za-z0-9+]+_)+)([A-Za-z0-9]+)")
_FIELDS = ("sub", "ses", "folder", "entities", "suffix")


@dataclass(frozen=True, slots=True)
class _Image:
    """A file with its name taken apart.

    Parameters
    ----------
    entities : str
        The name without its suffix, such as ``sub-01_ses-1``.
    folder : str
        Below the data set, such as ``sub-01/ses-1/anat``.
    """

    path: Path
    entities: str
    suffix: str
    folder: str

    def value(self, entity: str) -> str:
        """Return the value of an entity; empty without one."""
        pairs = dict(pair.split("-", 1) for pair in self.entities.split("_"))
        return pairs.get(entity, "")


def read_bids(
    folder: Path, *, suffixes: Sequence[str] = (), label_pattern: str | None = None
) -> Found:
    """Return a case for each image of a BIDS data set, subjects as groups.

    Parameters
    ----------
    folder : Path
        With folders ``sub-*``.
    suffixes : sequence of str
        Which images, such as ``T1w``; several are channels of one case, taken
        together where all other entities agree. Without any, the only suffix
        that there is.
    label_pattern : str, optional
        Where the label of an image lies, below `folder`, as a glob pattern in
        which ``{sub}``, ``{ses}``, ``{folder}``, ``{entities}`` and
        ``{suffix}`` stand for those of the image, such as
        ``derivatives/manual/{folder}/{entities}_label-*_mask.nii.gz``.

    Raises
    ------
    ManifestError
        If there is nothing, or a choice is left.
    """
    images, others = _images(folder)
    notices: list[str] = []
    if others:
        notices.append(
            f"left out {len(others)} NIfTI files whose names are none of BIDS, "
            f"sub-<label>_..._<suffix> with letters and digits alone: {listed(others)}"
        )
    if others and not images:
        raise ManifestError([f"{folder} has no image with a name of BIDS", *notices])
    chosen = tuple(suffixes) or _only_suffix(images, folder)
    problems: list[str] = []
    grouped: dict[tuple[str, str], dict[str, _Image]] = {}
    for image in images:
        if image.suffix in chosen:
            twins = grouped.setdefault((image.folder, image.entities), {})
            if image.suffix in twins:
                problems.append(
                    f"{twins[image.suffix].path} and {image.path} differ only in ending; keep one"
                )
            twins[image.suffix] = image
    whole = {}
    for (place, entities), found in grouped.items():
        missing = [suffix for suffix in chosen if suffix not in found]
        if missing:
            notices.append(f"left out {place}/{entities}: it has no {', '.join(missing)}")
        else:
            whole[place, entities] = found
    if not whole:
        there = Counter(image.suffix for image in images)
        problems.append(
            f"{folder} has no case with {' and '.join(chosen)}; there is {_counted(there)}"
        )
        raise ManifestError([*problems, *notices])
    cases = []
    for name, found in zip(case_ids([[key[1]] for key in whole]), whole.values(), strict=True):
        first = found[chosen[0]]
        session = first.value("ses")
        cases.append(
            Case(
                name,
                tuple(
                    ("image" if len(chosen) == 1 else channel_name(suffix), found[suffix].path)
                    for suffix in chosen
                ),
                _label(first, folder, label_pattern, problems) if label_pattern else None,
                group=f"sub-{first.value('sub')}",
                extras=(("session", session),) if session else (),
            )
        )
    if problems:
        raise ManifestError(problems)
    without = [case.case_id for case in cases if case.label is None]
    if label_pattern and without:
        notices.append(f"no label for {listed(without)}")
    return Found(tuple(sorted(cases, key=lambda case: case.case_id)), tuple(notices))


def _images(folder: Path) -> tuple[list[_Image], list[str]]:
    """Return the images of all subjects, and the files there that have no name of BIDS."""
    subjects = sorted(path for path in folder.glob("sub-*") if path.is_dir())
    if not subjects:
        raise ManifestError([f"{folder} is no BIDS data set: it has no folder sub-*"])
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
    """Return the one suffix that there is."""
    there = Counter(image.suffix for image in images)
    if len(there) == 1:
        return tuple(there)
    raise ManifestError(
        [
            f"{folder} has {'several kinds of images' if there else 'no image'}: "
            f"{_counted(there)}; choose with --suffix, several with commas as channels"
        ]
    )


def _counted(there: Counter[str]) -> str:
    """Return suffixes with how many files have each."""
    return ", ".join(f"{suffix} ({count})" for suffix, count in sorted(there.items())) or "nothing"


def _label(image: _Image, folder: Path, pattern: str, problems: list[str]) -> Path | None:
    """Return the one label of an image, if there is one."""
    fields = {
        "sub": image.value("sub"),
        "ses": image.value("ses"),
        "folder": image.folder,
        "entities": image.entities,
        "suffix": image.suffix,
    }
    try:
        filled = pattern.format(**{name: glob.escape(text) for name, text in fields.items()})
    except (KeyError, IndexError, ValueError):
        raise ValueError(
            f"--label-pattern {pattern!r} may hold {', '.join(f'{{{name}}}' for name in _FIELDS)} "
            "and the wildcards of a glob"
        ) from None
    try:
        # A pattern for .nii.gz is not asked to find .json beside it.
        found = sorted(path for path in folder.glob(filled) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise ValueError(f"--label-pattern {pattern!r} is no pattern ({error})") from None
    if len(found) > 1:
        problems.append(
            f"{image.folder}/{image.entities}: {len(found)} labels match "
            f"({listed([path.name for path in found])}); make --label-pattern narrower"
        )
        return None
    return found[0] if found else None
