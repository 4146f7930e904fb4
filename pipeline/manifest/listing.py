"""List the scans of a folder or file for a run, with the ids that its run folder knows."""

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import ManifestError, counted, first_few
from voxtile.reading.formats import is_dicom, is_volume
from voxtile.run_folder.layout import RunFolder

from .build import Source, detect, read_source
from .rows import examine_manifest
from .table import table_of

# What makes two rows the same scan: its files, and which series and volume of them.
_Key = tuple[tuple[str, ...], str | None, int | str | None]


@dataclass(frozen=True, slots=True)
class Listed:
    """The cases of a source, and the manifest of them that a run keeps in its folder."""

    source: Path
    kind: Source
    cases: tuple[Case, ...]
    notices: tuple[str, ...]  # what was left out or assumed, and what is new or gone
    text: str  # the manifest; its paths are relative to the run folder if possible

    def __str__(self) -> str:
        return str(self.source)

    @property
    def sha256(self) -> str:
        """Hash of the manifest as a file."""
        return sha256(self.text.encode()).hexdigest()


def is_source(path: Path) -> bool:
    """Whether a path is a data set or a scan, and not a manifest."""
    if not path.is_file():
        return path.is_dir()
    return path.suffix.lower() == ".json" or is_volume(path) or is_dicom(path)


def list_source(
    source: Path, out: Path, on_files: Callable[[int, int], None] | None = None
) -> Listed:
    """Return the cases that `voxtile manifest build` finds; nothing is written.

    A scan that an earlier run of the folder `out` listed keeps its case id, so that a new scan
    does not rename the others. `on_files` is called with (files done, all files).

    Raises
    ------
    ManifestError
        Lists everything that is wrong with the source.
    """
    folder = RunFolder(out)
    try:
        kind = detect(source)
        found = read_source(source, kind, on_files=on_files)
        earlier = _earlier(folder)
        records = [path.stem for path in folder.records()]
        cases = with_earlier_ids(found.cases, earlier, records, numbered=kind == "dicom")
        text = table_of(cases, out).csv()
    except ManifestError as error:
        if "--" not in str(error):
            raise
        build = f"voxtile manifest build {shlex.quote(str(source))} --out cases.csv"
        advice = f"such options belong to `{build}`; then run cases.csv"
        raise ManifestError([*error.problems, advice]) from error
    cases = tuple(replace(case, line=line) for line, case in enumerate(cases, start=2))
    return Listed(source, kind, cases, (*found.notices, *_changes(cases, earlier)), text)


def with_earlier_ids(
    cases: Sequence[Case], earlier: Sequence[Case], others: Iterable[str] = (), *, numbered: bool
) -> tuple[Case, ...]:
    """Return cases with the ids that the same scans had earlier.

    With `numbered`, ids and groups are pseudonyms with numbers: a new scan or patient gets a
    number that neither `earlier` nor the ids `others` have.
    """
    if not earlier:
        return tuple(cases)
    before, now = _once(earlier), _once(cases)
    kept = {case.case_id: before[key] for key, case in now.items() if key in before}
    taken = {case.case_id.casefold() for case in kept.values()}
    groups: dict[str | None, str | None] = {None: None}
    if numbered:
        for case in cases:
            if case.case_id in kept:
                groups.setdefault(case.group, kept[case.case_id].group)
    next_case = _numbers("case", [*(case.case_id for case in earlier), *others])
    next_group = _numbers("patient", [case.group or "" for case in earlier])
    renamed = []
    for case in cases:
        if case.case_id in kept:
            chosen = kept[case.case_id].case_id
        elif numbered:
            chosen = next(next_case)
        else:
            options = (case.case_id, *(f"{case.case_id}_{number}" for number in range(2, 1000)))
            chosen = next(one for one in options if one.casefold() not in taken)
            taken.add(chosen.casefold())
        if numbered and case.group not in groups:
            groups[case.group] = next(next_group)
        group = groups[case.group] if numbered else case.group
        renamed.append(replace(case, case_id=chosen, group=group))
    return tuple(renamed)


def _earlier(folder: RunFolder) -> tuple[Case, ...]:
    """Return the cases of the manifest that an earlier run kept; its files may be gone."""
    if not folder.manifest.is_file():
        return ()
    try:
        return examine_manifest(folder.manifest, need_images=False, need_labels=False)[0]
    except ManifestError:
        return ()  # before it is replaced, its hash is compared


def _key(case: Case) -> _Key:
    """Return what makes two rows the same scan."""
    return tuple(os.path.realpath(path) for _, path in case.images), case.series, case.volume


def _once(cases: Sequence[Case]) -> dict[_Key, Case]:
    """Return the cases whose scan is in only one row, by scan."""
    counts = Counter(map(_key, cases))
    return {_key(case): case for case in cases if counts[_key(case)] == 1}


def _numbers(word: str, names: Iterable[str]) -> Iterator[str]:
    """Return the names ``case004``, ``case005``, ... that follow all given ones."""
    matches = [re.fullmatch(rf"{word}(\d{{1,9}})", name) for name in names]
    last = max((int(match[1]) for match in matches if match), default=0)
    return (f"{word}{number:03d}" for number in count(last + 1))


def _changes(cases: Sequence[Case], earlier: Sequence[Case]) -> list[str]:
    """Return which scans are new since the earlier run, and which are gone."""
    if not earlier:
        return []
    before, now = {case.case_id for case in earlier}, {case.case_id for case in cases}
    new = [case.case_id for case in cases if case.case_id not in before]
    gone = [case.case_id for case in earlier if case.case_id not in now]
    lines = [f"{counted(len(new), 'new case')}: {first_few(new)}"] if new else []
    if gone:
        lines.append(
            f"{counted(len(gone), 'case')} of the last run {'is' if len(gone) == 1 else 'are'} no "
            f"longer there: {first_few(gone)}; masks of such cases stay in the run folder, but its "
            "tables leave them out"
        )
    return lines
