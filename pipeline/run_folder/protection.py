"""Protect the inputs of a command from everything that it may write, replace or remove.

Paths are compared by what they lead to (device and inode of the file and of
each folder above it), so that links, hard links, bind mounts, and names on a
disk that ignores upper and lower case make no difference. Nothing is written
here; a command calls these functions before it writes any file, even its lock.

    protect          no input may be inside an output, or be the same file
    refuse_foreign   a folder with files that no run wrote is not taken over
    refuse_unnamed   a file that no record of a run folder names is not replaced
    refuse_tables    a table or page that voxtile did not write is not replaced
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import ManifestError, counted, first_few
from voxtile.machine.files import folders_left, temporary_for
from voxtile.reading.formats import files_of

from .case_report import read_case_report
from .facts import RunFacts, readable_facts
from .layout import RunFolder

_Identity = tuple[int, int]
ANOTHER_FOLDER = "name another folder with --out"
_MOST_PROBLEMS = 10
# Files that a run leaves if it is killed before its first record.
_LOCK = re.compile(r"\.lock(?:-\d+-of-\d+)?(\.json)?")
_PROBE = re.compile(r"\.probe(?:-\d+-of-\d+)?")


@dataclass(frozen=True, slots=True)
class Input:
    """A file or folder that a command reads, and its name in messages."""

    name: str
    path: Path
    # Whether a folder belongs together with everything below it, as a DICOM series does. A folder
    # that only holds inputs, such as the folder of predictions, does not.
    whole: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.path}"


def inputs_of(cases: Iterable[Case]) -> Iterator[Input]:
    """Yield the images and references of cases."""
    for case in cases:
        for channel, path in case.images:
            named = "image" if channel == "image" else f"image_{channel}"
            yield Input(f"case {case.case_id}: {named}", path)
        if case.label is not None:
            yield Input(f"case {case.case_id}: label", case.label)


def manifest_input(manifest: Path, folder: RunFolder) -> Iterator[Input]:
    """Yield a manifest, unless it is the one that a run of this folder made and keeps there."""
    identity = _identity(manifest)
    if identity is None or identity != _identity(folder.manifest):
        yield Input("the manifest", manifest)


def protect(inputs: Iterable[Input], *outputs: Path, advice: str = ANOTHER_FOLDER) -> None:
    """Refuse to write where an input would be changed, replaced or removed.

    The outputs, files or folders, need not exist. Files that a killed `replacing_folder` left
    beside them will be removed, so they count too. `advice`, the end of each message, says what to
    do instead. ManifestError with both paths, if an input is inside an output folder or is the same
    file as one in it, or if an output would be inside a folder that is an input as a whole.
    """
    inputs, above, problems = list(inputs), _Above(), []
    for output in [path for each in outputs for path in (each, *folders_left(each))]:
        held = _Held.of(output)
        for each in inputs:
            if problem := held.problem(each, above):
                problems.append(f"{each} {problem}; {advice}")
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        shown = problems[:_MOST_PROBLEMS]
        raise ManifestError([*shown, f"and {counted(more, 'more input')}"] if more > 0 else shown)


@dataclass(slots=True)
class _Above:
    """The identities of folders and of all folders above them; each folder is looked up once."""

    known: dict[str, frozenset[_Identity]] = field(default_factory=dict)

    def __call__(self, folder: Path) -> frozenset[_Identity]:
        """Return the identities of a folder and of all above it, by its name and through links."""
        text = str(folder.absolute())
        if text not in self.known:
            real = os.path.realpath(text)
            found = self._upwards(real)
            # After a link, ".." leads to another folder than the name suggests.
            if real != text and ".." not in folder.parts:
                found |= self._upwards(text)
            self.known[text] = found
        return self.known[text]

    def _upwards(self, text: str) -> frozenset[_Identity]:
        """Return the identities of the existing folders of a path."""
        key = f"\0{text}"
        if key not in self.known:
            parent = os.path.dirname(text)  # noqa: PTH120, thousands of paths
            above = frozenset() if parent == text else self._upwards(parent)
            identity = _identity(text)
            self.known[key] = above if identity is None else above | {identity}
        return self.known[key]


@dataclass(frozen=True, slots=True)
class _Held:
    """An output: its folders, and its files that also have another name."""

    output: Path
    folders: dict[_Identity, Path]  # the folder with all folders below it, also through links
    # The output file, or the files of the folder that are links or have hard links. Other files
    # need no comparison: an input that is one of them is found by its folder.
    files: dict[_Identity, Path]

    @classmethod
    def of(cls, output: Path) -> "_Held":
        """Look at an output as it is now."""
        held = cls(output, {}, {})
        if output.is_dir():
            held._enter(output, deep=True)
        elif (identity := _identity(output)) is not None:
            held.files[identity] = output
        return held

    def _enter(self, folder: Path, *, deep: bool) -> None:
        """Add a folder; behind a link only this folder, because it may be the whole disk."""
        identity = _identity(folder)
        if identity is None or identity in self.folders:
            return
        self.folders[identity] = folder
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._add(entry, deep=deep)
        except OSError:
            return  # a folder that cannot be listed is not replaced either

    def _add(self, entry: os.DirEntry[str], *, deep: bool) -> None:
        """Add the file or folder that an entry leads to."""
        path = Path(entry.path)
        try:
            if entry.is_dir():
                if deep:
                    self._enter(path, deep=not entry.is_symlink())
            else:
                state = entry.stat()
                if entry.is_symlink() or state.st_nlink > 1:
                    self.files[state.st_dev, state.st_ino] = path
        except OSError:
            return  # a broken link

    def problem(self, one: Input, above: _Above) -> str | None:
        """Return how an input and the output collide; None if they do not."""
        for path in _with_second(one.path):
            identity = _identity(path)
            if identity in self.files:
                other = self.files[identity]
                if other.absolute() == path.absolute():
                    return f"is also the output {other} and would be replaced"
                return f"is the same file as the output {other} and would be replaced"
            folders = above(path) if path.is_dir() else frozenset()
            for step in _steps(path):
                folders |= above(step.parent)
            if not folders.isdisjoint(self.folders):
                return f"is inside the output folder {self.output}"
        return self._around(one, above)

    def _around(self, one: Input, above: _Above) -> str | None:
        """Return the problem if the output is inside a folder that is an input as a whole."""
        if not one.whole or not one.path.is_dir():
            return None
        own = self.output if self.output.is_dir() else self.output.parent
        if _identity(one.path) in above(own):
            return f"contains the output {self.output}, which would become a part of it"
        if self.files and (shared := self._linked(one.path)):
            return f"has the same file as the output {shared}, which would be replaced"
        return None

    def _linked(self, folder: Path) -> Path | None:
        """Return a file of the output that is also a file below a folder."""
        for root, _, names in os.walk(folder, followlinks=False):
            for name in names:
                identity = _identity(f"{root}/{name}")
                if identity in self.files:
                    return self.files[identity]
        return None


def _with_second(path: Path) -> Sequence[Path]:
    """Return a file, or both files of a pair."""
    try:
        return [path] if path.is_dir() else (files_of(path) or [path])
    except OSError:
        return [path]


def _steps(path: Path) -> Iterator[Path]:
    """Yield a path and, if it is a link, each path that it leads through."""
    for _ in range(40):  # as many links as the kernel follows
        yield path
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()


def _identity(path: str | Path) -> _Identity | None:
    """Return the identity of the file that a path leads to; None if there is no file."""
    try:
        state = os.stat(path)  # noqa: PTH116, also for text
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def refuse_foreign(folder: RunFolder) -> None:
    """Refuse a folder that holds files but no valid facts of a run.

    The lock, probes and temporary files of a run that was killed at its start do not count, nor
    do empty folders. ManifestError with the first file that was found.
    """
    if not os.path.lexists(folder.path):
        return
    if not folder.path.is_dir():
        raise ManifestError(f"{folder.path} is not a folder; {ANOTHER_FOLDER}")
    if _is_ours(folder):
        return
    found = next(_strangers(folder), None)
    # Another shard may have begun meanwhile.
    if found is None or _is_ours(folder):
        return
    raise ManifestError(
        f"{folder.path} holds files (such as {found.relative_to(folder.path)}), but no valid "
        f"run.json, so it is not a run folder; {ANOTHER_FOLDER}"
    )


def _is_ours(folder: RunFolder) -> bool:
    """Whether a folder has facts that a run, a shard or an evaluation wrote."""
    for path in folder.all_facts():
        try:
            facts = RunFacts.read(path)
        except (OSError, ValueError):
            continue
        if "voxtile" in facts.content and "manifest" in facts.content:
            return True
    return False


def _strangers(folder: RunFolder) -> Iterator[Path]:
    """Yield the files that a run killed before its first record cannot have left."""
    own = {part.name for part in (*folder.needed[1:], *folder.optional)}
    for root, folders, names in os.walk(folder.path):
        folders.sort()
        parts = Path(root).relative_to(folder.path).parts
        for name in sorted(names):
            path = Path(root, name)
            if not is_remainder(path, inside=bool(parts) and parts[0] in own):
                yield path
        # Links to folders are not followed, but they count: a run would write there.
        yield from (Path(root, name) for name in folders if Path(root, name).is_symlink())


def is_remainder(path: Path, *, inside: bool = True) -> bool:
    """Whether a file is the lock, a probe or a temporary file of a run that was killed.

    `inside` says whether the file is in a folder that only runs make, where
    temporary files may have the name of any case.
    """
    if path.is_symlink() or not path.is_file():
        return False
    name = temporary_for(path)
    if name is not None:
        return inside or RunFolder.is_shared(name)
    state = path.stat()
    lock = _LOCK.fullmatch(path.name)
    if lock and lock[1]:  # while it is written it has two names
        return state.st_nlink <= 2 and state.st_size < 4096 and b'"pid"' in path.read_bytes()
    is_named = bool(lock or _PROBE.fullmatch(path.name))
    return is_named and state.st_nlink == 1 and state.st_size == 0


def refuse_unnamed(
    folder: RunFolder, case_ids: Iterable[str], paths: Callable[[str], Iterable[Path]]
) -> None:
    """Refuse to replace files of cases that no run of this folder had.

    `paths` returns the files that a command may write or remove for one of `case_ids`.
    ManifestError with the first files.
    """
    named = {case_id for facts in readable_facts(folder) for case_id in facts.case_ids}
    found = [
        path
        for case_id in case_ids
        if case_id not in named
        for path in _unnamed(folder, case_id, paths)
    ]
    if found:
        files = "this file" if len(found) == 1 else "these files"
        names = [path.relative_to(folder.path) for path in found]
        raise ManifestError(
            f"{folder.path} holds {first_few(names, 3)}, but no record of a run here names "
            f"{files}; move what you need away, or {ANOTHER_FOLDER}"
        )


def _unnamed(
    folder: RunFolder, case_id: str, paths: Callable[[str], Iterable[Path]]
) -> Iterator[Path]:
    """Yield the existing files of a case, unless a run in this folder wrote its record."""
    found = [path for path in paths(case_id) if os.path.lexists(path)]
    if not found:
        return
    record = folder.record(case_id)
    try:
        report = read_case_report(record)
    except (OSError, ValueError):
        yield from found
        return
    mask = folder.mask(case_id)
    # A record of an evaluation names a mask of another folder, and a failed case has no mask.
    is_ours = report.case_id == case_id and (
        report.mask.get("file") == folder.mask_entry(case_id) or not os.path.lexists(mask)
    )
    if not is_ours:
        yield from (path for path in found if path != record)


def refuse_tables(folder: RunFolder) -> None:
    """Refuse to replace a table or page that does not begin like those of voxtile.

    ManifestError with all such files.
    """
    found = [path for path, begin in folder.derived() if not _begins(path, begin)]
    if found:
        files = "it is" if len(found) == 1 else "they are"
        raise ManifestError(
            f"{first_few(found)} would be replaced, but {files} not from voxtile; move "
            f"{'it' if len(found) == 1 else 'them'} away"
        )


def _begins(path: Path, begin: bytes) -> bool:
    """Whether a file begins with these bytes, or does not exist."""
    if not os.path.lexists(path):
        return True
    try:
        if not path.is_file() or path.is_symlink():
            return False
        with path.open("rb") as file:
            return file.read(len(begin)) == begin
    except OSError:
        return False
