"""Find what a file is by its folders and name: a scan or label, its case, channel and split.

    imagesTr/p1_0000.nii.gz   a scan of p1, split train, channel 0000
    labelsTr/p1.nii.gz        a label of p1, split train
    p1/flair.nii.gz           a scan of p1, channel flair
    p1/p1-label.nii.gz        a label of p1
    label0001.nii.gz          a label of 0001, the label of img0001.nii.gz

Words are compared in lower case and without a plural's "s".
"""

import re
from dataclasses import dataclass
from pathlib import Path

from voxtile.case import Split
from voxtile.reading.formats import split_suffix

_SCAN = "image|img|imaging|scan|volume|vol|raw|orig|input"
_LABEL = (
    "label|labelmap|mask|seg|segm|segmentation|annotation|annot|contour|roi|gt|groundtruth|truth|"
    "delineation|reference"
)
# Masks that programs made; neither scans nor references.
_PREDICTED = "pred|prediction|predicted"
_CHANNEL = (
    "t1|t1w|t1n|t1c|t1ce|t1gd|t1post|t2|t2w|t2f|t2star|flair|pd|pdw|dwi|adc|swi|dce|ct|cta|cbct|"
    "pet|suv|mr|mri|t[12]_?(?:w|ce|gd|flair)"
)
_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("tr", "train", "training"), "train"),
    **dict.fromkeys(("va", "val", "valid", "validation"), "val"),
    **dict.fromkeys(("ts", "te", "test", "testing"), "test"),
}
_PART = "|".join(sorted(_SPLITS, key=len, reverse=True))
_FOLDER = re.compile(
    rf"(?P<before>{_PART})?(?:(?P<scan>{_SCAN})|(?P<label>{_LABEL})|(?P<other>{_PREDICTED}))s?"
    rf"(?P<after>{_PART})?"
)
_WORD = re.compile(
    # A whole word, or the end of a longer word, as in "brainmask"; a number may follow.
    rf"(?:(?P<scan>(?:{_SCAN})s?)|(?P<label>(?:{_LABEL}|\S*(?:mask|seg|label))s?)"
    rf"|(?P<other>(?:{_PREDICTED})s?))(?P<number>\d*)",
    re.IGNORECASE,
)
_BREAK = re.compile(r"([._\- ]+)")
_LAST = re.compile(rf"(?:(.+?)[._\- ])?({_CHANNEL})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Role:
    """What a file's folders and name say about it.

    Parameters
    ----------
    kind : {"scan", "label", "other"}
    parts : tuple of str
        Folders below the root, and the name without its suffix.
    folders : tuple of str
        Folders without those whose names say only the kind or the split.
    base : str
        The name without the word that says its kind; empty if there is no other word.
    word : str
        The folder (with ``/``) or word that says its kind; empty if nothing does.
    variant : bool
        Whether the folder's name says more, as ``labels_left_right`` does; files
        of the same kind in other folders are then preferred.
    """

    path: Path
    kind: str
    parts: tuple[str, ...]
    folders: tuple[str, ...]
    base: str
    split: Split | None
    word: str = ""
    variant: bool = False

    def place(self, base: str | None = None) -> tuple[str, ...]:
        """Return split, folders and name of its case, or the same with another name."""
        base = self.base if base is None else base
        return (self.split or "", *self.folders, *([base] if base else []))


def file_stem(path: Path) -> str:
    """Return a file's name without the suffix of its format; ``a.seg`` for ``a.seg.nrrd``."""
    stem, suffix = split_suffix(path.name)
    return f"{stem}.seg" if suffix.startswith(".seg.") else stem


def role_of(path: Path, root: Path) -> Role:
    """Return the role of a file below a root."""
    kind, word, split, folders, variant = "scan", "", None, [], False
    outer = path.relative_to(root).parent.parts
    for folder in outer:
        named, part, whole = _folder(folder)
        split = part or split
        if not named and not whole:
            folders.append(folder)
        variant = variant or bool(named and not whole)
        if named and (kind == "scan" or named != "scan"):
            kind, word = named, f"{folder}/"
    stem = file_stem(path)
    base, said, meant = _name(stem)
    if kind == "scan" and said != "scan":
        kind, word = said, meant
    return Role(path, kind, (*outer, stem), tuple(folders), base, split, word, variant)


def split_modality(base: str) -> tuple[str, str] | None:
    """Return the name before a modality, and the modality; None if no modality is named.

    Examples
    --------
    >>> split_modality("p1_flair"), split_modality("T1"), split_modality("p1")
    (('p1', 'flair'), ('', 'T1'), None)
    """
    match = _LAST.fullmatch(base)
    return None if match is None else (match[1] or "", match[2])


def _folder(name: str) -> tuple[str, Split | None, bool]:
    """Return kind and split of a folder's name, and whether the name says nothing else."""
    plain = _BREAK.sub("", name.casefold())
    if plain in _SPLITS:
        return "", _SPLITS[plain], True
    match = _FOLDER.fullmatch(plain)
    if match is not None:
        kind = next(kind for kind in ("scan", "label", "other") if match[kind])
        return kind, _SPLITS.get(match["before"] or match["after"] or ""), True
    # For example "labels_left_right" holds no scans, but other labels than "labels" does.
    words = _BREAK.split(name)
    ends = [_FOLDER.fullmatch(word.casefold()) for word in (words[0], words[-1])]
    kinds = [kind for kind in ("label", "other") if any(end and end[kind] for end in ends)]
    return kinds[0] if kinds else "", None, False


def _name(stem: str) -> tuple[str, str, str]:
    """Return a name without the word that says its kind, the kind, and that word."""
    parts = _BREAK.split(stem)  # words at even places, with the characters between them
    matches = [_WORD.fullmatch(part) for part in parts[::2]]
    for kind in ("other", "label", "scan"):
        for place, match in enumerate(matches):
            # Not first or last in a name, a word for a scan may be a part of the case's name.
            outer = place in (0, len(matches) - 1)
            if match is None or not match[kind] or (kind == "scan" and not outer):
                continue
            left = parts[: 2 * place] + parts[2 * place + 1 :]
            if match["number"]:
                left.insert(2 * place, match["number"])
            base = _BREAK.sub(lambda mark: mark[0][:1], "".join(left)).strip("._- ")
            return base, kind, parts[2 * place]
    return stem, "scan", ""
