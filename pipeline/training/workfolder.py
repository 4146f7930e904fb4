"""The folder beside the output where a training lives until it is done.

    OUT.training/
      training.json      what this training is: cases, what was asked for
      recipe.toml        every choice, once made
      cases/ planes/     the cases as the fit reads them
      <network>/         checkpoint.npz of each network
      bundle/            the finished bundle, before it gets its name

It survives anything: a killed training goes on from here with ``--resume``.
It holds patient data, and is removed when the bundle is in its place.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voxtile.batch.lock import locked
from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.files import clear_temporary, write_json

_IDENTITY = "training.json"


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
    if out.exists():
        raise EnvironmentFault(f"{out} exists; choose another name or remove it first")
    work = working_place(out)
    found = (work / _IDENTITY).exists()
    if found and not resume:
        raise EnvironmentFault(
            f"{work} holds a training that was interrupted; go on with it by --resume, or remove "
            "the folder to begin anew"
        )
    with locked(work):
        clear_temporary(work)
        if found:
            _check_same(work, identity)
        else:
            write_json(work / _IDENTITY, identity)
        try:
            yield work
        except (ManifestError, ValueError):
            # Nothing was learnt yet that could be lost, and what was asked for has to change.
            if not list(work.glob("*/checkpoint.npz")):
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)


def working_place(out: Path) -> Path:
    """Return the working folder that belongs to an output."""
    return out.with_name(f"{out.name}.training")


def hold_same(work: Path, name: str, value: Any) -> None:
    """Remember something about this training, or refuse if it was otherwise before.

    Parameters
    ----------
    work : Path
    name : str
        What it is, in words.
    value : JSON value

    Raises
    ------
    EnvironmentFault
    """
    try:
        identity: dict[str, Any] = json.loads((work / _IDENTITY).read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(work) from error
    if identity.setdefault(name, value) != value:
        raise _changed(work, [name])
    write_json(work / _IDENTITY, identity)


def _check_same(work: Path, identity: Mapping[str, Any]) -> None:
    """Refuse to go on with another training."""
    try:
        known: dict[str, Any] = json.loads((work / _IDENTITY).read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(work) from error
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
