"""A model is the same after it was packed and unpacked, and hostile archives make no folder."""

import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest

from voxtile.errors import ModelError
from voxtile.library.archive import spec_of_archive, unpack_archive, write_archive
from voxtile.models.bundle import load_bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def archive(model: Path, tmp_path: Path) -> Path:
    write_archive(load_bundle(model), tmp_path / "liver.zip")
    return tmp_path / "liver.zip"


def test_what_was_packed_is_unpacked(archive: Path, model: Path, tmp_path: Path) -> None:
    assert spec_of_archive(archive) == load_bundle(model).spec
    bundle = unpack_archive(archive, tmp_path / "new", "0" * 64)
    assert bundle.sha256 == load_bundle(model).sha256
    for path in model.iterdir():
        assert (tmp_path / "new" / path.name).read_bytes() == path.read_bytes()
    assert {path.name for path in (tmp_path / "new").iterdir()} - {
        path.name for path in model.iterdir()
    } == {"source.json"}


def test_every_file_that_a_model_may_have_is_packed(model: Path, tmp_path: Path) -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = [name[2:] for name in setuptools["package-data"]["voxtile.models"] if "/" in name]
    for name in {*shipped} - {"spec.json", "*.keras", "README.md", "LICENSE"}:
        (model / name).write_text("x")
    names = write_archive(load_bundle(model), tmp_path / "all.zip")
    assert {*names} == {path.name for path in model.iterdir()}


def test_equal_models_give_equal_bytes_whatever_their_dates(
    archive: Path, model: Path, tmp_path: Path
) -> None:
    shutil.copytree(model, tmp_path / "copy", copy_function=shutil.copyfile)
    (tmp_path / "copy/README.md").chmod(0o600)
    (tmp_path / "copy/notes.txt").write_text("of somebody")
    names = write_archive(load_bundle(tmp_path / "copy"), tmp_path / "copy.zip")
    assert (tmp_path / "copy.zip").read_bytes() == archive.read_bytes()
    assert names == ("LICENSE", "README.md", "n.keras", "spec.json")


def changed(archive: Path, changes: dict[str, bytes | None]) -> Path:
    """The archive with other, further or missing files."""
    with zipfile.ZipFile(archive) as old:
        content = {name: old.read(name) for name in old.namelist()} | changes
    new = archive.with_name("changed.zip")
    with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in content.items():
            if value is not None:
                file.writestr(name, value)
    return new


def test_an_archive_of_another_program_may_hold_more(archive: Path, tmp_path: Path) -> None:
    more = changed(archive, {"liver/.DS_Store": b"x", "__MACOSX/liver/._spec": b"x"})
    unpack_archive(more, tmp_path / "new", "0" * 64)
    assert not (tmp_path / "new/.DS_Store").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"liver/spec.json": None}, "holds 0 files named spec.json"),
        ({"other/spec.json": b"{}"}, "holds 2 files named spec.json"),
        ({"liver/spec.json": b"{}"}, r"changed\.zip: spec\.json is not a valid spec: name is"),
        ({"liver/n.keras": None}, r"lacks n\.keras, which its spec names"),
        ({"liver/n.keras": b"other"}, r"changed\.zip: n\.keras has SHA-256 .*altered"),
        ({"../evil": b"x"}, r"'\.\./evil', a link or a path that leads out of it"),
        ({"liver/../../evil": b"x"}, "do not trust this archive"),
        ({"/evil": b"x"}, "do not trust this archive"),
        ({"C:\\evil": b"x"}, "do not trust this archive"),
        ({"..\\evil": b"x"}, "do not trust this archive"),
        ({"liver/README.md": bytes(2**24 + 1)}, "more than a model has"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_archive_makes_no_folder(
    archive: Path, tmp_path: Path, changes: dict[str, bytes | None], message: str
) -> None:
    wrong = changed(archive, changes)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ModelError, match=message):
        unpack_archive(wrong, tmp_path / "new", "0" * 64)
    assert {path.name for path in tmp_path.iterdir()} == before
    assert not (tmp_path.parent / "evil").exists()


def test_a_link_is_refused(archive: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("liver/LICENSE2")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ModelError, match="a link or a path"):
        unpack_archive(archive, tmp_path / "new", "0" * 64)


def test_a_file_that_is_there_twice_is_refused(archive: Path, tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(archive, "a") as file,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        file.writestr("liver/n.keras", "other")
    with pytest.raises(ModelError, match="holds a file twice"):
        unpack_archive(archive, tmp_path / "new", "0" * 64)


def test_any_damage_is_found(archive: Path, tmp_path: Path) -> None:
    content = archive.read_bytes()
    for place in range(100, len(content), len(content) // 40):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / "damaged.zip").write_bytes(damaged)
        try:
            bundle = unpack_archive(tmp_path / "damaged.zip", tmp_path / "new", "0" * 64)
        except ModelError:
            assert not (tmp_path / "new").exists()
        else:  # in a date or another field that is not used
            assert bundle.sha256 == load_bundle(tmp_path / "liver").sha256
            shutil.rmtree(tmp_path / "new")
    (tmp_path / "damaged.zip").write_bytes(content[:-30])
    with pytest.raises(ModelError, match="damaged"):  # the end that is left is of a network
        unpack_archive(tmp_path / "damaged.zip", tmp_path / "new", "0" * 64)
