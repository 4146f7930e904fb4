"""An archive of a data set becomes one new folder, or nothing."""

import io
import tarfile
from pathlib import Path

import pytest
from fetching.unpacking import unpack

from voxtile.errors import EnvironmentFault, SourceError


def tar(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    """Write an archive of plain files and of anything else."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o6777
            archive.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_files_are_unpacked_with_the_same_content(tmp_path: Path) -> None:
    archive = tar(
        tmp_path / "a.tar",
        ("Task/a/x", b"one"),
        ("./Task/y", b"two"),
        ("Task/a/._x", b"of a Mac"),
        ("._Task", b"of a Mac"),
    )
    assert unpack(archive, tmp_path / "Task") == 2
    assert (tmp_path / "Task/a/x").read_bytes() == b"one"
    assert (tmp_path / "Task/y").read_bytes() == b"two"
    assert {path.name for path in tmp_path.rglob("*")} == {"a.tar", "Task", "a", "x", "y"}
    # No set-user-id bit, and writable by its owner alone.
    assert (tmp_path / "Task/y").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("Task/../../evil", b"x"), "inside"),
        (("../evil", b"x"), "inside"),
        (("/evil", b"x"), "inside"),
        (("Other/evil", b"x"), "inside"),
        (special("Task/link", tarfile.SYMTYPE, "/etc"), "not a plain file or folder"),
        (special("Task/link", tarfile.SYMTYPE, "../../evil"), "not a plain file or folder"),
        (special("Task/link", tarfile.LNKTYPE, "../evil"), "not a plain file or folder"),
        (special("Task/pipe", tarfile.FIFOTYPE), "not a plain file or folder"),
        (special("Task/disk", tarfile.BLKTYPE), "not a plain file or folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_hostile_member_unpacks_nothing(
    tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes], message: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    archive = tar(folder / "a.tar", ("Task/good", b"good"), member)
    with pytest.raises(SourceError, match=message):
        unpack(archive, folder / "Task")
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.tar"]


def test_a_torn_archive_unpacks_nothing(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", ("Task/x", b"x" * 5000), ("Task/y", b"y" * 5000))
    archive.write_bytes(archive.read_bytes()[:7000])
    with pytest.raises(SourceError, match="download it again"):
        unpack(archive, tmp_path / "Task")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_a_file_that_is_not_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(SourceError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar", tmp_path / "Task")


def test_an_existing_folder_is_not_changed(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", ("Task/x", b"new"))
    (tmp_path / "Task").mkdir()
    (tmp_path / "Task/x").write_bytes(b"old")
    with pytest.raises(EnvironmentFault, match="exists"):
        unpack(archive, tmp_path / "Task")
    assert (tmp_path / "Task/x").read_bytes() == b"old"


def test_what_a_killed_unpacking_left_is_removed(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", ("Task/x", b"new"))
    (tmp_path / ".Task.unpacking/Task").mkdir(parents=True)
    (tmp_path / ".Task.unpacking/Task/half").write_bytes(b"ha")
    unpack(archive, tmp_path / "Task")
    assert {path.name for path in tmp_path.rglob("*")} == {"a.tar", "Task", "x"}
