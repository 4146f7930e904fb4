"""Unpack the archive of a data set completely or not at all."""

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from voxtile.errors import EnvironmentFault, SourceError
from voxtile.machine.files import sync_folder, unwritable


def unpack(archive: Path, folder: Path) -> int:
    """Unpack a tar whose members are all in a folder named like `folder`; return its file count.

    `folder` must not exist. It appears in one step, complete. AppleDouble files
    (``._name``, which macOS adds) are left out.
    """
    if folder.exists():
        raise EnvironmentFault(f"{folder} exists; remove it or name another folder")
    work = folder.with_name(f".{folder.name}.unpacking")
    try:
        shutil.rmtree(work, ignore_errors=True)  # left by a process that was killed
        work.mkdir(parents=True)
        with tarfile.open(archive, "r:") as tar:
            members = [member for member in tar if _wanted(member, folder.name)]
            tar.extractall(work, members, filter="data")
        (work / folder.name).rename(folder)
        sync_folder(folder.parent)
        return sum(member.isreg() for member in members)
    except tarfile.TarError as error:
        raise SourceError(
            f"{archive} cannot be unpacked ({error}); remove it and download it again"
        ) from error
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _wanted(member: tarfile.TarInfo, top: str) -> bool:
    """Whether a member is to be unpacked; refuse members that a data set never has."""
    path = PurePosixPath(member.name)
    parts = [part for part in path.parts if part != "."]
    inside = not path.is_absolute() and ".." not in parts and parts[:1] in ([], [top], [f"._{top}"])
    # A sparse file of a few bytes may claim any size.
    plain = member.isdir() or (member.isreg() and not member.issparse())
    if not inside or not plain:
        raise SourceError(
            f"archive member {member.name!r} is not a plain file or folder inside {top}/; do not "
            "trust this archive"
        )
    return bool(parts) and not parts[-1].startswith("._")
