"""A results folder of nnU-Net becomes a model that segments; a checkpoint runs no code."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from commands import invoke
from nnunet_folders import arrays, write_results
from phantoms import ball

from voxtile import segment
from voxtile.errors import EnvironmentFault, ModelError, UsageError
from voxtile.importing import nnunet
from voxtile.importing.checkpoint import Checkpoint, read_checkpoint
from voxtile.importing.nnunet import import_nnunet
from voxtile.models.bundle import load_bundle


@pytest.fixture
def two_folds(monkeypatch) -> None:
    """Checkpoints of two networks, by the number of their fold."""

    def read(path: Path) -> Checkpoint:
        seed = int(path.parent.name.removeprefix("fold_"))
        return Checkpoint(arrays(False, seed=seed), "nnUNetTrainer", (0, 1))

    monkeypatch.setattr(nnunet, "read_checkpoint", read)


def test_folds_become_an_ensemble_that_segments(tmp_path: Path, two_folds) -> None:
    folder = write_results(tmp_path / "results", folds=("0", "1"))
    found = import_nnunet(folder, tmp_path / "ball")
    spec = found.bundle.spec
    assert (found.bundle.name, len(spec.networks)) == ("ball", 2)
    assert any("--orientation" in notice for notice in found.notices)
    image, _ = ball()
    mask = segment(image, found.bundle)
    assert mask.shape == image.shape and 0 < mask.array.sum() < mask.array.size
    again = import_nnunet(folder, tmp_path / "again").bundle
    assert again.sha256 == found.bundle.sha256
    one = import_nnunet(folder, tmp_path / "one", folds=["1"], orientation="RAS")
    assert one.notices == () and len(one.bundle.spec.networks) == 1


def test_a_trainer_that_nnunet_does_not_have_is_named(tmp_path: Path, monkeypatch) -> None:
    read = Checkpoint(arrays(False), "nnUNetTrainerMine", ())
    monkeypatch.setattr(nnunet, "read_checkpoint", lambda path: read)
    found = import_nnunet(write_results(tmp_path / "r"), tmp_path / "ball", orientation="LPS")
    (notice,) = found.notices
    assert "nnUNetTrainerMine is not one of nnU-Net's own" in notice
    assert notice in (tmp_path / "ball/README.md").read_text()


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("nnUNetTrainer", True),
        ("nnUNetTrainer_250epochs_NoMirroring", True),
        ("nnUNetTrainerAdam3en4", True),
        ("nnUNetTrainerDA5ord0", True),
        ("nnUNetTrainerBN", False),
        ("nnUNetTrainerUMambaBot", False),
    ],
)
def test_trainers_of_nnunet_are_known_by_name(name, own) -> None:
    assert bool(nnunet._TRAINERS.fullmatch(name)) == own


def test_what_cannot_be_imported_leaves_no_folder(tmp_path: Path, two_folds) -> None:
    folder, out = write_results(tmp_path / "r"), tmp_path / "ball"
    with pytest.raises(UsageError, match="--orientation 'RAX' must be three letters"):
        import_nnunet(folder, out, orientation="RAX")
    with pytest.raises(ModelError, match="orientation RRS must name each axis once"):
        import_nnunet(folder, out, orientation="RRS")
    with pytest.raises(ModelError, match="is missing; give --checkpoint"):
        import_nnunet(folder, out, checkpoint="checkpoint_best.pth")
    assert not out.exists()


def test_the_command_takes_a_folder_without_a_spec(tmp_path: Path, two_folds) -> None:
    folder, out = write_results(tmp_path / "r", folds=("0", "1")), tmp_path / "ball"
    words = ("models", "import", folder, "--out", out)
    code, said = invoke(*words, "--folds", "1", "--orientation", "LPS")
    assert (code, said) == (0, f"model: {out}\n")
    assert load_bundle(out).spec.orientation == "LPS"
    (tmp_path / "n.onnx").write_bytes(b"")
    code, said = invoke("models", "import", tmp_path / "n.onnx", "--out", tmp_path / "new")
    assert code == 2 and "needs --spec; a folder of nnU-Net does not" in said


@pytest.mark.skipif(find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_pytorch_the_message_says_how_to_install_it(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "r")
    with pytest.raises(EnvironmentFault, match=r'pip install "voxtile\[nnunet\]" \(only to import'):
        import_nnunet(folder, tmp_path / "ball")


class _Harmful:
    """An object that runs a command when it is loaded."""

    def __reduce__(self):
        return os.mkdir, (os.environ["HARM"],)


def test_a_checkpoint_runs_no_code_and_gives_its_arrays(tmp_path: Path, monkeypatch) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    path = tmp_path / "checkpoint_final.pth"
    weights = {"a.weight": torch.ones(2, 3)}
    whole = {
        "network_weights": weights,
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
        "_best_ema": np.float64(0.5),
    }
    torch.save(whole, path)
    found = read_checkpoint(path)
    assert (found.trainer, found.mirroring) == ("nnUNetTrainer", (0, 1))
    np.testing.assert_array_equal(found.arrays["a.weight"], np.ones((2, 3)))
    torch.save({**whole, "logging": _Harmful()}, path)
    with pytest.raises(ModelError, match="cannot be read without running code"):
        read_checkpoint(path)
    assert not (tmp_path / "harm").exists()
    torch.save([1], path)
    with pytest.raises(ModelError, match="has no network_weights"):
        read_checkpoint(path)
