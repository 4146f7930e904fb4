"""A download is whole and right or not there, whatever server, network and disk do."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from fetching.download import alone, download
from file_server import serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxtile.errors import EnvironmentFault, SourceError

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_comes_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    with serving(CONTENT) as served:
        assert download(served.url, tmp_path / "new" / "file.tar", md5=MD5)
    assert (tmp_path / "new" / "file.tar").read_bytes() == CONTENT
    assert names(tmp_path) == {"new"}
    assert names(tmp_path / "new") == {"file.tar"}


def test_a_file_that_is_here_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file.tar").write_bytes(CONTENT)
    with serving(CONTENT) as served:
        assert not download(served.url, tmp_path / "file.tar", md5=MD5.upper())
    assert served.asked == []


@given(cuts=st.lists(st.integers(1, 4000), max_size=4))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cut_connections_are_joined(tmp_path: Path, cuts: list[int]) -> None:
    path = tmp_path / "file.tar"
    path.unlink(missing_ok=True)
    with serving(CONTENT, cuts=list(cuts)) as served:
        download(served.url, path, md5=MD5, pause_s=0)
    assert path.read_bytes() == CONTENT
    starts = [request.get("range") for request in served.asked]
    ends = [sum(cuts[: index + 1]) for index in range(len(cuts))]
    wanted = [None] + [f"bytes={end}-" for end in ends if end < len(CONTENT)]
    assert starts == wanted[: len(starts)]


def test_the_next_process_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    path = tmp_path / "file.tar"
    with serving(CONTENT, cuts=[3000, 0, 0, 0, 0, 0]) as served:
        with pytest.raises(EnvironmentFault, match=r"3,000 bytes are here.*goes on where it stopp"):
            download(served.url, path, md5=MD5, pause_s=0)
        assert names(tmp_path) == {".file.tar.part", ".file.tar.part.json"}
        served.cuts.clear()
        served.asked.clear()
        download(served.url, path, md5=MD5)
    assert [(r["range"], r["if-range"]) for r in served.asked] == [("bytes=3000-", '"one"')]
    assert path.read_bytes() == CONTENT


def test_silence_counts_as_a_broken_connection(tmp_path: Path) -> None:
    said: list[str] = []
    with serving(CONTENT, cuts=[3000], silence_s=0.5) as served:
        path = tmp_path / "file.tar"
        download(served.url, path, md5=MD5, pause_s=0, timeout_s=0.1, say=said.append)
        assert served.asked[1]["range"] == "bytes=3000-"
    assert said == ["the connection broke after 3,000 bytes (timed out); trying again"]


def interrupted(served, path: Path, count: int = 3000) -> None:
    """Leave the first bytes of a download, as a process that was killed does."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(served.content[:count])
    origin = {"url": served.url, "validator": served.etag, "size": len(served.content)}
    part.with_name(f"{part.name}.json").write_text(json.dumps(origin))


def test_a_server_that_ignores_ranges_starts_over(tmp_path: Path) -> None:
    said: list[str] = []
    with serving(CONTENT, ranges=False) as served:
        interrupted(served, tmp_path / "file.tar")
        download(served.url, tmp_path / "file.tar", md5=MD5, say=said.append)
    assert (tmp_path / "file.tar").read_bytes() == CONTENT
    assert said == ["the server knows no ranges; 3,000 bytes are dropped, and it starts over"]


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_noticed(tmp_path: Path, honours_if_range: bool) -> None:
    said: list[str] = []
    new = CONTENT[::-1]
    md5 = hashlib.md5(new).hexdigest()
    with serving(CONTENT, honours_if_range=honours_if_range) as served:
        interrupted(served, tmp_path / "file.tar")
        served.content, served.etag = new, '"two"'
        download(served.url, tmp_path / "file.tar", md5=md5, say=said.append, pause_s=0)
    assert (tmp_path / "file.tar").read_bytes() == new
    assert "another" in said[0]


def test_pieces_of_two_files_without_validators_are_found_by_the_checksum(tmp_path: Path) -> None:
    said: list[str] = []
    with serving(CONTENT, etag="") as served:
        interrupted(served, tmp_path / "file.tar")
        (tmp_path / ".file.tar.part").write_bytes(b"x" * 3000)
        download(served.url, tmp_path / "file.tar", md5=MD5, say=said.append)
    assert (tmp_path / "file.tar").read_bytes() == CONTENT
    assert said == ["the pieces do not make the file that is needed; starting over"]


def test_a_wrong_checksum_keeps_nothing(tmp_path: Path) -> None:
    with serving(CONTENT[:-1]) as served:
        message = rf"gave 10,239 bytes with MD5 \w+, but {MD5} is needed; nothing was kept"
        with pytest.raises(SourceError, match=message):
            download(served.url, tmp_path / "file.tar", md5=MD5)
        assert len(served.asked) == 1
    assert names(tmp_path) == set()


def test_a_wrong_file_in_pieces_is_not_asked_for_forever(tmp_path: Path) -> None:
    with serving(CONTENT[:-1], cuts=[10, 20_000, 10, 20_000]) as served:
        with pytest.raises(SourceError, match="nothing was kept"):
            download(served.url, tmp_path / "file.tar", md5=MD5, pause_s=0)
        assert len(served.asked) == 4
    assert names(tmp_path) == set()


def test_a_damaged_file_that_is_here_is_named_and_left(tmp_path: Path) -> None:
    (tmp_path / "file.tar").write_bytes(b"other")
    with (
        serving(CONTENT) as served,
        pytest.raises(SourceError, match=r"file\.tar is here with MD5 \w+.*Remove it"),
    ):
        download(served.url, tmp_path / "file.tar", md5=MD5)
    assert (tmp_path / "file.tar").read_bytes() == b"other"


def test_all_bytes_without_the_new_name_are_not_asked_for_again(tmp_path: Path) -> None:
    with serving(CONTENT) as served:
        interrupted(served, tmp_path / "file.tar", len(CONTENT))
        download(served.url, tmp_path / "file.tar", md5=MD5)
    assert served.asked == []
    assert names(tmp_path) == {"file.tar"}


def test_more_bytes_than_there_are_start_over(tmp_path: Path) -> None:
    with serving(CONTENT) as served:
        interrupted(served, tmp_path / "file.tar")
        (tmp_path / ".file.tar.part").write_bytes(CONTENT * 2)
        download(served.url, tmp_path / "file.tar", md5=MD5, pause_s=0)
    assert (tmp_path / "file.tar").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(tmp_path: Path) -> None:
    with serving(CONTENT, statuses=[503, 429]) as served:
        download(served.url, tmp_path / "file.tar", md5=MD5, pause_s=0)
        assert len(served.asked) == 3
    with serving(CONTENT, statuses=[404]) as served:
        message = r"answered 404 Not Found.*put it at \S+/gone\.tar"
        with pytest.raises(EnvironmentFault, match=message):
            download(served.url, tmp_path / "gone.tar", md5=MD5)
        assert len(served.asked) == 1


def test_no_server_at_all_is_said_with_what_to_do(tmp_path: Path) -> None:
    with serving(CONTENT) as served:
        url = served.url
    with pytest.raises(EnvironmentFault, match=r"refused.*0 bytes are here\. Check the network"):
        download(url, tmp_path / "file.tar", md5=MD5, pause_s=0)


def test_a_full_disk_is_said_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with (
        serving(CONTENT) as served,
        pytest.raises(EnvironmentFault, match=r"100 bytes free, but 10,240 are still to come"),
    ):
        download(served.url, tmp_path / "file.tar", md5=MD5)


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / ".file.tar.part").symlink_to(tmp_path / "precious")
    with serving(CONTENT) as served:
        download(served.url, tmp_path / "target" / "file.tar", md5=MD5)
    assert (tmp_path / "precious").read_text() == "mine"
    assert names(tmp_path / "target") == {"file.tar"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with serving(CONTENT) as served, pytest.raises(EnvironmentFault, match="permissions"):
            download(served.url, tmp_path / "file.tar", md5=MD5)
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
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
        raise AssertionError("two hold it")
    with alone(tmp_path / "data"):
        pass
