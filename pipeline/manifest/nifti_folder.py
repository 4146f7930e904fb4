"""Read a folder of images, with labels beside them or in a folder of their own."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import ManifestError, UsageError, first_few
from voxtile.reading.formats import SUFFIXES

from .names import case_ids, find_volumes, split_channel, stem
from .source import Found

# Folder below the root, and name: an image and its label have the same.
_Place = tuple[str, ...]


def read_nifti_folder(
    folder: Path, *, labels: Path | None = None, pattern: str | None = None
) -> Found:
    """Return a case for each image below a folder.

    Parameters
    ----------
    folder : Path
        ``case_0000.nii.gz``, ``case_0001.nii.gz`` are channels of one case,
        as nnU-Net names them, unless labels have such names too.
    labels : Path, optional
        Folder of label maps. A label belongs to the image with its name in
        the same folder below `labels`; or in any folder, if no other label and
        no other image has the name.
    pattern : str, optional
        Name of a label without its suffix, such as ``{case}_seg``; the
        default is ``{case}``. Without `labels`, such labels are beside
        their images.

    Raises
    ------
    ManifestError
        If no image is found, or names are ambiguous.
    """
    pattern = pattern or "{case}"
    if "{case}" not in pattern:
        raise UsageError(f"--label-pattern {pattern!r} must contain {{case}}, as {{case}}_seg does")
    images = _by_place(folder)
    found: dict[_Place, Path] = {}
    if labels is not None:
        found = _by_place(labels)
        inside = set(found.values())  # `labels` may lie below `folder`
        images = {place: path for place, path in images.items() if path not in inside}
    elif pattern != "{case}":
        bases = _by_case(images, {}, pattern)
        found = {
            label: images[label]
            for place in [*images, *bases]
            if (label := _label_place(place, pattern)) in images
        }
        images = {place: path for place, path in images.items() if place not in found}
    if not images:
        raise ManifestError(
            [f"{folder} holds no image ({', '.join(SUFFIXES)}); name another folder"]
        )
    return _pair(images, found, pattern)


def _pair(images: Mapping[_Place, Path], labels: Mapping[_Place, Path], pattern: str) -> Found:
    """Return the cases of images and the labels that belong to them."""
    grouped = _by_case(images, labels, pattern)
    several = [place for place, channels in grouped.items() if len(channels) > 1]
    notices = []
    if several and len(several) == len(grouped) == 1:
        notices.append(
            f"the names end in _0000 to _{max(grouped[several[0]])}, so the files were read as "
            "channels of one case; rename them if each file is a case"
        )
    by_name: dict[str, list[_Place]] = {}
    for place in labels:
        by_name.setdefault(place[-1], []).append(place)
    images_of_name = Counter(place[-1] for place in grouped)
    cases, used = [], set()
    for name, (place, channels) in zip(case_ids(list(grouped)), grouped.items(), strict=True):
        wanted = _label_place(place, pattern)
        # In another folder, a name belongs to an image only if no other image has it.
        elsewhere = by_name.get(wanted[-1], []) if images_of_name[place[-1]] == 1 else []
        match = wanted if wanted in labels else elsewhere[0] if len(elsewhere) == 1 else None
        if match is not None:
            used.add(match)
        named = tuple(
            ("image" if len(channels) == 1 else channel, path)
            for channel, path in sorted(channels.items())
        )
        cases.append(Case(name, named, None if match is None else labels[match]))
    if labels:
        without = [case.case_id for case in cases if case.label is None]
        notices += [f"no label for {first_few(without)}"] if without else []
        orphans = ["/".join(place) for place in labels if place not in used]
        notices += [f"no image for label {first_few(orphans)}"] if orphans else []
    return Found(tuple(sorted(cases, key=lambda case: case.case_id)), tuple(notices))


def _by_case(
    images: Mapping[_Place, Path], labels: Mapping[_Place, Path], pattern: str
) -> dict[_Place, dict[str, Path]]:
    """Return the files of each case by channel; a single file is the channel "image"."""
    names = {place[-1] for place in labels}
    grouped: dict[_Place, dict[str, Path]] = {}
    for place, path in images.items():
        numbered = split_channel(place[-1])
        if numbered is not None:
            base, channel = numbered
            # Channels count from 0000. If a label has the number in its name too, the numbers
            # count cases.
            first = (*place[:-1], f"{base}_0000")
            if first in images and _label_place(place, pattern)[-1] not in names:
                grouped.setdefault((*place[:-1], base), {})[channel] = path
                continue
        grouped.setdefault(place, {})["image"] = path
    return grouped


def _label_place(place: _Place, pattern: str) -> _Place:
    """Return where the label of a case is expected."""
    return (*place[:-1], pattern.replace("{case}", place[-1]))


def _by_place(folder: Path) -> dict[_Place, Path]:
    """Return the volumes below a folder by folders and name."""
    placed: dict[_Place, Path] = {}
    problems = []
    for path in find_volumes(folder):
        place = (*path.relative_to(folder).parent.parts, stem(path))
        if place in placed:
            problems.append(f"{placed[place]} and {path.name} differ only in suffix; keep one")
        placed[place] = path
    if problems:
        raise ManifestError(problems)
    return placed
