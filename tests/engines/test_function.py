"""A function of the caller as a network: tried once, with its own errors shown."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from phantoms import LABELS, ball, threshold_model
from runs import add_case, write_manifest

from voxtile import ModelSpec, run_manifest, segment
from voxtile.batch.settings import BatchSettings
from voxtile.engines.function import function_models
from voxtile.errors import ManifestError, ModelError, UsageError

PARTS = {
    "name": "mine",
    "tile": (16, 16),
    "labels": LABELS,
    "activation": "softmax",
    "intensity": {"method": "none"},
}
SPEC = ModelSpec(**PARTS)
LOGITS = ModelSpec(**PARTS, networks=[{"layout": "channels_first", "output": "logits"}])


def first(tiles: np.ndarray) -> np.ndarray:
    """The logits of `threshold_model` with channels first, as PyTorch has them."""
    return np.concatenate([50 - tiles, tiles - 50], axis=1).astype(np.float64)


def deep(tiles: np.ndarray) -> np.ndarray:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_function_with_a_spec_segments_a_volume() -> None:
    image, truth = ball()
    mask = segment(image, network=threshold_model, like=SPEC)
    np.testing.assert_array_equal(mask.array, truth.array)


def test_a_function_may_have_its_channels_first_and_give_logits() -> None:
    image, truth = ball()
    mask = segment(image, network=first, like=LOGITS)
    np.testing.assert_array_equal(mask.array, truth.array)
    models, _ = function_models(first, LOGITS)
    assert pickle.loads(pickle.dumps(models))  # workers get them


def test_a_run_takes_a_function_and_skips_its_finished_cases(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "a")])
    result = run_manifest(manifest, SPEC, tmp_path / "out", network=threshold_model)
    assert result.reports[0].status == "done"
    assert run_manifest(manifest, SPEC, tmp_path / "out", network=threshold_model).kept == 1


def test_other_weights_are_another_run(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "a")])
    run_manifest(manifest, SPEC, tmp_path / "out", network=threshold_model)
    with pytest.raises(ManifestError, match=r"answer to a trial tile \w+ -> \w+; pass --fresh"):
        run_manifest(
            manifest, SPEC, tmp_path / "out", network=lambda tiles: threshold_model(60 * tiles)
        )
    fresh = BatchSettings(fresh=True)
    result = run_manifest(manifest, SPEC, tmp_path / "out", network=threshold_model, batch=fresh)
    assert result.kept == 0


def test_the_error_of_a_function_is_shown_with_its_line_before_anything_runs(
    tmp_path: Path,
) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "a")])
    words = r"raised RuntimeError: mat1 and mat2 shapes .* \(test_function.py line \d+\)"
    with pytest.raises(ModelError, match=words) as caught:
        run_manifest(manifest, SPEC, tmp_path / "out", network=deep)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert not (tmp_path / "out").exists()


def test_an_error_on_a_scan_fails_only_that_case_and_names_the_line() -> None:
    def sensitive(tiles: np.ndarray) -> np.ndarray:
        if tiles.max() > 90:
            raise ValueError("too bright")
        return threshold_model(tiles)

    with pytest.raises(Exception, match=r"ValueError: too bright \(test_function.py line \d+\)"):
        segment(ball()[0], network=sensitive, like=SPEC)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda tiles: tiles, r"gave shape \(1, 16, 16, 1\) for trial tiles; \(1, 16, 16, 2\)"),
        (lambda tiles: threshold_model(tiles) * np.nan, "NaN or infinite"),
        (lambda tiles: 3 * threshold_model(tiles), "softmax probabilities were needed. If they"),
    ],
)
def test_an_answer_that_is_not_what_the_spec_says_is_refused(function, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        function_models(function, SPEC)


def test_a_function_and_its_spec_come_together(tmp_path: Path) -> None:
    image, _ = ball()
    for options in ({}, {"network": threshold_model}, {"bundle": "hippocampus", "like": SPEC}):
        with pytest.raises(UsageError, match="either a model, or network and like together"):
            segment(image, **options)
    with pytest.raises(UsageError, match="a ModelSpec has no networks; pass network="):
        run_manifest(tmp_path / "m.csv", SPEC, tmp_path / "out")
    with pytest.raises(UsageError, match="network needs a ModelSpec as the model"):
        run_manifest(tmp_path / "m.csv", "hippocampus", tmp_path / "out", network=threshold_model)


def test_a_module_of_pytorch_is_one_line() -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        net.weight[:, 0, 0, 0] = torch.tensor([-1.0, 1.0])
        net.bias[:] = torch.tensor([50.0, -50.0])
    image, truth = ball()
    mask = segment(
        image,
        network=lambda tiles: net(torch.from_numpy(tiles)).detach().numpy(),
        like=LOGITS,
    )
    np.testing.assert_array_equal(mask.array, truth.array)
