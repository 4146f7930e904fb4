"""The folder beside the output where a training lives until it is done.

    OUT.training/
      training.json      what this training is: cases, what was asked for
      recipe.toml        every choice, once made
      cases/ planes/     the cases as the fit reads them
      <network>/         checkpoint.npz of each network
      bundle/            the finished bundle, before it gets its name

It survives anything: a killed training goes on from here with ``--resume``,
with the choices that were made when it began, on whatever machine. It holds
patient data, and is removed when the bundle is in its place.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.machine.files import clear_temporary, remove, write_json
from voxtile.run_folder.lock import locked

_IDENTITY = "training.json"
_PUBLISHED = "published"


@contextmanager
def working_folder(out: Path, identity: Mapping[str, Any], *, resume: bool) -> Iterator[Path]:
    """Hold the working folder of a training; remove it when the block ends well.

    Parameters
    ----------
    out : Path
        The bundle to be; must not exist.
    identity : mapping
        JSON values. What differs makes another training, which cannot go on
        from here.
    resume : bool
        Whether to go on with a training that was interrupted; without one, a
        new one begins all the same.

    Raises
    ------
    EnvironmentFault
        If `out` exists, the disk refuses, another process holds the folder,
        or the training there is not this one.
    """
    work = working_place(out)
    if out.exists():
        left = f"; what its training left in {work} goes with --resume" if _has_ended(out) else ""
        raise EnvironmentFault(f"{out} exists; choose another name or remove it first{left}")
    found = (work / _IDENTITY).exists()
    if found and not resume:
        raise EnvironmentFault(
            f"{work} holds a training that was interrupted; go on with it by --resume, or remove "
            "the folder to begin anew"
        )
    if not found:
        _refuse_foreign(work)
    with locked(work):
        clear_temporary(work)
        if found:
            _check_same(work, identity)
            _forget(work, _PUBLISHED)
        else:
            write_json(work / _IDENTITY, identity)
        try:
            yield work
        except (ManifestError, ValueError):
            # What was asked for has to change. Of an earlier start nothing is lost: what it could
            # not read may be there again.
            if not found and not list(work.glob("*/checkpoint.npz")):
                _remove(work)
            raise
        _remove(work)


def publish(work: Path, out: Path) -> None:
    """Give ``bundle`` in a working folder its name, in one step.

    Raises
    ------
    EnvironmentFault
        If there is something of this name now, or the disk refuses.
    """
    remembered(work, _PUBLISHED, True)
    try:
        (work / "bundle").rename(out)
    except OSError as error:
        raise EnvironmentFault(
            f"{out} cannot be made ({error.strerror}); did it appear while the training ran?"
        ) from error


def sweep(out: Path, identity: Mapping[str, Any] | None = None) -> bool:
    """Remove the working folder of a training that was killed when its bundle had its name.

    Parameters
    ----------
    out : Path
        The bundle.
    identity : mapping, optional
        Of the training that should go on; any unless given.

    Returns
    -------
    bool
        Whether there was one: `out` is what it made.

    Raises
    ------
    EnvironmentFault
        If it was another training, or another process holds the folder.
    """
    if not _has_ended(out):
        return False
    work = working_place(out)
    with locked(work):
        if identity is not None:
            _check_same(work, identity)
        _remove(work)
    return True


def working_place(out: Path) -> Path:
    """Return the working folder that belongs to an output."""
    return out.with_name(f"{out.name}.training")


def remembered(work: Path, name: str, value: Any) -> Any:
    """Return what this training remembers by a name: `value`, if this is the first time.

    Parameters
    ----------
    work : Path
    name : str
        What it is, in words.
    value : JSON value

    Raises
    ------
    EnvironmentFault
        If ``training.json`` cannot be read.
    """
    identity = _identity(work)
    if name not in identity:
        identity[name] = value
        write_json(work / _IDENTITY, identity)
    return identity[name]


def hold_same(work: Path, name: str, value: Any) -> None:
    """Remember something about this training, or refuse if it was otherwise before.

    Parameters and errors are those of `remembered`.
    """
    if remembered(work, name, value) != value:
        raise _changed(work, [name])


def _identity(work: Path) -> dict[str, Any]:
    """Return what a working folder says that it holds."""
    try:
        identity: dict[str, Any] = json.loads((work / _IDENTITY).read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(work) from error
    return identity


def _forget(work: Path, name: str) -> None:
    """Remember nothing by a name."""
    identity = _identity(work)
    if identity.pop(name, None) is not None:
        write_json(work / _IDENTITY, identity)


def _has_ended(out: Path) -> bool:
    """Whether the working folder is that of a training whose bundle has its name already."""
    work = working_place(out)
    if not out.exists() or not (work / _IDENTITY).exists() or (work / "bundle").exists():
        return False
    return _PUBLISHED in _identity(work)


def _refuse_foreign(work: Path) -> None:
    """Refuse a folder that no training made: it would be removed in the end."""
    if work.exists() and any(not path.name.startswith(".") for path in work.iterdir()):
        raise EnvironmentFault(
            f"{work} is where this training would keep its work, and holds files that no training "
            "wrote; move them away, or choose another name"
        )


def _remove(work: Path) -> None:
    """Remove a working folder; what says that it is one goes last."""
    for path in work.iterdir():
        if path.name != _IDENTITY:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else remove(path)
    shutil.rmtree(work, ignore_errors=True)


def _check_same(work: Path, identity: Mapping[str, Any]) -> None:
    """Refuse to go on with another training."""
    known = _identity(work)
    # Through JSON, as what was written: tuples became lists.
    now = json.loads(json.dumps(dict(identity)))
    changed = [name for name in now if now[name] != known.get(name)]
    if changed:
        raise _changed(work, changed)


def _changed(work: Path, names: list[str]) -> EnvironmentFault:
    """Return the error for a training that is another one now."""
    return EnvironmentFault(
        f"{work} holds a training with other {', '.join(names)}; give it what it was begun with, "
        "or remove the folder to begin anew"
    )


def _unreadable(work: Path) -> EnvironmentFault:
    """Return the error for a folder that does not say what it holds."""
    return EnvironmentFault(f"{work / _IDENTITY} cannot be read; remove {work} to begin anew")
