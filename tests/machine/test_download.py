"""A download is whole and verified, or there is no file; an interrupted one goes on."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from file_server import serving

from voxtile.errors import EnvironmentFault, SourceError
from voxtile.machine.download import alone, download

CONTENT = bytes(range(256)) * 40
SUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_saved_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    with serving(CONTENT) as served:
        assert download(served.url, tmp_path / "new" / "file.tar", SUM)
    assert (tmp_path / "new" / "file.tar").read_bytes() == CONTENT
    assert names(tmp_path) == {"new"}
    assert names(tmp_path / "new") == {"file.tar"}


def test_a_file_that_exists_is_not_downloaded(tmp_path: Path) -> None:
    (tmp_path / "file.tar").write_bytes(CONTENT)
    with serving(CONTENT) as served:
        assert not download(served.url, tmp_path / "file.tar", SUM)
    assert served.requests == 0


def test_a_broken_download_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "file.tar"
    with serving(CONTENT, cuts=[3000, 7000]) as served:
        for left in ("7,240", "3,240"):
            message = f"{left} bytes are missing.*check the network and run the same command again"
            with pytest.raises(EnvironmentFault, match=message):
                download(served.url, path, SUM)
            assert names(tmp_path) == {".file.tar.part"}
        download(served.url, path, SUM)
    assert served.starts == [0, 3000, 7000]
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == {"file.tar"}


@pytest.mark.parametrize(
    ("part", "ranges", "starts"),
    [
        (CONTENT[:3000], False, [0]),  # the server sends only whole files
        (b"of another file", True, [15, 0]),
        (CONTENT, True, [0]),  # killed just before the file got its name
        (CONTENT + b"more", True, [0]),
    ],
)
def test_a_part_that_cannot_be_continued_is_replaced(
    tmp_path: Path, part: bytes, ranges: bool, starts: list[int]
) -> None:
    (tmp_path / ".file.tar.part").write_bytes(part)
    with serving(CONTENT, ranges=ranges) as served:
        download(served.url, tmp_path / "file.tar", SUM)
    assert served.starts == starts
    assert (tmp_path / "file.tar").read_bytes() == CONTENT
    assert names(tmp_path) == {"file.tar"}


def test_a_file_that_is_larger_than_expected_is_not_saved(tmp_path: Path) -> None:
    with serving(CONTENT) as served, pytest.raises(SourceError, match="more than the 10,239 bytes"):
        download(served.url, tmp_path / "file.tar", SUM, most_bytes=len(CONTENT) - 1)
    assert names(tmp_path) == set()


def test_progress_counts_the_bytes_of_earlier_calls(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    (tmp_path / ".file.tar.part").write_bytes(CONTENT[:3000])
    with serving(CONTENT) as served:
        download(served.url, tmp_path / "file.tar", SUM, on_bytes=lambda *now: seen.append(now))
    assert (seen[0], seen[-1]) == ((3000, 10240), (10240, 10240))


def test_a_link_under_the_name_of_the_part_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / ".file.tar.part").symlink_to(tmp_path / "elsewhere")
    with serving(CONTENT) as served, pytest.raises(EnvironmentFault, match="cannot be written"):
        download(served.url, tmp_path / "file.tar", SUM)
    assert names(tmp_path) == {".file.tar.part"}


def test_silence_counts_as_a_broken_connection(tmp_path: Path) -> None:
    with (
        serving(CONTENT, cuts=[3000], silence_s=0.5) as served,
        pytest.raises(EnvironmentFault, match=r"could not be downloaded .*timed out"),
    ):
        download(served.url, tmp_path / "file.tar", SUM, timeout_s=0.1)
    assert names(tmp_path) == {".file.tar.part"}


def test_a_file_with_a_wrong_checksum_is_not_saved(tmp_path: Path) -> None:
    with serving(CONTENT[:-1]) as served:
        message = rf"gave 10,239 bytes with MD5 \w+, but MD5 {MD5} is needed; nothing was saved"
        with pytest.raises(SourceError, match=message):
            download(served.url, tmp_path / "file.tar", f"md5:{MD5}")
    assert names(tmp_path) == set()


def test_a_damaged_file_that_exists_is_named_and_left(tmp_path: Path) -> None:
    (tmp_path / "file.tar").write_bytes(b"other")
    with (
        serving(CONTENT) as served,
        pytest.raises(SourceError, match=r"file\.tar has SHA-256 \w+.*Remove it"),
    ):
        download(served.url, tmp_path / "file.tar", SUM)
    assert (tmp_path / "file.tar").read_bytes() == b"other"


def test_a_missing_file_says_where_to_save_it(tmp_path: Path) -> None:
    with serving(CONTENT, statuses=[404]) as served:
        message = r"answered 404 Not Found.*save it as \S+/gone\.tar"
        with pytest.raises(EnvironmentFault, match=message):
            download(served.url, tmp_path / "gone.tar", SUM)
    assert names(tmp_path) == set()


def test_no_server_says_what_to_do(tmp_path: Path) -> None:
    with serving(CONTENT) as served:
        url = served.url
    with pytest.raises(EnvironmentFault, match=r"refused.*check the network"):
        download(url, tmp_path / "file.tar", SUM)


def test_a_full_disk_is_noticed_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with (
        serving(CONTENT) as served,
        pytest.raises(EnvironmentFault, match=r"100 bytes free, but the download needs 10,240"),
    ):
        download(served.url, tmp_path / "file.tar", SUM)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with serving(CONTENT) as served, pytest.raises(EnvironmentFault, match="permissions"):
            download(served.url, tmp_path / "file.tar", SUM)
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    with pytest.raises(EnvironmentFault, match=r"cannot be written \(.*permissions"):
        download("http://127.0.0.1:9/", tmp_path / "folder" / "file.tar", SUM)


def test_only_web_addresses_are_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must begin with http"):
        download("file:///etc/passwd", tmp_path / "file.tar", SUM)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "data"),
        pytest.raises(EnvironmentFault, match="another process"),
        alone(tmp_path / "data"),
    ):
        raise AssertionError("two processes hold the lock")
    with alone(tmp_path / "data"):
        pass
