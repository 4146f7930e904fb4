"""Muon: orthogonal steps for hidden kernels, those of AdamW for all other weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtile.models.backend import keras
from voxtile.training.fitting.muon import Muon, orthogonal

ADAM = {"weight_decay": 0.01, "global_clipnorm": 1.0, "use_ema": True, "ema_momentum": 0.9}
SHAPES = {"down/kernel": (3, 3, 2, 4), "up/kernel": (2, 2, 3, 6), "norm/gamma": (4,)}


def numpy(tensor) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


@settings(max_examples=40)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 12),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    exact=st.booleans(),
)
def test_singular_vectors_stay_and_singular_values_become_about_one(
    rows: int, columns: int, seed: int, scale: float, exact: bool
) -> None:
    matrix = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    scaled = keras.ops.convert_to_tensor(scale * matrix)
    other = keras.ops.ones((columns, 3))  # it is multiplied together with a matrix of its width
    found = numpy(orthogonal([scaled, other, scaled], exact=exact)[2])
    inner = left.T @ found @ right.T
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=2e-3)
    large = values > 0.05 * np.linalg.norm(values)
    assert np.diag(inner)[large].min() > 0.65
    assert np.diag(inner).max() < 1.25


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (1, 1)])
def test_it_is_the_iteration_of_keras(shape: tuple[int, int], exact: bool) -> None:
    matrix = keras.ops.convert_to_tensor(np.random.default_rng(1).normal(size=shape), "float32")
    theirs = keras.optimizers.Muon().zeropower_via_newtonschulz5(matrix, 5)
    np.testing.assert_allclose(
        numpy(orthogonal([matrix], exact=exact)[0]), numpy(theirs), atol=1e-4
    )
    (zero,) = orthogonal([keras.ops.zeros(shape)], exact=exact)
    np.testing.assert_array_equal(numpy(zero), np.zeros(shape))


def test_without_exact_products_rounded_factors_do_no_harm() -> None:
    # TF32 has 10 bits. Here a gradient has one direction, as when a network begins to learn.
    rng = np.random.default_rng(2)
    matrix = np.outer(rng.normal(size=64), rng.normal(size=16)) + 1e-4 * rng.normal(size=(64, 16))
    bits = np.frexp(matrix)
    rounded = np.ldexp(np.round(bits[0] * 2**10) / 2**10, bits[1]).astype(np.float32)
    (found,) = orthogonal([keras.ops.convert_to_tensor(rounded)], exact=False)
    assert np.abs(numpy(found)).max() < 1.25


def moved(optimizer, gradients: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The variables after steps from 1 with these gradients."""
    variables = {name: keras.Variable(np.ones(shape, np.float32)) for name, shape in SHAPES.items()}
    for name, variable in variables.items():
        variable._path = name
    optimizer.build([*variables.values()])
    for one in gradients:
        tensors = [keras.ops.convert_to_tensor(one[name]) for name in variables]
        optimizer.apply(tensors)
    return {name: numpy(variable) for name, variable in variables.items()}


def gradients(seed: int, count: int = 3) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
        for _ in range(count)
    ]


def test_kernels_of_hidden_layers_get_orthogonal_steps_and_others_those_of_adamw() -> None:
    given = gradients(3)
    ours = moved(Muon(0.1, exact=True, **ADAM), given)
    theirs = moved(keras.optimizers.AdamW(0.1, **ADAM), given)
    np.testing.assert_array_equal(ours["norm/gamma"], theirs["norm/gamma"])
    for name in ("down/kernel", "up/kernel"):
        assert np.abs(ours[name] - theirs[name]).max() > 1e-3


def test_a_step_is_as_long_as_one_of_adamw_whatever_the_gradient() -> None:
    # Liu et al. 2025: 0.2 * sqrt(larger side) makes the root mean square 0.2 for singular values 1.
    for scale in (1e-3, 1e3):
        first = [{name: scale * value for name, value in gradients(4)[0].items()}]
        after = moved(Muon(0.1, exact=True, weight_decay=0.0), first)
        for name in ("down/kernel", "up/kernel"):
            step = after[name] - 1
            assert 0.7 * 0.02 < np.sqrt((step**2).mean()) < 1.25 * 0.02
            assert (step * first[0][name]).sum() < 0


def test_many_outputs_are_made_orthogonal_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    given = gradients(6, count=1)
    monkeypatch.setattr("voxtile.training.fitting.muon._MOST_OUTPUTS", 3)
    after = moved(Muon(0.1, exact=True, weight_decay=0.0), given)
    step = 1 - after["up/kernel"].reshape(-1, 6)  # twelve rows, and parts of three columns
    gradient = given[0]["up/kernel"].reshape(-1, 6)
    for part in (slice(3), slice(3, 6)):
        (found,) = orthogonal([keras.ops.convert_to_tensor(gradient[:, part])], exact=True)
        np.testing.assert_allclose(step[:, part], 0.1 * 0.2 * 12**0.5 * numpy(found), rtol=1e-4)


def test_a_vector_of_kernels_moves_as_the_kernels_do() -> None:
    given = gradients(5)
    apart = moved(Muon(0.1, exact=True, **ADAM), given)
    names = ["down/kernel", "up/kernel"]

    def joined(values: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([values[name].ravel() for name in names])

    together = Muon(0.1, exact=True, **ADAM)
    together.pack("kernels", [SHAPES[name] for name in names])
    vector = keras.Variable(np.ones_like(joined(given[0])), name="kernels")
    other = keras.Variable(np.ones(SHAPES["norm/gamma"], np.float32), name="gamma")
    together.build([vector, other])
    for one in given:
        parts = [joined(one), one["norm/gamma"]]
        together.apply([keras.ops.convert_to_tensor(part) for part in parts])
    np.testing.assert_allclose(numpy(vector), joined(apart), rtol=1e-6)
    np.testing.assert_allclose(numpy(other), apart["norm/gamma"], rtol=1e-6)
