"""A folder is replaced whole, or stays as it was."""

from pathlib import Path

import pytest

from voxtile.errors import EnvironmentFault
from voxtile.machine.files import replacing_folder


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its text."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_new_folder_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with replacing_folder(tmp_path / "out") as folder:
            (folder / f"{text}.txt").write_text(text)
    assert content(tmp_path) == {"out/second.txt": "second"}


def test_an_error_leaves_the_old_folder_unchanged(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.txt").write_text("old")
    with pytest.raises(ValueError, match="half"), replacing_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("new")
        raise ValueError("half")
    assert content(tmp_path) == {"out/a.txt": "old"}


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    for name in (".out.abcd1234.new", ".out.abcd1234.old", ".out.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.txt").write_text("half")
    with replacing_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("whole")
    # A folder of another name is somebody's.
    assert content(tmp_path) == {"out/a.txt": "whole", ".out.new/half.txt": "half"}


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(EnvironmentFault, match="out cannot be written"),
        replacing_folder(tmp_path / "file" / "out"),
    ):
        raise AssertionError("no folder")
