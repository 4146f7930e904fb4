"""Read folders of scans, with labels beside them or in other folders."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import ManifestError, UsageError, counted, first_few
from voxtile.reading.formats import SUFFIXES

from .names import case_ids, channel_name, find_volumes, split_channel
from .roles import Role, file_stem, role_of, split_modality
from .source import Found

_EACH = "{case}"
# What a scan and its label have in common: split, folders and name.
_Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Scans:
    """The scans of one case by channel, and the names from which its case id is made."""

    place: _Place
    channels: dict[str, Role]
    names: tuple[str, ...]

    @property
    def first(self) -> Role:
        """The first file of the case."""
        return next(iter(self.channels.values()))


def read_nifti_folder(
    folder: Path,
    *,
    labels: Path | None = None,
    pattern: str | None = None,
    gaps: bool = False,
) -> Found:
    """Return a case for each scan below a folder.

    The words in `roles` decide what is a scan and what is a label, and a label
    is never taken for a scan. A label belongs to the scan with the same name in
    the same folder; or to the only scan of its folder, if it is the only label
    there; or to a scan with the same name in another folder, if no other scan
    and no other label has that name.

    Parameters
    ----------
    folder : Path
        ``case_0000.nii.gz``, ``case_0001.nii.gz`` are channels of one case,
        as nnU-Net names them, unless labels have numbered names too. So are
        ``case/t1.nii.gz`` and ``case/flair.nii.gz``.
    labels : Path, optional
        Folder of labels; their names do not matter.
    pattern : str, optional
        Name of a label without its suffix, such as ``{case}_seg``. With
        ``{case}`` and without `labels`, each file is a scan.
    gaps : bool
        Keep cases that lack a channel; by default they are left out.

    Raises
    ------
    ManifestError
        If no scan is found, or names are ambiguous.
    """
    if pattern is not None and _EACH not in pattern:
        raise UsageError(f"--label-pattern {pattern!r} must contain {{case}}, as {{case}}_seg does")
    scans, found, others = _sorted(folder, labels, pattern)
    unnamed = pattern is None and labels is None
    if unnamed and not found and role_of(folder / "a", folder.parent).kind != "scan":
        others, scans = scans, []  # the user named the folder of labels itself
    if not scans:
        alike = ["/".join(role.parts) for role in (*found, *others)]
        because = (
            f"; its files have names of labels ({first_few(alike, 3)}); if they are scans, pass "
            "--label-pattern {case}"
            if alike and labels is None
            else "; name another folder"
        )
        raise ManifestError([f"{folder} holds no image ({', '.join(SUFFIXES)}){because}"])
    _require_one_suffix(scans)
    _require_one_suffix(found)
    named = pattern is None
    cases = [_alone(role) for role in scans] if pattern == _EACH else _by_case(scans, found, named)
    pairs, how = _paired(cases, found)
    kept, notices, channels = _complete(pairs, gaps)
    if others:
        left = first_few(["/".join(role.parts) for role in others])
        notices.append(f"left out {left}: by folder or name, neither scans nor labels")
    listed = _listed(kept, channels)
    return Found(listed, (*_notices(listed, found, how), *notices))


def _sorted(
    folder: Path, labels: Path | None, pattern: str | None
) -> tuple[list[Role], list[Role], list[Role]]:
    """Return the scans, labels and other files of a data set."""
    named = None if labels is None else [role_of(path, labels) for path in find_volumes(labels)]
    inside = {role.path for role in named or ()}  # `labels` may lie below `folder`
    roles = [role_of(path, folder) for path in find_volumes(folder) if path not in inside]
    if pattern is None and named is None:
        kinds = ("scan", "label", "other")
        scans, found, others = ([role for role in roles if role.kind == kind] for kind in kinds)
        # If folders or names mark some files as images, the other files are not scans.
        inner = [role for role in scans if role.word]
        others += [role for role in scans if inner and not role.word]
        return inner or scans, found, others
    if pattern in (None, _EACH):
        # Files of the same name in both folders are a scan and its label, whatever the name says.
        twins = {role.parts for role in roles} & {role.parts for role in named or ()}
        scans, found, others = [], [], []
        for role in roles:
            is_scan = pattern or role.kind == "scan" or role.parts in twins
            (scans if is_scan else others).append(role)
        plain = [
            [_plain(role) if pattern or role.parts in twins else role for role in some]
            for some in (scans, named or ())
        ]
        return plain[0], plain[1], others
    form = re.compile("(.+)".join(map(re.escape, (pattern or "").split(_EACH, 1))))
    matches = [
        (role, form.fullmatch(file_stem(role.path))) for role in (roles if named is None else named)
    ]
    found = [replace(role, base=match[1]) for role, match in matches if match]
    used = {role.path for role in found}
    rest = [role for role in roles if role.path not in used]
    scans = [_plain(role) for role in rest if role.kind == "scan"]
    return scans, found, [role for role in rest if role.kind != "scan"]


def _plain(role: Role) -> Role:
    """Return a file whose whole name is compared, without looking for words."""
    return replace(role, base=file_stem(role.path))


def _require_one_suffix(roles: Sequence[Role]) -> None:
    """Refuse files that differ only in suffix."""
    seen: dict[Path, Path] = {}
    problems = []
    for role in roles:
        other = seen.setdefault(role.path.with_name(file_stem(role.path)), role.path)
        if other != role.path:
            problems.append(f"{other} and {role.path.name} differ only in suffix; keep one")
    if problems:
        raise ManifestError(problems)


def _alone(role: Role) -> _Scans:
    """Return a file as a case of its own."""
    return _Scans((*role.place(), role.parts[-1]), {"image": role}, role.parts)


def _by_case(scans: Sequence[Role], labels: Sequence[Role], modalities: bool) -> list[_Scans]:
    """Return the scans of each case.

    Numbers of channels start at 0000; a number is not a channel if it is in a
    label's name too. With `modalities`, files with names of modalities are
    channels, unless several of them have a label each.
    """
    places = {role.place() for role in scans}
    bases, labelled = {role.base for role in labels}, {role.place() for role in labels}
    grouped: dict[_Place, list[tuple[str, Role, tuple[str, ...]]]] = {}
    for role in scans:
        numbered = split_channel(role.base)
        modality = split_modality(role.base) if modalities else None
        place, channel = role.place(), "image"
        own = (role.split or "", *role.folders, role.parts[-1]) if role.base else place
        if numbered and role.base not in bases and role.place(f"{numbered[0]}_0000") in places:
            own = place = role.place(numbered[0])
            channel = numbered[1]
        elif modality and any(role.place(modality[0])):
            place, channel = role.place(modality[0]), channel_name(modality[1])
        grouped.setdefault(place, []).append((channel, role, own))
    cases = []
    for place, members in grouped.items():
        channels = {channel: role for channel, role, _ in sorted(members, key=lambda one: one[0])}
        several = len(members) > 1
        apart = sum(role.place() in labelled for role in channels.values()) > 1
        if len(channels) < len(members) or (several and ("image" in channels or apart)):
            cases += [_alone(role) for _, role, _ in members]
        else:
            names = place if several else members[0][2]
            cases.append(_Scans(place, channels, tuple(filter(None, names)) or members[0][1].parts))
    return cases


def _paired(
    cases: Sequence[_Scans], labels: Sequence[Role]
) -> tuple[list[tuple[_Scans, Role | None]], Mapping[str, int]]:
    """Return each case with its label, and how many labels each rule found."""
    at, of_name, inside = (defaultdict[Any, list[Role]](list) for _ in range(3))
    for role in labels:
        at[role.place()].append(role)
        of_name[role.base].append(role)
        inside[role.place("")].append(role)
    scans_of_name = Counter(case.place[-1] for case in cases)
    scans_inside = Counter(case.first.place("") for case in cases)

    def same(case: _Scans) -> list[Role]:
        places = {case.place, *(role.place() for role in case.channels.values())}
        here = [role for place in sorted(places) for role in at.get(place, [])]
        return [role for role in here if not role.variant] or here

    def only(case: _Scans) -> list[Role]:
        folder = case.first.place("")
        found = inside.get(folder, []) if any(folder[1:]) and scans_inside[folder] == 1 else []
        return [role for role in found if case.place == folder or not role.base]

    def elsewhere(case: _Scans) -> list[Role]:
        found = of_name.get(case.place[-1], []) if scans_of_name[case.place[-1]] == 1 else []
        folders = set(case.first.folders)
        return [
            role for role in found if folders <= set(role.folders) or folders >= set(role.folders)
        ]

    ways = {
        "by name": same,
        "as the only scan and label of a folder": only,
        "by a name that occurs once, in other folders": elsewhere,
    }
    how, used, problems = Counter[str](), set[Path](), []
    found: dict[int, Role] = {}
    for words, rule in ways.items():
        proposed = {
            number: [role for role in rule(case) if role.path not in used]
            for number, case in enumerate(cases)
            if number not in found
        }
        claims = Counter(role.path for some in proposed.values() for role in some)
        for number, candidates in proposed.items():
            if len(candidates) > 1 and rule is same:
                problems.append(
                    f"{'/'.join(cases[number].names)} has {len(candidates)} labels "
                    f"({first_few(['/'.join(role.parts) for role in candidates])}); choose with "
                    "--label-pattern, such as {case}_seg, or with --labels"
                )
            if len(candidates) == 1 and claims[candidates[0].path] == 1:
                found[number] = candidates[0]
                used.add(candidates[0].path)
                how[words] += 1
    if problems:
        raise ManifestError(problems)
    return [(case, found.get(number)) for number, case in enumerate(cases)], how


def _complete(
    pairs: list[tuple[_Scans, Role | None]], gaps: bool
) -> tuple[list[tuple[_Scans, Role | None]], list[str], list[str]]:
    """Return the cases that have all channels, notices about the others, and all channels.

    With `gaps`, cases that have only some of the channels are kept.
    """
    several = [case for case, _ in pairs if len(case.channels) > 1]
    channels = list(dict.fromkeys(name for case in several for name in case.channels))
    missing = [[name for name in channels if name not in case.channels] for case, _ in pairs]
    kept, notices = [], []
    for (case, label), lacks in zip(pairs, missing, strict=True):
        fits = not lacks or (gaps and set(case.channels) <= set(channels))
        # The name of a single file is that of its channel, too.
        own = tuple(filter(None, case.place)) if lacks and fits else case.names
        kept += [(replace(case, names=own or case.names), label)] if fits else []
        if lacks:
            how = "kept" if fits else "left out"
            notices.append(f"{how} {'/'.join(case.names)}: it has no {', '.join(lacks)}")
    if len(pairs) > 2 * len(kept):
        raise ManifestError(
            [
                f"of {counted(len(pairs), 'case')}, only {len(kept)} would have all channels "
                f"({', '.join(channels)}) that are in the names of files; list a folder with the "
                "same channels in each case, or pass --label-pattern {case} for a row for each file"
            ]
        )
    return kept, notices, channels


def _listed(
    kept: Sequence[tuple[_Scans, Role | None]], channels: Sequence[str]
) -> tuple[Case, ...]:
    """Return the cases of scans and labels; `channels` are those of all cases, if several."""
    ids = case_ids([case.names for case, _ in kept])
    cases = [
        Case(
            name,
            tuple(
                (channel if channels else "image", role.path)
                for channel, role in case.channels.items()
            ),
            None if label is None else label.path,
            case.first.split,
            channels=() if len(case.channels) >= len(channels) else tuple(channels),
        )
        for name, (case, label) in zip(ids, kept, strict=True)
    ]
    return tuple(sorted(cases, key=lambda case: case.case_id))


def _notices(
    cases: Sequence[Case], labels: Sequence[Role], how: Mapping[str, int]
) -> Iterator[str]:
    """Yield notices about pairs and how they were found, and about files that were left out."""
    words = sorted({role.word for role in labels if role.word})
    if words:
        yield f"taken for labels, because of the names: {first_few(words)}"
    if words and how:
        yield f"labels paired: {', '.join(f'{count} {way}' for way, count in how.items())}"
    channels = cases[0].channels or [name for name, _ in cases[0].images]
    if len(channels) > 1:
        yield (
            f"files with names that end in {', '.join(channels)} were read as channels of one "
            "case; if each file is a case, pass --label-pattern {case}"
        )
    splits = Counter(case.split for case in cases if case.split)
    if splits:
        counts = ", ".join(f"{split} {count}" for split, count in splits.items())
        yield f"splits are those of the folders' names: {counts}"
    without = [case.case_id for case in cases if case.label is None]
    if labels and without:
        yield f"no label for {first_few(without)}"
    used = {case.label for case in cases}
    orphans = ["/".join(role.parts) for role in labels if role.path not in used]
    if orphans:
        yield f"no image for label {first_few(orphans)}"
