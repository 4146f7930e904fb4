"""A model as one file: a zip archive of its folder.

Equal models give equal bytes: files in a fixed order, stored and not compressed (networks
are compressed already, and programs compress differently), without dates.

From an archive that may come from anybody, only the files of a model are taken, under the names
that its spec gives; no name in the archive is used as a path.
"""

import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxtile.errors import ModelError, first_few
from voxtile.machine.files import replacing, replacing_folder, write_json
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import ModelSpec
from voxtile.models.spec_file import parse_spec

SOURCE = "source.json"
_SPEC = "spec.json"
# The other files of a model beside its networks; each may be missing.
_OTHERS = (
    *("LICENSE", "README.md", "fingerprint.json", "history.csv", "quality.json", "recipe.toml"),
    *("training.html", "training.png"),  # in version 0.1.0 the curves were a picture
)
# Most bytes of a file that is not a network, and of all files.
_MOST_OTHER, _MOST_BYTES = 2**24, 2**35
_MOST_FILES = 10_000
# Deflate compresses at most 1032:1.
_MOST_INFLATION = 1100
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_LINK = 0o12  # of a file's mode, its first four bits


def write_archive(bundle: Bundle, path: Path) -> tuple[str, ...]:
    """Write the archive of a model, completely or not at all; return the names of its files."""
    networks = {network.file: network for network in bundle.spec.networks}
    there = [name for name in _OTHERS if (bundle.folder / name).is_file()]
    names = sorted([_SPEC, *there, *networks])
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name in names:
            member = zipfile.ZipInfo(f"{bundle.spec.name}/{name}", _NO_DATE)
            member.create_system, member.external_attr = 3, 0o100644 << 16
            network = networks.get(name)
            content = bundle.read_network(network) if network else None
            archive.writestr(member, content or (bundle.folder / name).read_bytes())
    return tuple(names)


def other_files(bundle: Bundle) -> list[str]:
    """Return the names in a model's folder that are no part of a model."""
    known = {_SPEC, SOURCE, *_OTHERS, *(network.file for network in bundle.spec.networks)}
    return sorted({path.name for path in bundle.folder.iterdir()} - known)


def spec_of_archive(path: Path) -> ModelSpec:
    """Return the spec in the archive of a model; errors as `unpack_archive`."""
    with _opened(path) as (_, _, spec):
        return spec


def unpack_archive(path: Path, folder: Path, sha256: str) -> Bundle:
    """Make a model folder from an archive, and return the checked model.

    The folder appears complete or not at all; its file `SOURCE` keeps the SHA-256 of the archive.
    ModelError if the archive is damaged, holds links, paths that lead out of it or more than a
    model has, or if its model is refused.
    """
    with _opened(path) as (archive, members, spec), replacing_folder(folder) as work:
        networks = {network.file for network in spec.networks}
        if absent := sorted(networks - members.keys()):
            raise ModelError(f"{path.name} lacks {first_few(absent)}, which its spec names")
        for name in {_SPEC, *networks, *members.keys() & {*_OTHERS}}:
            with archive.open(members[name]) as source, (work / name).open("xb") as file:
                shutil.copyfileobj(source, file, 2**20)
        write_json(work / SOURCE, {"sha256": sha256})
        try:
            load_bundle(work)
        except ModelError as error:
            raise ModelError(str(error).replace(f"{work}/", f"{path.name}: ")) from error
    return load_bundle(folder)


@contextmanager
def _opened(
    path: Path,
) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo], ModelSpec]]:
    """Lend an archive with the files of its model by name, and the spec of the model."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path.name)
            yield (
                archive,
                members,
                parse_spec(archive.read(members[_SPEC]), f"{path.name}: {_SPEC}"),
            )
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(
            f"{path.name} is not a zip archive, or is damaged; `voxtile models pack` writes one"
        ) from error
    except (NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path.name} is encrypted or has an unusual compression") from error


def _members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """Return the files beside an archive's spec by name; refuse what no model has."""
    files = [one for one in archive.infolist() if not one.is_dir()]
    for one in files:
        parts = one.filename.replace("\\", "/").split("/")
        outside = parts[0] == "" or ".." in parts or ":" in parts[0]
        if outside or one.external_attr >> 28 == _LINK:
            raise ModelError(
                f"{name} holds {one.filename!r}, a link or a path that leads out of it; do not "
                "trust this archive"
            )
    specs = [one.filename for one in files if one.filename.rpartition("/")[2] == _SPEC]
    if len(specs) != 1:
        raise ModelError(
            f"{name} holds {len(specs)} files named {_SPEC}, but the archive of a model has one"
        )
    top = specs[0].removesuffix(_SPEC)
    found = {one.filename.removeprefix(top): one for one in files if one.filename.startswith(top)}
    others = [found[one].file_size for one in found.keys() & {_SPEC, *_OTHERS}]
    if (
        len(files) > _MOST_FILES
        or len(found) < sum(one.filename.startswith(top) for one in files)
        or sum(one.file_size for one in files) > _MOST_BYTES
        or max(others) > _MOST_OTHER
        or any(one.file_size > one.compress_size * _MOST_INFLATION for one in files)
    ):
        raise ModelError(
            f"{name} holds a file twice, or more than a model has or the archive can hold"
        )
    return found
