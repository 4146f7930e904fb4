"""A model is downloaded once, verified, and then used by its name without a network."""

import hashlib
import json
from pathlib import Path

import pytest
from file_server import Served, serving

from voxtile.errors import EnvironmentFault, ModelError, SourceError, UsageError
from voxtile.library import index
from voxtile.library.get import get_model
from voxtile.library.pack import pack_model
from voxtile.models.bundle import load_bundle, named_bundles


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of this test alone."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def archive(model: Path, tmp_path: Path) -> bytes:
    """The archive of the model, which is then no longer in its folder."""
    pack_model(load_bundle(model), tmp_path / "packed.zip")
    model.rename(tmp_path / "original")
    return (tmp_path / "packed.zip").read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_index(monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes, *urls: str) -> None:
    """Let the index name this archive as the model liver."""
    entry = {
        "name": "liver",
        "description": "Balls.",
        "modality": "phantom",
        "labels": ["ball"],
        "licence": "CC0-1.0",
        "size_bytes": len(content),
        "sha256": sha256(content),
        "addresses": urls,
    }
    path = folder / "index.json"
    path.write_text(json.dumps({"format": "voxtile-index", "format_version": 1, "models": [entry]}))
    monkeypatch.setattr(index, "INDEX", path)


def test_a_model_from_an_address_is_used_by_its_name_and_offline(
    archive: bytes, tmp_path: Path, own_folder: Path
) -> None:
    with serving(archive) as served:
        got = get_model(served.url, sha256(archive))
        again = get_model(served.url, sha256(archive).upper())
    assert (got.name, got.is_new, again.is_new, served.requests) == ("liver", True, False, 1)
    assert load_bundle("liver").folder == got.folder == own_folder / "models/liver"
    assert load_bundle("liver").sha256 == load_bundle(tmp_path / "original").sha256
    assert [*named_bundles()] == ["hippocampus", "liver"]
    assert {path.suffix for path in (own_folder / "models").iterdir()} <= {"", ".lock"}


def test_an_interrupted_download_goes_on(archive: bytes) -> None:
    with serving(archive, cuts=[1000]) as served:
        with pytest.raises(EnvironmentFault, match="run the same command again"):
            get_model(served.url, sha256(archive))
        assert get_model(served.url, sha256(archive)).is_new
    assert served.starts == [0, 1000]


def test_a_name_of_the_index_is_tried_at_each_address(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(archive, statuses=[404]) as gone, serving(b"another file") as other:
        with serving(archive) as served:
            urls = [one.url for one in (gone, other, served)]
            write_index(monkeypatch, tmp_path, archive, *urls)
            assert get_model("liver").is_new
            assert not get_model("liver").is_new
        assert [one.requests for one in (gone, other, served)] == [1, 1, 1]
    with pytest.raises(UsageError, match=r"the index has no model 'spleen', only liver; give"):
        get_model("spleen")
    with pytest.raises(UsageError, match="the index says SHA-256"):
        get_model("liver", "0" * 64)


def test_the_model_of_an_archive_must_have_the_name_of_the_index(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    with serving(archive) as served:
        write_index(monkeypatch, tmp_path, archive, served.url)
        text = index.INDEX.read_text().replace('"liver"', '"lung"')
        index.INDEX.write_text(text)
        with pytest.raises(ModelError, match="the archive of lung holds a model 'liver'"):
            get_model("lung")
    assert [*named_bundles()] == ["hippocampus"]


def test_another_file_is_never_used(archive: bytes, own_folder: Path) -> None:
    def refused(served: Served, digest: str, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            get_model(served.url, digest)
        assert [*named_bundles()] == ["hippocampus"]

    with serving(archive) as served:
        refused(served, "0" * 64, SourceError, "but SHA-256 0{64} is needed; nothing was saved")
        refused(served, "", UsageError, "an address needs --sha256 with the 64 digits")
    with serving(b"no archive") as served:
        refused(served, sha256(b"no archive"), ModelError, "is not a zip archive")


def test_a_name_never_changes_its_model(archive: bytes, tmp_path: Path, own_folder: Path) -> None:
    (tmp_path / "original/README.md").write_text("# liver\n\nAnother card about the ball.\n")
    pack_model(load_bundle(tmp_path / "original"), tmp_path / "other.zip")
    other = (tmp_path / "other.zip").read_bytes()
    with serving(archive) as served:
        get_model(served.url, sha256(archive))
    with (
        serving(other) as served,
        pytest.raises(ModelError, match=r"models/liver is a model of this name from another"),
    ):
        get_model(served.url, sha256(other))
    assert "in phantoms" in (own_folder / "models/liver/README.md").read_text()


def test_a_folder_of_the_user_is_not_replaced(archive: bytes, own_folder: Path) -> None:
    mine = own_folder / "models/liver/notes.txt"
    mine.parent.mkdir(parents=True, mode=0o755)
    own_folder.chmod(0o700)
    mine.write_text("mine")
    with serving(archive) as served, pytest.raises(ModelError, match="is a model of this name"):
        get_model(served.url, sha256(archive))
    assert mine.read_text() == "mine"


def test_a_model_that_was_changed_since_is_told(archive: bytes, own_folder: Path) -> None:
    with serving(archive) as served:
        get_model(served.url, sha256(archive))
        (own_folder / "models/liver/n.keras").write_bytes(b"changed")
        with pytest.raises(ModelError, match=r"was altered.*To get it again, remove \S+liver"):
            get_model(served.url, sha256(archive))


def test_a_shipped_model_is_there_and_keeps_its_name(
    tmp_path: Path, model: Path, own_folder: Path
) -> None:
    assert not get_model("hippocampus").is_new
    spec = (model / "spec.json").read_text().replace('"liver"', '"hippocampus"')
    (model / "spec.json").write_text(spec)
    pack_model(load_bundle(model), tmp_path / "packed.zip")
    content = (tmp_path / "packed.zip").read_bytes()
    with (
        serving(content) as served,
        pytest.raises(ModelError, match="a model named 'hippocampus' comes with voxtile"),
    ):
        get_model(served.url, sha256(content))


def test_a_folder_that_others_can_write_to_is_not_used(archive: bytes, own_folder: Path) -> None:
    with serving(archive) as served:
        get_model(served.url, sha256(archive))
        (own_folder / "models").chmod(0o777)
        assert [*named_bundles()] == ["hippocampus"]
        with pytest.raises(EnvironmentFault, match="others can write to it; chmod go-w"):
            get_model(served.url, sha256(archive))
    with pytest.raises(ModelError, match=r"downloaded: none .*models is not used: others can"):
        load_bundle("liver")


def test_the_index_of_the_package_is_valid() -> None:
    assert all(name == one.name for name, one in index.published_models().items())
