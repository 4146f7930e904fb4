"""Networks with other channels and labels keep what fits."""

from typing import Any

import numpy as np
import pytest

from voxtile.errors import UsageError
from voxtile.models.backend import keras
from voxtile.models.unet import build_unet
from voxtile.training.fitting.adapted import adapted as adapted_to

CONTEXT, TILES = 3, np.random.default_rng(0).random((2, 8, 8, 3, 2), np.float32)


def network(channels: int = 2, **changes: object) -> keras.Model:
    """A small network of some channels with three planes each."""
    shape = (None, None, CONTEXT * channels)
    return build_unet(shape, 3, filters=4, depth=1, normalisation="batch", **changes)  # type: ignore[arg-type]


def adapted(*arguments: Any, **options: Any) -> keras.Model:
    """Networks of this module see three planes at once."""
    return adapted_to(*arguments, **options, context_slices=CONTEXT)


def shown(*parts: np.ndarray) -> np.ndarray:
    """Tiles of some channels, each with its planes."""
    return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize("skip_first", [True, False])
def test_channels_keep_their_weights_in_any_order(skip_first: bool) -> None:
    start = network(skip_first=skip_first)
    one, other = TILES[..., 0], TILES[..., 1]
    swapped = adapted(start, (("a", "b"), ("b", "a")), 3, "softmax", new_last=False)
    np.testing.assert_allclose(
        swapped.predict(shown(other, one), verbose=0),
        start.predict(shown(one, other), verbose=0),
        atol=1e-6,
    )


def test_a_new_channel_of_zeros_changes_nothing_and_one_left_out_counts_as_zeros() -> None:
    start, one, zeros = network(1), TILES[..., 0], np.zeros_like(TILES[..., 0])
    more = adapted(start, (("a",), ("new", "a")), 3, "softmax", new_last=False)
    less = adapted(more, (("new", "a"), ("a",)), 3, "softmax", new_last=False)
    expected = start.predict(one, verbose=0)
    for same in (more.predict(shown(zeros, one), verbose=0), less.predict(one, verbose=0)):
        np.testing.assert_allclose(same, expected, atol=1e-6)
    kernel = more.get_layer("down1_conv_a").get_weights()[0]
    np.testing.assert_array_equal(kernel[:, :, :3], kernel[:, :, 3:])


def test_channels_with_the_position_keep_their_weights() -> None:
    start = build_unet((None, None, CONTEXT + 3), 3, filters=4, depth=1)
    more = adapted(start, (("a",), ("new", "a")), 3, "softmax", new_last=False)
    before, after = (one.get_layer("down1_conv_a").get_weights()[0] for one in (start, more))
    assert more.input_shape[-1] == 2 * CONTEXT + 3
    for planes in (slice(CONTEXT), slice(CONTEXT, 2 * CONTEXT)):
        np.testing.assert_array_equal(after[:, :, planes], before[:, :, :CONTEXT])
    np.testing.assert_array_equal(after[:, :, -3:], before[:, :, -3:])


def test_other_labels_keep_all_but_the_last_layer() -> None:
    start = network()
    before = [weights.copy() for weights in start.get_weights()]
    new = adapted(start, (("a", "b"), ("a", "b")), 1, "sigmoid", new_last=True)
    assert new.output_shape[-1] == 1
    assert new.layers[-1].activation is keras.activations.sigmoid
    for layer in start.layers:
        if layer.name != "logits":
            for now, then in zip(
                new.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True
            ):
                np.testing.assert_array_equal(now, then)
    for now, then in zip(start.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_network_of_another_program_is_refused() -> None:
    inputs = keras.Input((8, 8, 1))
    foreign = keras.Model(inputs, keras.layers.Conv2D(2, 1, name="head")(inputs))
    with pytest.raises(UsageError, match="were not made by voxtile"):
        adapted(foreign, (("a",), ("b",)), 2, "softmax", new_last=False)
