"""The folder beside the output that holds a training run until it is finished.

    OUT.training/
      training.json      what is trained: cases, recipe, --init
      recipe.toml        every choice, after all were made
      cases/ planes/     the cases as the fit reads them
      <network>/         checkpoint.npz of each network
      training.html      the page of `voxtile report OUT.training`
      bundle/            the finished bundle, before it is moved to OUT
      before/            the model that was trained further, once the new one has replaced it

The folder survives a kill at any moment: ``--resume`` continues from it with the
choices that were made at the start, also on another machine. It holds patient
data, and is removed after the bundle was moved.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.machine.files import clear_temporary, remove, write_json
from voxtile.run_folder.lock import locked
from voxtile.run_folder.protection import is_remainder

from .differences import differences

IDENTITY = "training.json"
_PUBLISHED = "published"
BEFORE = "before"
# Folders of a training run; the folder of a network has one of these files.
_FOLDERS = ("cases", "planes", "choosing", "bundle", BEFORE)
_OF_NETWORK = ("checkpoint.npz", "network.keras")


@contextmanager
def working_folder(
    out: Path, identity: Mapping[str, Any], *, resume: bool, replaces: bool = False
) -> Iterator[Path]:
    """Lock the working folder of a training run; remove it if the block ends without an error.

    The bundle `out` must not exist, unless this training run replaces it. A training run
    with another identity (JSON values) cannot continue here.
    """
    work = work_path(out)
    if os.path.lexists(out) and not replaces:
        left = f"; --resume removes {work}, which its training run left" if _has_ended(out) else ""
        raise EnvironmentFault(f"{out} exists; choose another name or remove it first{left}")
    found = (work / IDENTITY).exists()
    if found and not resume:
        raise EnvironmentFault(
            f"{work} holds an interrupted training run; continue it with --resume, or remove the "
            "folder to start again"
        )
    if not found and work.exists() and not all(map(is_remainder, work.iterdir())):
        raise EnvironmentFault(
            f"{work} is needed for this training run, but contains other files; move them away, "
            "or choose another name"
        )
    with locked(work):
        clear_temporary(work)
        if found:
            _check_same(work, identity)
            identity = {name: v for name, v in _read(work).items() if name != _PUBLISHED}
        write_json(work / IDENTITY, identity)
        try:
            yield work
        except (ManifestError, ValueError):
            # The user has to change something first. A resumed training run keeps its checkpoints,
            # because a file that could not be read may be back later.
            if not found and not list(work.glob("*/checkpoint.npz")):
                _remove(work)
            raise
        _remove(work)


def publish(work: Path, out: Path, *, replaces: bool = False) -> None:
    """Move ``bundle`` of a working folder to `out`; a model that it `replaces` is moved first.

    A kill between both moves leaves two whole models in the folder; the same command completes it.
    """
    remembered(work, _PUBLISHED, True)
    try:
        if replaces:
            out.rename(work / BEFORE)
        (work / "bundle").rename(out)
    except OSError as error:
        if (work / BEFORE).exists() and not out.exists():
            (work / BEFORE).rename(out)
        raise EnvironmentFault(
            f"{out} cannot be created ({error.strerror}); was it created during the training run?"
        ) from error


def remove_finished(out: Path, identity: Mapping[str, Any] | None = None) -> bool:
    """Remove a working folder that remains because a training run was killed after `publish`.

    Return whether there was one, so that `out` is finished. An identity that
    differs from the folder's is refused.
    """
    if not _has_ended(out):
        return False
    work = work_path(out)
    with locked(work):
        if identity is not None:
            _check_same(work, identity)
        _remove(work)
    return True


def work_path(out: Path) -> Path:
    """Return the working folder of an output."""
    return out.with_name(f"{out.name}.training")


def remembered(work: Path, name: str, value: Any) -> Any:
    """Return what this training run stored under a name; the first call stores `value`."""
    identity = _read(work)
    if name not in identity:
        identity[name] = value
        write_json(work / IDENTITY, identity)
    return identity[name]


def hold_same(work: Path, name: str, value: Any) -> None:
    """Store a value of this training run; refuse to continue if an earlier value differs."""
    if remembered(work, name, value) != value:
        raise _different(work, [f"other {name}"])


def _read(work: Path) -> dict[str, Any]:
    """Return the content of ``training.json``."""
    path = work / IDENTITY
    try:
        identity: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"{path} cannot be read; remove {work} to start again") from error
    return identity


def _has_ended(out: Path) -> bool:
    """Whether the training run of a bundle ended, but its working folder remains."""
    work = work_path(out)
    if not out.exists() or not (work / IDENTITY).exists() or (work / "bundle").exists():
        return False
    return _PUBLISHED in _read(work)


def _remove(work: Path) -> None:
    """Remove a working folder; ``training.json``, which marks such a folder, is removed last.

    Files that no training run wrote are kept. If there are any, the folder is also kept.
    """
    for path in work.iterdir():
        if path.name == IDENTITY or not _is_of_training(path):
            continue
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else remove(path)
    remove(work / IDENTITY)
    with suppress(OSError):
        work.rmdir()


def _is_of_training(path: Path) -> bool:
    """Whether a training run wrote a file or folder of its working folder."""
    if path.is_symlink():
        return False
    if not path.is_dir():
        return path.name in ("recipe.toml", "training.html", ".lock", ".lock.json")
    return path.name in _FOLDERS or any((path / name).exists() for name in _OF_NETWORK)


def _check_same(work: Path, identity: Mapping[str, Any]) -> None:
    """Refuse to continue a different training run."""
    if found := differences(_read(work), identity):
        raise _different(work, found)


def _different(work: Path, found: list[str]) -> EnvironmentFault:
    """Return the error for a folder of a different training run."""
    return EnvironmentFault(
        f"{work} holds a different training run ({'; '.join(found)}); use the same options as at "
        "the start, or remove the folder to start again"
    )
