"""Everything on a device gives the label values of the processor's path, on any Keras backend.

On a machine without a GPU the device is the processor: `KERAS_BACKEND=jax` (torch, tensorflow)
tests the same stages with each backend.
"""

from functools import lru_cache

import numpy as np
import pytest
from phantoms import LABELS, ball, make_spec

from voxtile.engines.device import Device
from voxtile.engines.device_stages import Layout, with_range
from voxtile.engines.engine import Engine
from voxtile.engines.keras_engine import KerasNetwork
from voxtile.errors import CaseError
from voxtile.inference.entropy import EntropyWatch
from voxtile.inference.infer import Member, infer_together
from voxtile.inference.on_device import DeviceLine
from voxtile.inference.segmenter import Segmenter, _device_line
from voxtile.models.backend_name import backend_name
from voxtile.models.spec import Background, Label, Network
from voxtile.models.unet import build_unet
from voxtile.preparation.plan import PlanWish, make_plan
from voxtile.volume import Volume

REGIONS = (
    Label(value=2, name="whole", color="#00ff00", region=(2, 300)),
    Label(value=300, name="core", color="#ff0000"),
)


class Processor(Device):
    """The processor as a device, which compiles a network only once for all tests."""

    network = lru_cache(Device.network)


@lru_cache
def processor() -> Processor:
    return Processor("cpu")


@lru_cache
def network(channels: int, classes: int, seed: int = 0, activation: str | None = None):
    """A network that nobody fitted; each class has its share of noise."""
    import keras

    shape = (None, None, channels)
    model = build_unet(
        shape, classes, filters=4, depth=1, normalisation="batch", activation=activation
    )
    # The same weights with every backend, each of which has random numbers of its own.
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.get_weights() and layer.get_weights()[0].ndim == 4:
            kernel, *bias = layer.get_weights()
            spread = np.sqrt(2 / np.prod(kernel.shape[:3]))
            layer.set_weights([rng.normal(0, spread, kernel.shape), *bias])
    logits = model.get_layer("logits")
    kernel, bias = logits.get_weights()
    tiles = rng.normal(0, 0.7, (1, 16, 16, channels)).astype(np.float32)
    found = keras.Model(model.input, logits.output).predict_on_batch(tiles)
    logits.set_weights([kernel, bias - np.median(found, axis=(0, 1, 2))])
    return model


def noise(shape=(24, 20, 13), axes="RAS", dtype="int16", seed=0, scale=100) -> Volume:
    """A scan of noise around a ball."""
    volume, _ = ball(shape, axes=axes)
    rng = np.random.default_rng(seed)
    array = (np.asarray(volume.array) + rng.normal(0, 0.5, volume.shape) * scale).clip(0)
    return volume.with_array(np.asfortranarray(array.astype(dtype)))


def served(*views: str, weight: float = 1.0, file: str = "n.keras") -> Network:
    return Network(file=file, sha256="0" * 64, views=views, weight=weight)


def member_of(wish: PlanWish | None = None, seed: int = 0, **changes) -> tuple[Member, list]:
    """A member with networks for the processor, and the same for a device."""
    spec = make_spec(**{"intensity": {"method": "zscore"}, "multiple": 2, **changes})
    models = [
        network(spec.input_channels, spec.output_channels, seed + index, spec.activation)
        for index in range(len(spec.networks))
    ]
    networks = tuple(KerasNetwork(model, processor()) for model in models)
    return Member(spec, networks, make_plan(spec, wish)), models


def assert_same(volume: Volume, *members: tuple[Member, list], fallbacks=None) -> DeviceLine:
    """Hold the device's label values and entropy against the processor's."""
    spec = members[0][0].spec
    watches = [EntropyWatch(spec.activation, spec.thresholds) for _ in range(2)]
    expected = infer_together(volume, [member for member, _ in members], watches[0])
    line = DeviceLine(
        [member for member, _ in members],
        [models for _, models in members],
        processor(),
        fallbacks=fallbacks,
    )
    mask = line(volume, watches[1])
    assert mask.array.dtype == expected.array.dtype
    assert len(np.unique(expected.array)) > 1
    assert (mask.array == expected.array).mean() >= 0.9999
    assert watches[1].mean == pytest.approx(watches[0].mean, rel=1e-4)
    assert watches[1].expected_dice == pytest.approx(watches[0].expected_dice, rel=1e-3)
    return line


@pytest.mark.parametrize(
    ("axes", "view"),
    [("RAS", "sagittal"), ("LPS", "coronal"), ("PIL", "sagittal"), ("SAR", "axial")],
)
def test_labels_agree_in_every_orientation_and_view(axes, view) -> None:
    assert_same(noise(axes=axes), member_of(networks=(served(view),)))


@pytest.mark.parametrize("dtype", ["uint8", ">i2", "uint16", "float64"])
def test_labels_agree_for_every_type_that_a_scan_is_stored_in(dtype) -> None:
    assert_same(noise(dtype=dtype), member_of())


def test_a_large_offset_is_scaled_in_float64_before_it_is_sent() -> None:
    volume = noise(dtype="int32")
    far = volume.with_array(volume.array + np.int32(2**29))
    members = member_of(background=Background(at_most=2**29 + 20))
    assert_same(far, members)


@pytest.mark.parametrize(
    ("context", "spacing"), [(3, None), (1, (0.7, 0.9, 1.0)), (5, (2.9, 2.6, 2.5))]
)
def test_labels_agree_with_neighbours_and_at_any_spacing(context, spacing) -> None:
    assert_same(noise(), member_of(context_slices=context, spacing_mm=spacing))


@pytest.mark.parametrize("spacing", [None, (0.7, 0.9, 1.0)])
@pytest.mark.parametrize("tile", [(8, 8), (40, 36)])
def test_labels_agree_where_networks_see_positions(tile, spacing) -> None:
    changes = {"context_slices": 3, "position": True, "tile": tile, "spacing_mm": spacing}
    assert_same(noise(), member_of(PlanWish(flips=("R",)), **changes))


@pytest.mark.parametrize(
    ("tile", "weighting"), [((8, 8), "gaussian"), ((16, 8), "constant"), ((40, 36), "gaussian")]
)
def test_labels_agree_for_tiles_smaller_and_larger_than_a_plane(tile, weighting) -> None:
    assert_same(noise(), member_of(PlanWish(tile=tile), weighting=weighting))


def test_labels_agree_for_mirrored_tiles_and_several_networks() -> None:
    networks = (served("axial", weight=3.0), served("axial", file="m.keras"))
    assert_same(noise(), member_of(PlanWish(flips=("R", "A")), networks=networks))


def test_labels_agree_where_tiles_hold_only_background() -> None:
    volume = noise()
    array = np.array(volume.array)
    array[12:] = 0
    for spacing, context in ((None, 1), ((0.7, 0.9, 1.0), 3)):
        member = member_of(
            PlanWish(tile=(8, 8)),
            background=Background(at_most=0.0),
            spacing_mm=spacing,
            context_slices=context,
        )
        assert_same(volume.with_array(array), member)


def test_labels_agree_for_overlapping_regions_of_large_values() -> None:
    assert_same(noise(), member_of(labels=REGIONS, activation="sigmoid", thresholds=(0.5, 0.47)))


def test_labels_agree_for_values_that_are_not_in_order() -> None:
    labels = tuple(Label(value=value, name=f"{value}", color="#00ff00") for value in (9, 4, 255))
    assert_same(noise(), member_of(labels=labels))


@pytest.mark.parametrize(
    "changes",
    [
        {"crop": "nonzero", "orientation": "LSA", "padding": "zero", "tile": (28, 28)},
        {"orientation": "stored", "resampling": "spline", "spacing_mm": (0.9, 1.7, 1.0)},
        {"intensity": {"method": "foreground"}, "weighting": "gaussian_nnunet"},
        {"intensity": {"method": "clahe"}},
    ],
)
def test_labels_agree_for_what_networks_of_other_programs_see(changes) -> None:
    volume = noise(axes="PLS")
    array = np.array(volume.array)
    array[:3], array[:, -4:] = 0, 0
    assert_same(volume.with_array(array), member_of(**changes))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_labels_agree_where_logits_are_averaged(activation) -> None:
    # The outputs of the test's network, 0 to 1, are taken for logits.
    entry = served("axial").model_copy(update={"output": "logits"})
    member = member_of(
        PlanWish(tile=(8, 8), flips=("A",)),
        average="logits",
        networks=(entry,),
        activation=activation,
        thresholds=(0.62,) if activation == "sigmoid" else (),
        background=Background(at_most=0.0),
    )
    assert_same(noise(), member)


def test_labels_agree_for_several_channels() -> None:
    volumes = [noise(seed=seed) for seed in (1, 2)]
    volume = volumes[0].with_array(np.stack([one.array for one in volumes], axis=-1))
    assert_same(volume, member_of(channels=("t1", "flair"), context_slices=3))


@pytest.mark.parametrize("axes", ["RAS", "PIL"])
def test_labels_agree_for_several_views_and_models(axes) -> None:
    three = tuple(served(view, file=f"{view}.keras") for view in ("axial", "coronal", "sagittal"))
    member = member_of(networks=three)
    other = member_of(seed=7, spacing_mm=(0.9, 1.1, 1.3), networks=(served("coronal"),))
    assert_same(noise(axes=axes), member)
    assert_same(noise(axes=axes), member, other)
    assert_same(noise(axes=axes), member_of(), member_of(seed=7, context_slices=3))


def test_only_label_values_and_few_numbers_come_back(monkeypatch) -> None:
    fetched = []
    fetch = Device.fetch

    def counted(self, tensor):
        fetched.append(int(np.prod(tensor.shape)) * np.dtype(np.uint8).itemsize)
        return fetch(self, tensor)

    monkeypatch.setattr(Device, "fetch", counted)
    volume = noise()
    assert_same(volume, member_of(PlanWish(batch=13)))
    assert sum(fetched) <= np.prod(volume.shape) + 13 * (3 + 3 * len(LABELS) + 2)


def test_blocks_are_sent_before_the_labels_of_earlier_ones_are_awaited(monkeypatch) -> None:
    order = []
    send, fetch = Device.send, Device.fetch

    def sent(self, array):
        if array.size > 200:
            order.append("sent")
        return send(self, array)

    def fetching(self, tensor):
        wait = fetch(self, tensor)

        def awaited():
            if len(tensor.shape) == 3:
                order.append("awaited")
            return wait()

        return awaited

    monkeypatch.setattr(Device, "send", sent)
    monkeypatch.setattr(Device, "fetch", fetching)
    assert_same(noise(), member_of(PlanWish(tile=(24, 20), batch=2)))
    assert order.index("awaited") >= 3
    assert order.count("awaited") == 7


def short_of(line: DeviceLine, most: int) -> None:
    """Give a line's networks memory for a few tiles."""

    def limited(run):
        def answer(tiles):
            if tiles.shape[0] > most:
                raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return run(tiles)

        return answer

    line.networks = [[limited(run) for run in each] for each in line.networks]


@pytest.mark.parametrize("views", [("axial",), ("axial", "coronal")])
def test_where_memory_runs_out_fewer_tiles_are_judged_at_once(views) -> None:
    fallbacks = {}
    networks = tuple(served(view, file=f"{view}.keras") for view in views)
    member = member_of(PlanWish(batch=8), networks=networks)
    line = assert_same(noise(), member, fallbacks=fallbacks)
    assert fallbacks == {}
    expected = line(noise()).array
    short_of(line, 2)
    np.testing.assert_array_equal(line(noise()).array, expected)
    assert list(fallbacks) == ["batch_halved"]


def test_where_a_single_tile_does_not_fit_the_other_path_is_taken() -> None:
    member, models = member_of()
    line = DeviceLine([member], [models], processor())
    short_of(line, 0)
    entropy = EntropyWatch("softmax")
    assert line(noise(), entropy) is None
    assert entropy.mean is None
    mask = Segmenter((member,), line=line)(noise(), entropy)
    np.testing.assert_array_equal(mask.array, infer_together(noise(), [member]).array)


def test_a_worker_with_less_memory_also_plans_with_less_of_the_device() -> None:
    for memory_mb, expected in ((1000.0, 1e9), (1e6, 3e9)):
        member, _ = member_of(PlanWish(memory_mb=memory_mb))
        line = _device_line([member], [member.models], Engine("keras"), {})
        assert line is not None and line._memory == expected


def giving(function):
    """A function as the network of a line."""
    return lambda tiles: with_range(function(tiles))


@pytest.mark.parametrize("views", [("axial",), ("axial", "sagittal")])
def test_a_network_that_gives_logits_fails_the_case(views) -> None:
    import keras

    networks = tuple(served(view, file=f"{view}.keras") for view in views)
    member, models = member_of(PlanWish(flips=("R",)), networks=networks)
    line = DeviceLine([member], [models], processor())
    logits = giving(lambda tiles: keras.ops.concatenate([tiles * 0 - 1, tiles * 0 + 2], -1))
    line.networks = [[logits, *line.networks[0][1:]]]
    with pytest.raises(CaseError, match="values from -1 to 2; probabilities from 0 to 1"):
        line(noise())


def test_what_a_network_gives_for_tiles_of_background_alone_does_not_count() -> None:
    import keras

    member, models = member_of(PlanWish(tile=(8, 8)), background=Background(at_most=0.0))
    volume = noise()
    array = np.array(volume.array)
    array[12:] = 0
    line = DeviceLine([member], [models], processor())
    (usual,) = line.networks[0]

    def faulty(tiles):
        answer, _ = usual(tiles)
        empty = keras.ops.max(tiles, axis=(1, 2, 3), keepdims=True) <= keras.ops.min(tiles)
        return with_range(keras.ops.where(empty, 7.0, answer))

    expected = line(volume.with_array(array)).array
    line.networks = [[faulty]]
    np.testing.assert_array_equal(line(volume.with_array(array)).array, expected)


def test_a_network_that_raises_an_error_fails_the_case() -> None:
    member, models = member_of()
    line = DeviceLine([member], [models], processor())

    def failing(tiles):
        raise ValueError("a Concatenate layer requires inputs with matching shapes")

    line.networks = [[failing]]
    with pytest.raises(CaseError, match="raised ValueError: a Concatenate layer requires"):
        line(noise())


def test_probabilities_that_are_no_numbers_fail_the_case() -> None:
    import keras

    for views in (("axial",), ("axial", "sagittal")):
        networks = tuple(served(view, file=f"{view}.keras") for view in views)
        member, models = member_of(networks=networks)
        line = DeviceLine([member], [models], processor())
        line.networks = [[giving(lambda tiles: keras.ops.zeros((*tiles.shape[:3], 2)) / 0.0)]]
        line.networks[0] *= len(views)
        with pytest.raises(CaseError, match="NaN or infinite probabilities"):
            line(noise())


def test_the_network_can_be_called_by_itself_between_two_volumes() -> None:
    member, models = member_of()
    line = DeviceLine([member], [models], processor())
    expected = line(noise()).array
    member.models[0](np.zeros((2, 16, 16, 1), np.float32))
    np.testing.assert_array_equal(line(noise()).array, expected)


def test_a_watch_that_wants_probabilities_gets_them_from_the_other_path() -> None:
    member, models = member_of()
    segmenter = Segmenter((member,), line=DeviceLine([member], [models], processor()))
    seen = []

    def watch(planes):
        for plane in planes:
            seen.append(plane.shape)
            yield plane

    segmenter(noise(), watch)
    assert len(seen) == 13


@pytest.mark.skipif(backend_name() != "torch", reason="for the compiler of PyTorch")
def test_pytorch_compiles_the_operations_of_a_network_once_for_each_shape(monkeypatch) -> None:
    import torch

    compiled = []
    monkeypatch.setattr(torch, "compile", lambda graph, **_: compiled.append(graph) or graph)
    member, (model,) = member_of()
    device = Device("cpu")
    run = device.compiled(device._traced(lambda tiles: with_range(model(tiles, training=False))))
    for count in (1, 3, 1):
        tiles = np.random.default_rng(count).random((count, 16, 16, 1), np.float32)
        answer, found = run(device.send(tiles))
        np.testing.assert_allclose(device.fetch(answer)(), member.models[0](tiles), atol=1e-6)
        assert device.fetch(found)().shape == (count, 2)
    assert len(compiled) == 2
    assert all("conv" in graph.code for graph in compiled)


def test_a_layout_brings_planes_to_memory_order_and_back() -> None:
    import keras

    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    for planes in (array, array.T, array[:, ::-1].transpose(2, 0, 1), array[::-1, :, ::-1]):
        layout = Layout.of(planes)
        stored = np.ascontiguousarray(layout.stored(planes))
        back = layout.planes(keras.ops.convert_to_tensor(stored))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(back), planes)
        there = layout.back(keras.ops.convert_to_tensor(np.array(planes)))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(there), stored)
