"""The shape of every array of an ``.onnx`` network, computed without running it.

onnx infers most shapes. Some networks compute the size of an array in the graph
(Shape, Gather, Mul, ..., Resize); such numbers are computed here, and shapes are
inferred again, until all are known.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from voxtile.errors import ModelError

# Only arrays with at most this many numbers can be sizes.
_FEW = 1024
_LARGEST_TILE = 8192
_MOST_ROUNDS = 64
# Maximum of one size for Pad, Resize and Upsample, and of one factor.
_LARGEST = {"Pad": 65536, "Resize": 65536, "Upsample": 4096}


def output_sizes(
    model: Any, name: str, tile: tuple[int, int], channels: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and the shape of each node's output, for one tile.

    ModelError if the size of an array is not known before the array is computed.
    """
    import onnx

    small = _without_weights(model, name, tile, channels)
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(_MOST_ROUNDS):
        try:
            inferred = onnx.shape_inference.infer_shapes(small, strict_mode=True, data_prop=True)
        except Exception as error:  # from C++
            raise ModelError(
                f"{name}: the shapes of its arrays cannot be inferred ({type(error).__name__}); "
                "check the tile, the channels and the layout in the spec"
            ) from error
        before = len(shapes), len(values)
        shapes |= _known(inferred.graph)
        for node in small.graph.node:
            _check_growth(node, values, name)
            for output, value in _evaluated(node, values, shapes):
                if value.size <= _FEW and output not in values:
                    values[output] = value
                    small.graph.initializer.append(onnx.numpy_helper.from_array(value, output))
        # Known values are initializers now, so the nodes that compute them are not needed.
        kept = [
            node for node in small.graph.node if not all(part in values for part in node.output)
        ]
        shapes |= {output: value.shape for output, value in values.items()}
        del small.graph.node[:]
        small.graph.node.extend(kept)
        if (len(shapes), len(values)) == before:
            break
    for node in model.graph.node:
        for output in filter(None, node.output):
            if output not in shapes:
                raise ModelError(
                    f"{name}: the size of the array {output[:100]!r} ({node.op_type}) is not known "
                    "before it is computed; export the network with fixed sizes"
                )
            yield output, shapes[output]


def _without_weights(model: Any, name: str, tile: tuple[int, int], channels: int) -> Any:
    """Return a copy that takes one tile and has the shapes of large weights, not their numbers."""
    import onnx

    small = onnx.ModelProto()
    small.ir_version = max(model.ir_version, 4)  # initializers need not be inputs
    small.opset_import.extend(model.opset_import)
    graph = small.graph
    graph.name = "g"
    graph.output.extend(model.graph.output)
    for part in graph.output:  # its shape is inferred, whatever the file says
        part.type.tensor_type.ClearField("shape")
    weights = {tensor.name for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _FEW:
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    for given in model.graph.input:
        if given.name not in weights:
            graph.input.append(given)
            _fix(graph.input[-1].type.tensor_type.shape, name, tile, channels)
    for node in model.graph.node:
        graph.node.append(node)
    return small


def _fix(shape: Any, name: str, tile: tuple[int, int], channels: int) -> None:
    """Replace the sizes of an input that are not fixed by the sizes of one tile."""
    sizes = [part.dim_value for part in shape.dim]
    if len(sizes) != 4:
        raise ModelError(
            f"{name} has an input of {len(sizes)} axes; four were needed: tiles, rows, columns, "
            "channels"
        )
    if any(not 0 <= size <= _LARGEST_TILE for size in sizes):
        raise ModelError(
            f"{name} takes tiles of shape {sizes}; at most {_LARGEST_TILE} is allowed for each axis"
        )
    first = sizes[1] == channels and sizes[3] != channels
    wanted = (1, channels, *tile) if first else (1, *tile, channels)
    for part, size, instead in zip(shape.dim, sizes, wanted, strict=True):
        part.dim_value = size or instead


def _known(graph: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes that were inferred completely."""
    found = {}
    for part in (*graph.value_info, *graph.output, *graph.input):
        kind = part.type.tensor_type
        if kind.HasField("shape") and all(size.HasField("dim_value") for size in kind.shape.dim):
            found[part.name] = tuple(size.dim_value for size in kind.shape.dim)
    return found


def _check_growth(node: Any, values: dict[str, np.ndarray], name: str) -> None:
    """Refuse absurd sizes of operators that enlarge arrays: their sum overflows and looks small."""
    limit = _LARGEST.get(node.op_type)
    if limit is None:
        return
    for part in node.input[1:]:
        value = values.get(part)
        if value is None or not value.size or value.dtype.kind not in "fiu":
            continue
        if not (np.abs(value.astype(np.float64)) <= limit).all():  # NaN too
            raise ModelError(
                f"{name} has the operator {node.op_type} with a size or factor of "
                f"{float(np.abs(value.astype(np.float64)).max()):.3g}; at most {limit} is allowed"
            )


def _evaluated(
    node: Any, values: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield those outputs of a node whose numbers are known."""
    import onnx

    settings = {part.name: onnx.helper.get_attribute_value(part) for part in node.attribute}
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0])
        if shape is not None:
            part = shape[settings.get("start", 0) : settings.get("end")]
            yield node.output[0], np.array(part, np.int64)
        return
    if node.op_type == "Constant":
        if "value" in settings:
            yield node.output[0], onnx.numpy_helper.to_array(settings["value"])
        for kind, dtype in (("value_int", np.int64), ("value_float", np.float32)):
            for key in (kind, f"{kind}s"):
                if key in settings:
                    yield node.output[0], np.array(settings[key], dtype)
        return
    compute = _COMPUTED.get(node.op_type)
    taken = [values.get(part) for part in node.input]
    if compute is None or any(one is None for one in taken):
        return
    known = [one for one in taken if one is not None]
    if not known or max(one.size for one in known) > _FEW:
        return
    try:
        with np.errstate(all="ignore"):
            parts = compute({**settings, "outputs": len(node.output)}, *known)
            found = list(map(np.asarray, parts if isinstance(parts, list) else [parts]))
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError):
        return  # the shapes cannot be inferred either, which is reported
    if all(one.dtype.kind in "fiub" for one in found):
        yield from zip(node.output, found, strict=False)


def _divided(_: Any, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Divide as ONNX does: whole numbers are rounded towards zero."""
    quotient = np.true_divide(one, other)
    return np.asarray(np.trunc(quotient) if one.dtype.kind in "iu" else quotient).astype(one.dtype)


def _cast(settings: dict[str, Any], value: np.ndarray) -> np.ndarray:
    """Change the type of numbers."""
    import onnx

    return value.astype(onnx.helper.tensor_dtype_to_np_dtype(settings["to"]))


def _axes(settings: dict[str, Any], given: tuple[np.ndarray, ...]) -> tuple[int, ...]:
    """Return axes, which are an attribute or an input."""
    return tuple(int(axis) for axis in (given[0].ravel() if given else settings["axes"]))


def _slice(settings: dict[str, Any], value: np.ndarray, *given: np.ndarray) -> np.ndarray:
    """Cut a part out of some numbers."""
    if given:
        starts, ends = given[0].ravel(), given[1].ravel()
    else:
        starts, ends = np.array(settings["starts"]), np.array(settings["ends"])
    axes = given[2].ravel() if len(given) > 2 else settings.get("axes", range(len(starts)))
    steps = given[3].ravel() if len(given) > 3 else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        window = [slice(None)] * value.ndim
        # This is below every index, so with a negative step it means "to the first number".
        last = None if end < -_FEW else int(end)
        window[int(axis)] = slice(int(start), last, int(step))
        value = value[tuple(window)]
    return value


def _split(settings: dict[str, Any], value: np.ndarray, *given: np.ndarray) -> list[np.ndarray]:
    """Divide some numbers into parts."""
    axis = settings.get("axis", 0)
    sizes = given[0].ravel() if given else settings.get("split")
    if sizes is None:
        size = -(-value.shape[axis] // settings["outputs"])
        sizes = [size] * settings["outputs"]
    return np.split(value, np.cumsum(sizes)[:-1], axis)


_COMPUTED: dict[str, Callable[..., Any]] = {
    "Add": lambda _, one, other: one + other,
    "Sub": lambda _, one, other: one - other,
    "Mul": lambda _, one, other: one * other,
    "Div": _divided,
    "Neg": lambda _, one: -one,
    "Abs": lambda _, one: np.abs(one),
    "Max": lambda _, *parts: functools.reduce(np.maximum, parts),
    "Min": lambda _, *parts: functools.reduce(np.minimum, parts),
    "Floor": lambda _, one: np.floor(one),
    "Ceil": lambda _, one: np.ceil(one),
    "Identity": lambda _, one: one,
    "Cast": _cast,
    "Gather": lambda settings, one, where: one.take(where, settings.get("axis", 0)),
    "Concat": lambda settings, *parts: np.concatenate(parts, settings["axis"]),
    "Squeeze": lambda settings, one, *axes: one.squeeze(
        _axes(settings, axes) if axes or "axes" in settings else None
    ),
    "Unsqueeze": lambda settings, one, *axes: np.expand_dims(one, _axes(settings, axes)),
    "Slice": _slice,
    "Split": _split,
    "Transpose": lambda settings, one: one.transpose(settings.get("perm")),
    "Reshape": lambda _, one, shape: one.reshape([int(size) for size in shape]),
}
