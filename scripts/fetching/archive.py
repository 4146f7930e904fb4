"""Unpack a tar archive: all of it into a new folder, or nothing anywhere."""

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from voxtile.errors import EnvironmentFault, SourceError
from voxtile.machine.files import sync_folder


def unpack(archive: Path, folder: Path) -> int:
    """Unpack an archive that holds one folder.

    Parameters
    ----------
    archive : Path
        An uncompressed tar. Everything in it lies in a folder with the name
        of `folder`.
    folder : Path
        What that folder becomes. It must not exist; it appears in one step,
        whole.

    Returns
    -------
    int
        Number of files. AppleDouble files (``._name``, what macOS adds to an
        archive) are left out.

    Raises
    ------
    SourceError
        If the archive is damaged, or holds anything but files and folders
        below its one folder: no links, no devices, no ``..``.
    EnvironmentFault
        If `folder` exists or the disk refuses; what was unpacked is removed.

    Notes
    -----
    Members pass tarfile's ``data`` filter (PEP 706) too, which also takes care
    of permissions and owners.
    """
    if folder.exists():
        raise EnvironmentFault(f"{folder} exists; remove it or name another")
    if not hasattr(tarfile, "data_filter"):
        raise EnvironmentFault("this Python unpacks archives unsafely; use 3.11.4 or newer")
    # Nobody else may be unpacking here, so what lies under this name was left by a killed process.
    work = folder.with_name(f".{folder.name}.unpacking")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            with tarfile.open(archive, "r:") as tar:
                members = [member for member in tar if _wanted(member, folder.name)]
                tar.extractall(work, members, filter="data")
        except tarfile.FilterError as error:
            raise SourceError(f"{archive} is not safe to unpack: {error}") from error
        except tarfile.TarError as error:
            raise SourceError(
                f"{archive} cannot be unpacked ({error}); remove it and download it again"
            ) from error
        files = [path for path in work.rglob("*") if path.is_file()]
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        (work / folder.name).rename(folder)
        sync_folder(folder.parent)
        return len(files)
    except OSError as error:
        raise EnvironmentFault(
            f"{folder} cannot be written ({error.strerror or error}); check free space and "
            "permissions, then run the same command again"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _wanted(member: tarfile.TarInfo, top: str) -> bool:
    """Whether a member is to be unpacked; refuse what no data set holds."""
    path = PurePosixPath(member.name)
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or ".." in parts or (parts and parts[0] not in (top, f"._{top}")):
        raise SourceError(f"archive member {member.name!r} lies outside of {top}/; it is hostile")
    # A sparse file of a few bytes may claim any size.
    if not (member.isdir() or member.isreg()) or member.issparse():
        raise SourceError(
            f"archive member {member.name!r} is neither a plain file nor a folder; it is hostile"
        )
    return bool(parts) and not parts[-1].startswith("._")
