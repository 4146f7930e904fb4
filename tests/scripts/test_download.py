"""A download is whole and verified, or there is no file; an archive becomes one new folder."""

import hashlib
import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from fetching.download import alone, download, unpack
from file_server import serving

from voxtile.errors import EnvironmentFault, SourceError

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_saved_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    with serving(CONTENT) as served:
        assert download(served.url, tmp_path / "new" / "file.tar", md5=MD5)
    assert (tmp_path / "new" / "file.tar").read_bytes() == CONTENT
    assert names(tmp_path) == {"new"}
    assert names(tmp_path / "new") == {"file.tar"}


def test_a_file_that_exists_is_not_downloaded(tmp_path: Path) -> None:
    (tmp_path / "file.tar").write_bytes(CONTENT)
    with serving(CONTENT) as served:
        assert not download(served.url, tmp_path / "file.tar", md5=MD5)
    assert served.requests == 0


def test_a_broken_connection_leaves_nothing_and_the_next_call_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "file.tar"
    with serving(CONTENT, cuts=[3000]) as served:
        message = r"7,240 bytes are missing.*check the network and run the same command again"
        with pytest.raises(EnvironmentFault, match=message):
            download(served.url, path, md5=MD5)
        assert names(tmp_path) == set()
        download(served.url, path, md5=MD5)
    assert path.read_bytes() == CONTENT


def test_silence_counts_as_a_broken_connection(tmp_path: Path) -> None:
    with (
        serving(CONTENT, cuts=[3000], silence_s=0.5) as served,
        pytest.raises(EnvironmentFault, match=r"could not be downloaded .*timed out"),
    ):
        download(served.url, tmp_path / "file.tar", md5=MD5, timeout_s=0.1)
    assert names(tmp_path) == set()


def test_what_a_killed_download_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".file.tar.abcd1234.tmp").write_bytes(CONTENT[:3000])
    with serving(CONTENT) as served:
        download(served.url, tmp_path / "file.tar", md5=MD5)
    assert names(tmp_path) == {"file.tar"}


def test_a_file_with_a_wrong_checksum_is_not_saved(tmp_path: Path) -> None:
    with serving(CONTENT[:-1]) as served:
        message = rf"gave 10,239 bytes with MD5 \w+, but {MD5} is needed; nothing was saved"
        with pytest.raises(SourceError, match=message):
            download(served.url, tmp_path / "file.tar", md5=MD5)
    assert names(tmp_path) == set()


def test_a_damaged_file_that_exists_is_named_and_left(tmp_path: Path) -> None:
    (tmp_path / "file.tar").write_bytes(b"other")
    with (
        serving(CONTENT) as served,
        pytest.raises(SourceError, match=r"file\.tar has MD5 \w+.*Remove it"),
    ):
        download(served.url, tmp_path / "file.tar", md5=MD5)
    assert (tmp_path / "file.tar").read_bytes() == b"other"


def test_a_missing_file_says_where_to_save_it(tmp_path: Path) -> None:
    with serving(CONTENT, statuses=[404]) as served:
        message = r"answered 404 Not Found.*save it as \S+/gone\.tar"
        with pytest.raises(EnvironmentFault, match=message):
            download(served.url, tmp_path / "gone.tar", md5=MD5)


def test_no_server_says_what_to_do(tmp_path: Path) -> None:
    with serving(CONTENT) as served:
        url = served.url
    with pytest.raises(EnvironmentFault, match=r"refused.*check the network"):
        download(url, tmp_path / "file.tar", md5=MD5)


def test_a_full_disk_is_noticed_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with (
        serving(CONTENT) as served,
        pytest.raises(EnvironmentFault, match=r"100 bytes free, but the download needs 10,240"),
    ):
        download(served.url, tmp_path / "file.tar", md5=MD5)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with serving(CONTENT) as served, pytest.raises(EnvironmentFault, match="permissions"):
            download(served.url, tmp_path / "file.tar", md5=MD5)
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    with pytest.raises(EnvironmentFault, match=r"cannot be written \(.*permissions"):
        download("http://127.0.0.1:9/", tmp_path / "folder" / "file.tar", md5=MD5)


def test_only_web_addresses_are_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must begin with http"):
        download("file:///etc/passwd", tmp_path / "file.tar", md5=MD5)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "data"),
        pytest.raises(EnvironmentFault, match="another process"),
        alone(tmp_path / "data"),
    ):
        raise AssertionError("two processes hold the lock")
    with alone(tmp_path / "data"):
        pass


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
