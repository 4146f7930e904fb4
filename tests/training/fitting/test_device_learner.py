"""A network that cuts its own tiles learns as one that gets them, with each backend."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from device_tiles import cut, held, plain, stack
from training_cohort import OUTER, TINY

from voxtile.engines.device import Device
from voxtile.machine.progress import show_progress
from voxtile.models.backend_name import backend_name
from voxtile.models.unet import build_unet
from voxtile.training.fitting.augmentation import Augmentation
from voxtile.training.fitting.dataset import TileBatches
from voxtile.training.fitting.device_batches import FixedBatches
from voxtile.training.fitting.device_learner import DeviceLearner
from voxtile.training.fitting.fit import FitTask, fit
from voxtile.training.fitting.judging import Scores
from voxtile.training.fitting.learner import Learner

RECIPE = replace(TINY, epochs=None, steps=5, steps_per_epoch=4, filters=2)
OPTIONS = {"softmax": True, "precision": "float32", "device": Device("cpu")}
RATES = [1e-2, 5e-3, 1e-3]


def batches_of(folder: Path) -> TileBatches:
    """Small batches of one case."""
    how = plain((16, 16), batch=4, context_slices=1, augmentation=Augmentation())
    return TileBatches([[stack(folder, channels=1)]], how)


def network(channels: int = 1):
    """A small network with the same weights each time."""
    model = build_unet((None, None, channels), 3, filters=2, depth=1, normalisation="batch")
    rng = np.random.default_rng(0)
    model.set_weights([value + rng.normal(0, 0.2, value.shape) for value in model.get_weights()])
    return model


def test_steps_are_those_of_a_learner_that_gets_the_tiles(tmp_path: Path) -> None:
    found = held(batches_of(tmp_path))
    start = network()
    ours = DeviceLearner(found, start, RECIPE, **OPTIONS)
    theirs = Learner(start, RECIPE, **OPTIONS)
    losses = ours.steps([found[0], found[1]], RATES[:2]) + ours.steps([found[2]], RATES[2:])
    known = [theirs.step(*cut(found, number), rate) for number, rate in enumerate(RATES)]
    assert losses == pytest.approx(known, rel=1e-4)
    here, there = ours.state(), theirs.state()
    assert list(here) == list(there)
    for name, value in here.items():
        np.testing.assert_allclose(value, there[name], rtol=1e-3, atol=2e-4, err_msg=name)
    with ours.at_rest() as (predict, mean), theirs.at_rest() as (other, _):
        tiles = cut(found, 3)[0]
        np.testing.assert_allclose(predict(tiles), other(tiles), atol=1e-3)
    assert len(mean) == len(start.get_weights())


def test_an_overflow_in_float16_changes_no_weight(tmp_path: Path) -> None:
    found = held(batches_of(tmp_path))
    learner = DeviceLearner(found, network(), RECIPE, **{**OPTIONS, "precision": "mixed_float16"})
    state = learner.state()
    # A scale with which every gradient is infinite.
    scale = max(name for name, value in state.items() if value.shape == () and value == 2**15)
    learner.restore({**state, scale: np.float32(3e38)})
    learner.steps([found[0]], [1e-2])
    after = learner.state()
    assert after[scale] == np.float32(1.5e38)
    trained = {id(variable) for variable in learner.model.trainable_variables}
    for place, variable in enumerate(learner.model.variables):
        if id(variable) in trained:
            name = f"model/{place:04d}"
            np.testing.assert_array_equal(after[name], state[name])


def test_the_program_of_a_step_stays_small(tmp_path: Path) -> None:
    if backend_name() != "jax":
        pytest.skip("JAX compiles tiles, network and optimiser as one program")
    import jax

    def size(depth: int, batches) -> tuple[int, int]:
        """The number of operations and of convolutions."""
        model = build_unet((None, None, 1), 3, filters=2, depth=depth, normalisation="batch")
        learner = DeviceLearner(batches, model, RECIPE, **OPTIONS)
        numbers, stored = batches[0], batches.stored(0)
        state = learner._packing.state()
        program = jax.make_jaxpr(learner._one)(state, np.float32(0), stored, *numbers[:2])
        return len(re.findall(" = ", str(program))), str(program).count("conv_general_dilated[")

    found = held(batches_of(tmp_path))
    (small, few), (large, many) = size(1, found), size(2, found)
    # A compiler's time grows with the operations; in AdamW alone, each weight apart would have 30.
    assert small < 1150
    assert (large - small) / (many - few) < 25
    # To measure the speed of steps, the same program with tiles that are there.
    fixed = FixedBatches(*map(jax.numpy.asarray, cut(found, 0)))
    assert size(1, fixed)[0] < small - 200


TWO_DEVICES = """
import sys
from pathlib import Path

import jax
from device_tiles import plain, stack
from voxtile.engines.device import Device
from voxtile.models.unet import build_unet
from voxtile.training.fitting.dataset import TileBatches
from voxtile.training.fitting.device_batches import on_device
from voxtile.training.fitting.device_learner import DeviceLearner
from voxtile.training.recipe.recipe import Recipe

network = build_unet((None, None, 6), 3, filters=2, depth=1, normalisation="none")
batches, losses = TileBatches([[stack(Path(sys.argv[1]))]], plain((8, 8))), []
for number, place in enumerate(jax.devices("cpu")):
    device = Device(f"cpu:{number}")
    found = on_device(batches, device)
    how = {"softmax": True, "precision": "float32", "device": device}
    learner = DeviceLearner(found, network, Recipe(learning_rate=1e-2, optimizer="muon"), **how)
    losses += learner.steps([found[0]], [1e-2])
    arrays = [*jax.tree.leaves(learner._newer), *found.stored(0).values()]
    assert {one for array in arrays for one in array.devices()} == {place}, place
assert len(losses) == 2 and abs(losses[0] - losses[1]) < 1e-4 * losses[0], losses
"""


def test_networks_on_two_devices_learn_the_same_each_on_its_own(tmp_path: Path) -> None:
    if backend_name() != "jax":
        pytest.skip("only JAX divides the processor into two devices")
    paths = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    program = [sys.executable, "-c", TWO_DEVICES, str(tmp_path)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_state_goes_on_where_it_was(tmp_path: Path) -> None:
    found = held(batches_of(tmp_path))
    start = network()
    one = DeviceLearner(found, start, RECIPE, **OPTIONS)
    one.steps([found[0]], [1e-2])
    state = one.state()
    other = DeviceLearner(found, start, RECIPE, **OPTIONS)
    other.restore(state)
    assert one.steps([found[1]], [1e-2]) == pytest.approx(other.steps([found[1]], [1e-2]))


def test_a_fit_takes_several_steps_in_one_call_but_none_beyond_an_epoch(tmp_path: Path) -> None:
    class Counting:
        at_once = 3

        def __init__(self) -> None:
            self.calls: list[tuple[list[int], list[float]]] = []

        def steps(self, batches: list[int], rates: list[float]) -> list[float]:
            self.calls.append((batches, rates))
            return [float(batch) for batch in batches]

        def at_rest(self):
            from contextlib import nullcontext

            return nullcontext((np.asarray, [np.zeros(1)]))

        def state(self) -> dict[str, np.ndarray]:
            return {}

    task = FitTask(
        lambda number: number,
        lambda predict: Scores((("a", (0.5,)),)),
        RECIPE,
        (OUTER,),
        tmp_path / "checkpoint.npz",
    )
    learner = Counting()
    with show_progress(shown=False) as shown:
        done = fit(task, learner, until_s=inf, shown=shown)  # type: ignore[arg-type]
    assert [batches for batches, _ in learner.calls] == [[0, 1, 2], [3], [4]]
    rates = [rate for _, several in learner.calls for rate in several]
    assert len(set(rates)) == 5  # each step has its own rate
    assert [row["loss"] for row in done.history] == [1.5, 4]
