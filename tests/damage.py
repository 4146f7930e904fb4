"""Every file of a finished run folder, damaged in many ways, through every command that reads it.

`run_folder/test_damage.py` tries a file of each kind; ``scripts/faults`` tries each 20 times.
"""

import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from commands import invoke
from faulty import Broken, hashes_of, results, run_faulty, valid_cases

from voxtile.batch.settings import BatchSettings
from voxtile.errors import VoxtileError
from voxtile.run.job import RunSettings
from voxtile.run_folder.shard import Shard

SETTINGS = RunSettings(exports=("seg.nrrd",))
OTHER_TYPES = (b"", b"[]", b"{}", b"null", b'"text"', b"1e999", b"\xff\xfe\x00", b"[" * 10**5)
ABSURD = (b"-1", b"NaN", b"1" * 30, b"1e308", b'"2026"', b"[[]]", b"null")


class DamagedFolders:
    """A finished run folder of two shards with exports and a page, and what commands give of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = valid_cases(folder / "cohort", 4)
        (folder / "cohort/c003.nii.gz").write_bytes(b"")
        self.whole = folder / "whole"
        for index in (1, 2):
            shard = BatchSettings(shard=Shard(index, 2))
            run_faulty(self.manifest, self.whole, shard, settings=SETTINGS)
        assert invoke("merge", self.whole)[0] == 3  # c003 has failed
        assert invoke("report", self.whole, "--manifest", self.manifest)[0] == 3
        self.inputs = hashes_of(folder / "cohort")
        self.files = [path for path in sorted(self.whole.rglob("*")) if path.is_file()]
        commands: tuple[Callable[[Path], object], ...] = (
            self.status,
            self.report,
            self.compare,
            self.export,
            self.merge,
            self.run,
        )
        self.expected = {command: command(self.copied("damaged")) for command in commands}

    def copied(self, name: str) -> Path:
        """Return a copy of the finished folder."""
        copy = self.folder / "copies" / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.whole, copy)
        return copy

    def one_of_each(self) -> list[Path]:
        """Return a file of each folder and suffix."""
        found = {(path.parent, path.suffix): path for path in self.files}
        return list(found.values())

    def try_all(self, file: Path, rng: random.Random) -> None:
        """Damage a file once, and give the folder to every command."""
        name, damage = random_damage(file, self.files, rng)
        for command, expected in self.expected.items():
            folder = self.copied("damaged")
            damage(folder / file.relative_to(self.whole))
            what = f"{command.__name__} of {file.relative_to(self.whole)}, {name}"
            try:
                found = command(folder)
            except VoxtileError:
                continue  # a named problem
            except Exception as error:
                raise Broken("traceback", f"{what}: {type(error).__name__}: {error}") from error
            if found not in ("named", expected):
                raise Broken("different", f"{what}: {found}")
        if hashes_of(self.folder / "cohort") != self.inputs:
            raise Broken("different", f"an input was changed after {name} of {file.name}")

    def status(self, folder: Path) -> object:
        """Return the lines of `voxtile status`."""
        code, said = checked("status", folder)
        return "named" if code or "damaged" in said or "missing: c" in said else said

    def report(self, folder: Path) -> object:
        """Return the tables that `voxtile report` writes."""
        code, said = checked("report", folder, "--cases", "worst:1")
        return named(code, said) or tables(folder)

    def compare(self, folder: Path) -> object:
        """Return the comparison with the folder as it was."""
        code, said = checked("compare", self.whole, folder, "--out", self.folder / "both")
        return named(code, said) or (self.folder / "both/comparison.csv").read_text()

    def export(self, folder: Path) -> object:
        """Return the files that `voxtile export` writes."""
        shutil.rmtree(folder / "exports")
        code, _ = checked("export", folder, "--to", "binary,tables")
        return "named" if code else hashes_of(folder / "exports")

    def merge(self, folder: Path) -> object:
        """Return the tables that `voxtile merge` writes."""
        code, said = checked("merge", folder)
        return named(code, said) or tables(folder)

    def run(self, folder: Path) -> object:
        """Return the results after another run."""
        run_faulty(self.manifest, folder, settings=SETTINGS)
        return results(folder)


def checked(*words: object) -> tuple[int, str]:
    """Run a command that must not end with a traceback."""
    code, said = invoke(*words)
    assert code in (0, 3, 4, 5, 6), f"{words[0]} ended with {code}: {said}"
    return code, said


def named(code: int, said: str) -> str:
    """Return "named" if a command refused the folder or named cases that do not count."""
    return "named" if code > 3 or (code and re.search(r"\b[1-9]\d* missing|_changed", said)) else ""


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of a folder."""
    return {name: (folder / name).read_text() for name in ("report.csv", "summary.csv")}


def random_damage(
    file: Path, files: list[Path], rng: random.Random
) -> tuple[str, Callable[[Path], object]]:
    """Return a kind of damage to a file, in words and as a function of its path in a copy."""
    content = file.read_bytes()
    kinds = dict(_damages(content, rng))
    kinds["removed"] = None
    others = [one for one in files if one.suffix == file.suffix and one != file]
    if others:
        other = rng.choice(others)
        kinds[f"replaced by {other.name}"] = other.read_bytes()
    if rng.random() < 0.05:
        return "a folder instead", lambda path: (path.unlink(), path.mkdir())
    name = rng.choice(list(kinds))
    bad = kinds[name]
    if bad is None:
        return name, Path.unlink
    return name, lambda path: path.write_bytes(bad)


def _damages(content: bytes, rng: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """Yield kinds of damage to a content, each at a random place."""
    place = rng.randrange(max(1, len(content)))
    yield f"cut at {place}", content[:place]
    flipped = bytearray(content or b"\0")
    flipped[place] ^= 1 << rng.randrange(8)
    yield f"bit flipped at {place}", bytes(flipped)
    digits = [index for index, byte in enumerate(content) if byte in b"0123456789"]
    if digits:
        at = rng.choice(digits)
        digit = str((int(content[at : at + 1]) + rng.randrange(1, 10)) % 10).encode()
        yield f"digit changed at {at}", content[:at] + digit + content[at + 1 :]
        absurd = rng.choice(ABSURD)
        yield f"{absurd[:9]!r} at {at}", content[:at] + absurd + content[at + 1 :]
    other = rng.choice(OTHER_TYPES)
    yield f"only {other[:9]!r}", other
    yield f"doubled at {place}", content[:place] + content
