"""The shape of every array of a Keras network, computed from its configuration alone.

The formulas are those of Keras 3.15 (keras/src/layers, keras/src/ops/operation_utils.py). A
`ValueError` says which layer has a value that no valid network has.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# (tiles, rows, columns, channels); None for any size.
Shape = tuple[int | None, ...]
# A shape as the file names it, and the same shape for one tile.
_Pair = tuple[Shape, Shape]

_MOST_LAYERS = 5000
_MOST_PARAMETERS = 2 * 10**9
_MOST_CHANNELS = 65536
_LARGEST_TILE = 8192
_LARGEST_PAD = 8192
_LARGEST_FACTOR = 1024
_DEEPEST = 8


def layer_sizes(
    config: Any, tile: tuple[int, int], channels: int
) -> tuple[list[tuple[str, Sequence[int]]], int]:
    """Return the shapes of the outputs of all layers for one tile, and the number of weights.

    `config` is the content of ``config.json``; `tile` (rows, columns) and `channels` replace sizes
    that are not fixed. ValueError if a value is not possible.
    """
    arrays: list[tuple[str, Sequence[int]]] = []
    weights = _network(_dict(config, "config.json"), None, (1, *tile, channels), arrays, 0)[1]
    return arrays, weights


def _network(
    config: dict[str, Any],
    given: list[_Pair] | None,
    tile: tuple[int, ...],
    arrays: list[tuple[str, Sequence[int]]],
    depth: int,
) -> tuple[list[_Pair], int]:
    """Return the outputs of a network, and the number of its weights."""
    if depth > _DEEPEST or config.get("class_name") != "Functional":
        raise ValueError("it must be a functional Keras network, not nested more than 8 times")
    inner = _dict(config.get("config"), "the network")
    layers = _list(inner.get("layers"), "layers")
    if len(layers) > _MOST_LAYERS:
        raise ValueError(f"it has {len(layers)} layers; at most {_MOST_LAYERS} are allowed")
    outputs: dict[str, list[_Pair]] = {}
    taken = iter(given or [])
    weights = 0
    altered = ""
    for entry in layers:
        layer = _dict(entry, "a layer")
        settings = _dict(layer.get("config"), "a layer")
        name = settings.get("name")
        if not isinstance(name, str) or name in outputs:
            raise ValueError("its layers must have different names")
        try:
            if layer.get("class_name") == "InputLayer":
                outputs[name] = [next(taken, None) or _input(settings, tile)]
            else:
                nodes = _list(layer.get("inbound_nodes"), "inbound_nodes")
                if not nodes:
                    raise ValueError("it has no input")
                made: list[_Pair] = []
                for number, node in enumerate(nodes):
                    inputs = [
                        _nth(outputs, source) for source in _sources(_dict(node, "a node"), 0)
                    ]
                    if not inputs:
                        raise ValueError("it has no input")
                    found, own = _layer(layer, settings, inputs, tile, arrays, depth)
                    made += found
                    if number:  # the same layer is called again
                        continue
                    weights += own
                    if weights > _MOST_PARAMETERS:
                        raise ValueError(
                            f"the network would have {weights:.2g} parameters; at most "
                            f"{_MOST_PARAMETERS:.2g} are allowed"
                        )
                    # This error waits: an absurd size, if there is one, is the better message.
                    altered = altered or _altered(name, layer.get("build_config"), inputs)
                outputs[name] = made
        except (TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
            raise ValueError(f"layer {name[:60]!r} has a value of a wrong type") from error
        except ValueError as error:
            if str(error).startswith("layer "):
                raise
            raise ValueError(f"layer {name[:60]!r}: {error}") from error
        for _, shape in outputs[name]:
            arrays.append((name, [size or 1 for size in shape]))
    if altered:
        raise ValueError(altered)
    last = inner.get("output_layers")
    return [_nth(outputs, source) for source in _histories(last)], weights


def _input(settings: dict[str, Any], tile: tuple[int, ...]) -> _Pair:
    """Return the shape that an input layer names, and the shape for one tile."""
    named = settings.get("batch_shape") or settings.get("batch_input_shape")
    shape = _list(named, "batch_shape")
    if len(shape) != 4:
        raise ValueError("its shape must have four axes: tiles, rows, columns, channels")
    for size in shape:
        if size is not None:
            _whole(size, 1, _LARGEST_TILE, "batch_shape")
    if shape[3] is None and shape[1] is not None:  # channels first
        tile = (tile[0], tile[3], tile[1], tile[2])
    fixed = tuple(
        instead if size is None else size for size, instead in zip(shape, tile, strict=True)
    )
    return tuple(shape), (1, *fixed[1:])


def _altered(name: str, build: Any, inputs: list[_Pair]) -> str:
    """Say how build_config, by which Keras allocates weights, differs from the inputs' shapes."""
    if not build or build == {"input_shape": None}:  # the latter for a network inside a network
        return ""
    named = _dict(build, "build_config")
    shapes = _list(named.get("input_shape"), "input_shape")
    if not shapes or not isinstance(shapes[0], list):
        shapes = [shapes]
    expected = [list(shape) for shape, _ in inputs]
    if set(named) != {"input_shape"} or [_list(one, "a shape")[1:] for one in shapes] != [
        one[1:] for one in expected
    ]:
        return (
            f"layer {name[:60]!r}: its build_config {str(named)[:100]} does not fit its input of "
            f"shape {str(expected)[:100]}"
        )
    return ""


def _layer(
    layer: dict[str, Any],
    settings: dict[str, Any],
    inputs: list[_Pair],
    tile: tuple[int, ...],
    arrays: list[tuple[str, Sequence[int]]],
    depth: int,
) -> tuple[list[_Pair], int]:
    """Return the outputs of a layer, and the number of its weights."""
    kind = str(layer["class_name"])
    if kind == "Functional":
        return _network(layer, inputs, tile, arrays, depth + 1)
    if kind in _MERGING:
        merged = _MERGING[kind]
        parts = [shape for shape, _ in inputs], [shape for _, shape in inputs]
        return [(merged(settings, parts[0]), merged(settings, parts[1]))], 0
    if len(inputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs; one was needed")
    named, actual = inputs[0]
    if len(actual) != 4:
        raise ValueError("its input must have four axes")
    resize, weights = _KINDS[kind]
    count = weights(settings, actual, named)
    return [(resize(settings, named), resize(settings, actual))], count


def _spatial(settings: dict[str, Any]) -> tuple[int, int, int]:
    """Return the axes of rows, columns and channels."""
    form = settings.get("data_format") or "channels_last"
    if form not in ("channels_last", "channels_first"):
        raise ValueError("data_format must be channels_last or channels_first")
    return (1, 2, 3) if form == "channels_last" else (2, 3, 1)


def _moved(
    settings: dict[str, Any],
    shape: Shape,
    size: Callable[[int, int], int],
    channels: int | None = None,
) -> Shape:
    """Return a shape with new rows and columns, from size(length, 0 or 1), and new channels."""
    rows, columns, last = _spatial(settings)
    moved = list(shape)
    for index, axis in enumerate((rows, columns)):
        length = shape[axis]
        if length is not None:
            moved[axis] = size(length, index)
            if moved[axis] < 1:  # type: ignore[operator]
                raise ValueError("its output would be empty")
    if channels is not None:
        moved[last] = channels
    return tuple(moved)


def _windowed(settings: dict[str, Any], shape: Shape, channels: int | None = None) -> Shape:
    """Return the output of a convolution or pooling."""
    pooling = "pool_size" in settings
    kernel = _pair(settings["pool_size" if pooling else "kernel_size"], 1, _LARGEST_FACTOR)
    strides = _pair(settings.get("strides") or (kernel if pooling else 1), 1, _LARGEST_FACTOR)
    dilation = _pair(settings.get("dilation_rate") or 1, 1, _LARGEST_FACTOR)
    same = _padding(settings)

    def size(length: int, index: int) -> int:
        reach = dilation[index] * (kernel[index] - 1) + 1
        return -(-(length if same else length - reach + 1) // strides[index])

    return _moved(settings, shape, size, channels)


def _transposed(settings: dict[str, Any], shape: Shape) -> Shape:
    """Return the output of a transposed convolution."""
    kernel = _pair(settings["kernel_size"], 1, _LARGEST_FACTOR)
    strides = _pair(settings.get("strides") or 1, 1, _LARGEST_FACTOR)
    dilation = _pair(settings.get("dilation_rate") or 1, 1, _LARGEST_FACTOR)
    extra = settings.get("output_padding")
    added = None if extra is None else _pair(extra, 0, _LARGEST_FACTOR)
    same = _padding(settings)

    def size(length: int, index: int) -> int:
        reach = dilation[index] * (kernel[index] - 1) + 1
        if added is None:
            more = 0 if same else max(reach - strides[index], 0)
            return length * strides[index] + more
        return (
            (length - 1) * strides[index] + reach + added[index] - (2 * (reach // 2) if same else 0)
        )

    return _moved(settings, shape, size, _filters(settings))


def _scaled(settings: dict[str, Any], shape: Shape) -> Shape:
    """Return the output of an upsampling."""
    factors = _pair(settings["size"], 1, _LARGEST_FACTOR)
    return _moved(settings, shape, lambda length, index: length * factors[index])


def _bordered(settings: dict[str, Any], shape: Shape) -> Shape:
    """Return the output of a padding or a cropping."""
    sign = 1 if "padding" in settings else -1
    value = settings["padding" if sign == 1 else "cropping"]
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2:
        raise ValueError("padding must have two numbers or two pairs")
    sums = [sum(_pair(side, 0, _LARGEST_PAD)) for side in sides]  # one number is for both sides
    return _moved(settings, shape, lambda length, index: length + sign * sums[index])


def _same(_: dict[str, Any], shape: Shape) -> Shape:
    """Return the output of a layer that changes no size."""
    return shape


def _convolved(settings: dict[str, Any], shape: Shape) -> Shape:
    return _windowed(settings, shape, _filters(settings))


def _deepened(settings: dict[str, Any], shape: Shape) -> Shape:
    width = _channels(settings, shape) * _multiplier(settings)
    return _windowed(settings, shape, _whole(width, 1, 10**9, "its channels"))


def _no_weights(*_: Any) -> int:
    return 0


def _of_conv(settings: dict[str, Any], shape: Shape, _: Shape) -> int:
    """Return the number of weights of a convolution, transposed or not."""
    width = _filters(settings)
    groups = _whole(settings.get("groups", 1), 1, _MOST_CHANNELS, "groups")
    area = math.prod(_pair(settings["kernel_size"], 1, _LARGEST_FACTOR))
    return area * _channels(settings, shape) * width // groups + _bias(settings) * width


def _of_depthwise(settings: dict[str, Any], shape: Shape, _: Shape) -> int:
    width = _channels(settings, shape) * _multiplier(settings)
    area = math.prod(_pair(settings["kernel_size"], 1, _LARGEST_FACTOR))
    return area * width + _bias(settings) * width


def _of_separable(settings: dict[str, Any], shape: Shape, _: Shape) -> int:
    middle = _channels(settings, shape) * _multiplier(settings)
    width = _filters(settings)
    area = math.prod(_pair(settings["kernel_size"], 1, _LARGEST_FACTOR))
    return area * middle + middle * width + _bias(settings) * width


def _of_normalisation(settings: dict[str, Any], shape: Shape, named: Shape) -> int:
    """Return the number of weights of a normalisation, which has weights for some axes."""
    axis = settings.get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    size = 1
    for one in axes:
        size *= _fixed(named[_whole(one, -4, 3, "axis")])
    moments = 2 if "momentum" in settings else 0
    return size * (moments + bool(settings.get("center", 1)) + bool(settings.get("scale", 1)))


def _of_prelu(settings: dict[str, Any], _: Shape, named: Shape) -> int:
    """Return the number of weights of a PReLU: one per position, except along shared axes."""
    shared = settings.get("shared_axes") or []
    alone = [axis for axis in (1, 2, 3) if axis not in _list(shared, "shared_axes")]
    return math.prod(_fixed(named[axis]) for axis in alone)


def _concatenated(settings: dict[str, Any], shapes: list[Shape]) -> Shape:
    axis = _whole(settings.get("axis", -1), -3, 3, "axis") % 4
    if axis == 0 or any(len(shape) != 4 for shape in shapes):
        raise ValueError("only rows, columns or channels can be concatenated")
    sizes = [shape[axis] for shape in shapes]
    whole = None if None in sizes else sum(size or 0 for size in sizes)
    return (*shapes[0][:axis], whole, *shapes[0][axis + 1 :])


def _broadcast(_: dict[str, Any], shapes: list[Shape]) -> Shape:
    if any(len(shape) != 4 for shape in shapes):
        raise ValueError("its inputs must have four axes")
    return tuple(
        None if None in sizes else max(size or 0 for size in sizes)
        for sizes in zip(*shapes, strict=True)
    )


_MERGING = {
    "Add": _broadcast,
    "Average": _broadcast,
    "Multiply": _broadcast,
    "Concatenate": _concatenated,
}
# How a layer changes shapes, and how many weights it has.
_KINDS: dict[str, tuple[Callable[..., Shape], Callable[..., int]]] = {
    **dict.fromkeys(
        ("Activation", "Dropout", "ELU", "LeakyReLU", "ReLU", "Rescaling", "Softmax"),
        (_same, _no_weights),
    ),
    "SpatialDropout2D": (_same, _no_weights),
    "PReLU": (_same, _of_prelu),
    **dict.fromkeys(
        ("BatchNormalization", "GroupNormalization", "LayerNormalization"),
        (_same, _of_normalisation),
    ),
    "Conv2D": (_convolved, _of_conv),
    "Conv2DTranspose": (_transposed, _of_conv),
    "DepthwiseConv2D": (_deepened, _of_depthwise),
    "SeparableConv2D": (_convolved, _of_separable),
    "AveragePooling2D": (_windowed, _no_weights),
    "MaxPooling2D": (_windowed, _no_weights),
    "UpSampling2D": (_scaled, _no_weights),
    "ZeroPadding2D": (_bordered, _no_weights),
    "Cropping2D": (_bordered, _no_weights),
}


def _filters(settings: dict[str, Any]) -> int:
    return _whole(settings["filters"], 1, 10**9, "filters")


def _multiplier(settings: dict[str, Any]) -> int:
    return _whole(settings.get("depth_multiplier", 1), 1, _MOST_CHANNELS, "depth_multiplier")


def _channels(settings: dict[str, Any], shape: Shape) -> int:
    return _fixed(shape[_spatial(settings)[2]])


def _bias(settings: dict[str, Any]) -> int:
    return int(bool(settings.get("use_bias", True)))


def _padding(settings: dict[str, Any]) -> bool:
    """Return whether the padding keeps the size."""
    padding = settings.get("padding", "valid")
    if padding not in ("same", "valid"):
        raise ValueError("padding must be same or valid")
    return bool(padding == "same")


def _fixed(size: int | None) -> int:
    if size is None:
        raise ValueError("its weights would depend on the size of a tile")
    return size


def _pair(value: Any, low: int, high: int) -> tuple[int, int]:
    """Return a pair; a single number is used for both."""
    numbers = value if isinstance(value, list | tuple) else (value, value)
    if len(numbers) != 2:
        raise ValueError("a size must be one or two whole numbers")
    return _whole(numbers[0], low, high, "a size"), _whole(numbers[1], low, high, "a size")


def _whole(value: Any, low: int, high: int, what: str) -> int:
    """Return a whole number in a range."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(
            f"{what} is {str(value)[:40]}; a whole number from {low} to {high} was needed"
        )
    return value


def _dict(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} must be a list")
    return value


def _sources(value: Any, depth: int) -> Iterator[list[Any]]:
    """Yield the history of each tensor in the arguments of a call."""
    if depth > _DEEPEST:
        raise ValueError("its inputs are nested too deeply")
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield _list(
                _dict(value.get("config"), "a tensor").get("keras_history"), "keras_history"
            )
            return
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _sources(inner, depth + 1)


def _histories(value: Any) -> Iterator[list[Any]]:
    """Yield the history of each output, which is one or a list of them."""
    if isinstance(value, list):
        if len(value) == 3 and isinstance(value[0], str):
            yield value
        else:
            for inner in value:
                yield from _histories(inner) if isinstance(inner, list) else ()


def _nth(outputs: dict[str, list[_Pair]], source: list[Any]) -> _Pair:
    """Return the output that a history names: layer, call, and output of the call."""
    name, call, _ = source
    if not isinstance(name, str) or name not in outputs:
        raise ValueError("its layers are not in the order of their inputs")
    found = outputs[name]
    return found[_whole(call, 0, len(found) - 1, "the call of an input")]
