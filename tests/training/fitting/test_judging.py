"""A validation on a device scores with the weights of the moment, as one on the processor."""

import numpy as np
import pytest
from phantoms import ball, make_spec
from training_cohort import TINY

from voxtile.engines.device import Device
from voxtile.models.unet import build_unet
from voxtile.training.fitting import judging
from voxtile.training.fitting.learner import Learner
from voxtile.volume import Volume


class Stored:
    """A validation case."""

    volume: Volume

    def __init__(self) -> None:
        whole, _ = ball((20, 18, 5))
        rng = np.random.default_rng(0)
        self.volume = whole.with_array(rng.normal(0, 1, whole.shape).astype(np.float32))


def test_the_weights_of_each_validation_count(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, cases = make_spec(multiple=2), [Stored()]
    network = build_unet((None, None, 1), 2, filters=2, depth=1, normalisation="batch")
    learner = Learner(network, TINY, softmax=True, precision="float32", device=Device("cpu"))
    plain = judging.validator(spec, learner, cases, on_device=False)  # type: ignore[arg-type]
    small = judging.validator(spec, learner, cases, on_device=True)  # type: ignore[arg-type]
    assert small.line is None  # too small to compile for
    monkeypatch.setattr(judging, "_WORTH_COMPILING", 0)
    line = judging.validator(spec, learner, cases, on_device=True)  # type: ignore[arg-type]
    assert line.line is not None
    rng = np.random.default_rng(1)
    masks = []
    for _ in range(3):
        learner.model.set_weights(
            [value + rng.normal(0, 0.3, value.shape) for value in network.get_weights()]
        )
        known, found = (each(cases[0].volume).array for each in (plain, line))
        assert (known == found).mean() > 0.999
        masks.append(found)
    assert any((one != masks[0]).any() for one in masks[1:])
