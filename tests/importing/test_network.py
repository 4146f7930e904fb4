"""A network of nnU-Net in Keras gives what PyTorch documents for its layers."""

import numpy as np
import pytest
from nnunet_folders import STRIDES, arrays, output

from voxtile.errors import ModelError
from voxtile.importing.network import Architecture, build_network


def built(state: dict, residual: bool, *, swapped: bool = False, tile=(16, 24)):
    channels = state["encoder.stem.convs.0.conv.weight" if residual else _FIRST].shape[1]
    shape = tile[::-1] if swapped else tile
    return build_network(state, Architecture(residual, STRIDES), shape, channels, swapped=swapped)


_FIRST = "encoder.stages.0.0.convs.0.conv.weight"


@pytest.mark.parametrize("residual", [False, True])
def test_the_logits_of_a_tile_are_those_of_pytorch(residual) -> None:
    state = arrays(residual, channels=2, classes=3)
    tile = np.random.default_rng(1).normal(0, 1, (2, 16, 24)).astype(np.float32)
    found = built(state, residual).predict_on_batch(np.moveaxis(tile, 0, 2)[np.newaxis])
    expected = output(state, tile, residual)
    np.testing.assert_allclose(np.moveaxis(found[0], 2, 0), expected, atol=2e-4)


@pytest.mark.parametrize("residual", [False, True])
def test_with_rows_and_columns_swapped_a_transposed_tile_gives_the_transposed_logits(
    residual,
) -> None:
    state = arrays(residual)
    tile = np.random.default_rng(1).normal(0, 1, (1, 16, 24, 1)).astype(np.float32)
    plain = built(state, residual).predict_on_batch(tile)
    turned = built(state, residual, swapped=True).predict_on_batch(tile.swapaxes(1, 2))
    np.testing.assert_allclose(turned.swapaxes(1, 2), plain, atol=1e-4)


def test_arrays_that_a_network_does_not_have_are_refused() -> None:
    state = arrays(False)
    more = {**state, "encoder.stages.0.0.convs.0.norm.running_mean": np.zeros(3, np.float32)}
    with pytest.raises(ModelError, match="running_mean and 0 more arrays that its plans do not"):
        built(more, False)
    fewer = {name: array for name, array in state.items() if name != "decoder.transpconvs.1.weight"}
    with pytest.raises(ModelError, match=r"no array decoder\.transpconvs.*; its plans"):
        built(fewer, False)
    wrong = {**state, _FIRST: np.zeros((3, 1, 3, 3, 3), np.float32)}
    with pytest.raises(ModelError, match="only 2D networks"):
        built(wrong, False)
    even = {**state, _FIRST: np.zeros((3, 1, 2, 2), np.float32)}
    with pytest.raises(ModelError, match="only odd sizes"):
        built(even, False)
    narrow = {**state, "encoder.stages.0.0.convs.0.norm.bias": np.zeros(2, np.float32)}
    with pytest.raises(ModelError, match="do not fit the layers before it"):
        built(narrow, False)


def test_a_tile_that_does_not_go_through_the_strides_is_refused() -> None:
    with pytest.raises(ModelError, match="does not go through strides"):
        built(arrays(False), False, tile=(17, 24))
