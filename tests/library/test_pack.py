"""A model is packed if it says what it is; the card of any model can be read."""

import hashlib
from pathlib import Path

import pytest

from voxtile.errors import ModelError, UsageError
from voxtile.library.card import printable, read_card
from voxtile.library.pack import pack_model
from voxtile.models.bundle import load_bundle
from voxtile.models.spec_file import read_spec


def test_the_answer_describes_the_archive(model: Path, tmp_path: Path) -> None:
    (model / "notes.txt").write_text("mine")
    packed = pack_model(load_bundle(model), tmp_path / "a.zip")
    content = (tmp_path / "a.zip").read_bytes()
    assert packed.sha256 == hashlib.sha256(content).hexdigest()
    assert packed.size_bytes == len(content)
    assert (packed.name, packed.labels, packed.left_out) == ("liver", ("ball",), ("notes.txt",))
    assert packed.notices == ()


def test_ids_of_training_cases_are_told(model: Path, tmp_path: Path) -> None:
    spec = read_spec(model / "spec.json")
    spec = spec.model_copy(update={"training": {"train": ["a", "b"], "val": ["a"]}})
    (model / "spec.json").write_text(spec.dump())
    packed = pack_model(load_bundle(model), tmp_path / "a.zip")
    assert packed.notices[0].startswith("spec.json has the ids of 2 training cases; check")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("README.md", None, r"it has no README\.md; write its model card"),
        ("LICENSE", " \n", "it has no LICENSE; write the licence of its weights"),
        ("README.md", "# ball\nNo licence was\ngiven.", "still says 'No licence was given'"),
        ("README.md", "# liver", "does not name the label 'ball'"),
        (
            "README.md",
            "Imported by `voxtile models import`, which knows nothing about its training: ball",
            "say there where the model and its training data come from",
        ),
    ],
)
def test_a_model_that_says_too_little_is_not_packed(
    model: Path, tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    (model / name).unlink() if text is None else (model / name).write_text(text)
    with pytest.raises(ModelError, match=f"cannot be published yet: .*{message}"):
        pack_model(load_bundle(model), tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_an_archive_has_a_new_name_that_ends_in_zip(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.tar must end in \.zip"):
        pack_model(load_bundle(model), tmp_path / "a.tar")
    (tmp_path / "a.zip").write_text("mine")
    with pytest.raises(UsageError, match=r"a\.zip exists; name a new file"):
        pack_model(load_bundle(model), tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_text() == "mine"


def test_the_shipped_model_can_be_published(tmp_path: Path) -> None:
    assert pack_model(load_bundle("hippocampus"), tmp_path / "a.zip").left_out == ()


def test_a_card_is_read_and_cannot_control_the_terminal(model: Path) -> None:
    assert "It finds the ball" in read_card(str(model))
    (model / "README.md").write_text("a\x1b[2Jb\n\tc\x9b")
    assert read_card(str(model)) == printable("a\x1b[2Jb\n\tc\x9b") == "a[2Jb\n\tc"
    (model / "README.md").unlink()
    with pytest.raises(ModelError, match=r"has no README\.md; ask who made the model"):
        read_card(str(model))
