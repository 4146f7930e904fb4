"""Layers are grouped by their place in the network, whatever they are called."""

import pytest

from voxtile.engines.layer_groups import layer_groups
from voxtile.engines.translated import ensure

openvino_engine = pytest.importorskip("voxtile.engines.openvino_engine")


def test_a_u_net_has_its_levels_a_bottleneck_and_a_head(bundle) -> None:
    (network,) = bundle.spec.networks
    model = openvino_engine.read(ensure(bundle, network))
    groups = layer_groups(model, (1, 32, 48, 3))
    assert {name: len(layers) for name, layers in groups.items()} == {
        "encoder level 1": 2,
        "encoder level 2": 2,
        "bottleneck": 2,
        "decoder level 2": 3,
        "decoder level 1": 3,
        "head": 1,
    }
    names = [name for layers in groups.values() for name in layers]
    assert len(set(names)) == len(names)
    assert model.input(0).partial_shape.is_dynamic  # the model itself is not changed


@pytest.mark.parametrize("layers", [1, 3])
def test_a_network_of_one_level_has_a_head_if_it_has_more_than_one_layer(layers: int) -> None:
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    node = start = ops.parameter([1, 2, 8, 8], np.float32)
    for _ in range(layers):
        weights = np.ones((2, 2, 1, 1), np.float32)
        node = ops.convolution(node, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    groups = layer_groups(ov.Model([node], [start], "flat"), (1, 2, 8, 8))
    expected = {"bottleneck": 1} if layers == 1 else {"bottleneck": layers - 1, "head": 1}
    assert {name: len(found) for name, found in groups.items()} == expected
