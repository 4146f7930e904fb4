"""Download a model once, by its name or by an address with a checksum; then it is used offline."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voxtile.errors import EnvironmentFault, ModelError, SourceError, UsageError
from voxtile.machine.cache import cache_folder, cache_problem
from voxtile.machine.download import MOST_BYTES, alone, download
from voxtile.machine.files import remove
from voxtile.models.bundle import load_bundle, shipped_bundles

from .archive import SOURCE, spec_of_archive, unpack_archive
from .index import published_models


@dataclass(frozen=True, slots=True)
class Got:
    """A model that can be used by its name."""

    name: str
    folder: Path
    is_new: bool


def get_model(
    wanted: str, sha256: str = "", on_bytes: Callable[[int, int], None] | None = None
) -> Got:
    """Download a model unless it is there, and check it.

    Parameters
    ----------
    wanted : str
        A name of the index, or the address of an archive of `voxtile models pack`.
    sha256 : str
        SHA-256 of the archive; needed for an address.
    on_bytes : callable, optional
        Called with (bytes so far, all bytes).

    Raises
    ------
    UsageError
        If the name is not in the index, or the checksum is missing.
    SourceError, ModelError
        If the file is another one, or the archive or its model is refused.
    EnvironmentFault
        If the network or the disk fails, or others can write to the user's cache folder.
    """
    if wanted in shipped_bundles():
        return Got(wanted, load_bundle(wanted).folder, is_new=False)
    addresses, digest, most, name = _source(wanted, sha256.lower())
    if problem := cache_problem("models"):
        raise EnvironmentFault(f"{problem}; a downloaded model needs it")
    home = cache_folder("models")
    for folder in home.glob("[A-Za-z0-9]*"):
        if _digest(folder) == digest:
            return _kept(folder)
    if name:
        _refuse_other(home / name)
    archive = home / f".{digest}.zip"
    with alone(archive):
        for number, address in enumerate(addresses, start=1):
            try:
                download(address, archive, f"sha256:{digest}", most_bytes=most, on_bytes=on_bytes)
                break
            except (EnvironmentFault, SourceError):
                if number == len(addresses):
                    raise
        try:
            return _unpacked(archive, home, digest, name)
        finally:
            remove(archive)


def _source(wanted: str, sha256: str) -> tuple[tuple[str, ...], str, int, str]:
    """Return the addresses of an archive, its SHA-256, its size at most, and its model if known."""
    if "://" in wanted:
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise UsageError(
                f"an address needs --sha256 with the 64 digits of its file, not {sha256!r}: ask "
                "its publisher, not the server that sends the file"
            )
        return (wanted,), sha256, MOST_BYTES, ""
    published = published_models()
    if wanted not in published:
        only = f", only {', '.join(sorted(published))}" if published else ", and no other yet"
        raise UsageError(
            f"the index has no model {wanted!r}{only}; "
            "give the address of an archive and its --sha256"
        )
    model = published[wanted]
    if sha256 not in ("", model.sha256):
        raise UsageError(f"the index says SHA-256 {model.sha256} for {wanted}, not {sha256}")
    return model.addresses, model.sha256, model.size_bytes, wanted


def _unpacked(archive: Path, home: Path, digest: str, name: str) -> Got:
    """Return the model of a verified archive, in its folder."""
    found = spec_of_archive(archive).name
    if name and found != name:
        raise ModelError(f"the archive of {name} holds a model {found!r}; please report this")
    if found in shipped_bundles():
        raise ModelError(f"a model named {found!r} comes with voxtile; ask for another name")
    _refuse_other(home / found)
    unpack_archive(archive, home / found, digest)
    return Got(found, home / found, is_new=True)


def _kept(folder: Path) -> Got:
    """Return a model that was downloaded earlier; ModelError if it was changed since."""
    try:
        return Got(load_bundle(folder).spec.name, folder, is_new=False)
    except ModelError as error:
        raise ModelError(f"{error}. To get it again, remove {folder} first") from error


def _refuse_other(folder: Path) -> None:
    """Refuse to replace a model of the same name."""
    if os.path.lexists(folder):
        raise ModelError(
            f"{folder} is a model of this name from another archive; remove this folder if you no "
            "longer need it: runs that used it cannot be continued then"
        )


def _digest(folder: Path) -> str | None:
    """Return the SHA-256 of the archive that a model came from; None for another folder."""
    try:
        return str(json.loads((folder / SOURCE).read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
