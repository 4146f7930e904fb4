"""Check that an ``.onnx`` file is a plain 2D network, and nothing else.

ONNX contains no code, but a graph can make a runtime load other files:
operators of other domains come from plug-ins, and external data from any path
beside the file. A few bytes can also declare arrays that fill all memory. The bytes are
checked here, and the size of every array is computed (`onnx_shapes`), before a
runtime sees them.
"""

import math
from collections.abc import Iterator
from typing import Any

from voxtile.errors import ModelError, first_few

from .limits import check_sizes

# Operators of the domain ai.onnx that convolutional networks are exported to. No control flow, no
# random numbers, no strings, no operator that makes a large array from a small one.
# fmt: off
OPERATORS = {
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat",
    "Constant", "Conv", "ConvTranspose", "DepthToSpace", "Div", "Dropout", "Elu", "Erf", "Exp",
    "Flatten", "Floor", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool",
    "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization",
    "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min",
    "Mish", "Mul", "Neg", "PRelu", "Pad", "Pow", "Reciprocal", "ReduceMax", "ReduceMean",
    "ReduceSum", "Relu", "Reshape", "Resize", "Selu", "Shape", "Sigmoid", "Slice", "Softmax",
    "Softplus", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose",
    "Unsqueeze", "Upsample",
}
# fmt: on
_OPSETS = range(9, 100)
_LARGEST = 2**31 - 1  # the largest protocol buffer, in bytes
_MOST_NODES = 20_000
# Types of attributes, from onnx.AttributeProto: FLOAT, INT, STRING, TENSOR, FLOATS, INTS, STRINGS.
_ATTRIBUTES = {1, 2, 3, 4, 6, 7, 8}
# Attributes that are sizes in pixels or channels.
_SIZES = {
    *("pads", "strides", "kernel_shape", "dilations", "output_padding", "output_shape", "group"),
    *("blocksize", "num_groups", "num_outputs", "split"),
}
_LARGEST_SIZE = 65536
# Bytes per number of an array, by onnx.TensorProto.DataType; with bool, float16 and bfloat16.
_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}


def check_onnx(
    content: bytes, name: str, tile: tuple[int, int] = (128, 128), channels: int = 1
) -> None:
    """Refuse an ``.onnx`` file that is damaged or has more than a plain network.

    The sizes of its arrays are computed for `tile` (rows, columns) and `channels`, unless the
    network takes only other sizes. `name` is the file's name, for messages. ModelError also if the
    package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(
            f'{name} cannot be checked without the package onnx; pip install "voxtile[onnx]"'
        ) from error
    if len(content) > _LARGEST:
        raise ModelError(f"{name} has {len(content)} bytes; at most {_LARGEST} can be read")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protocol buffers raise their own errors
        raise ModelError(f"{name} is not a valid ONNX file ({type(error).__name__})") from error
    if len(model.graph.node) > _MOST_NODES:
        raise ModelError(
            f"{name} has {len(model.graph.node)} nodes; at most {_MOST_NODES} are allowed"
        )
    _check_domains(model, name)
    for node in model.graph.node:
        _check_node(node, name)
    if model.graph.sparse_initializer:
        raise ModelError(f"{name} has sparse weights, which are not supported; save dense ones")
    for message in _messages(model):
        _check_message(message, name)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # from C++
        # The error's text is left out, because it may name other files.
        raise ModelError(
            f"{name} is not valid ONNX ({type(error).__name__}); onnx.checker.check_model says why"
        ) from error
    from .onnx_shapes import output_sizes

    check_sizes(output_sizes(model, name, tile, channels), tile, name)


def _check_domains(model: Any, name: str) -> None:
    """Refuse operators that are not the standard ones, and graphs beside the network's."""
    domains = {entry.domain or "ai.onnx" for entry in model.opset_import}
    others = sorted(domains - {"ai.onnx"})
    if others or model.functions:
        raise ModelError(
            f"{name} has operators of {', '.join(others) or 'its own'}; only the standard ones "
            "(ai.onnx) are allowed, because others come from plug-ins"
        )
    if model.training_info:
        raise ModelError(f"{name} has a graph for training; export it for inference only")
    versions = [entry.version for entry in model.opset_import]
    if len(versions) != 1 or versions[0] not in _OPSETS:
        raise ModelError(
            f"{name} has operator set {versions}; one of {_OPSETS[0]} or later was needed"
        )


def _check_node(node: Any, name: str) -> None:
    """Refuse an operator that is not allowed, and attributes that no 2D network needs."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
        kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise ModelError(
            f"{name} has the operator {kind[:100]}, which is not allowed in a 2D network; export "
            "it without control flow and custom operators"
        )
    for attribute in node.attribute:
        words = f"{name} has the operator {node.op_type} with {attribute.name[:100]!r}"
        if attribute.type not in _ATTRIBUTES:
            raise ModelError(
                f"{words}, which is a graph, a sparse array or of another kind; only numbers, text "
                "and dense arrays are allowed"
            )
        if attribute.name in _SIZES:
            numbers = [attribute.i, *attribute.ints]
            if any(abs(number) > _LARGEST_SIZE for number in numbers):
                raise ModelError(
                    f"{words} of {max(numbers, key=abs)}; at most {_LARGEST_SIZE} is allowed"
                )


def _check_message(message: Any, name: str) -> None:
    """Refuse an array that is in another file, sparse, or larger than its content."""
    kind = message.DESCRIPTOR.name
    if kind == "SparseTensorProto":
        raise ModelError(f"{name} has sparse weights, which are not supported; save dense ones")
    if kind != "TensorProto":
        return
    if message.data_location == message.EXTERNAL or message.external_data:
        raise ModelError(
            f"{name} has weights in another file, which its checksum does not cover; save them "
            "inside (torch.onnx.export with dynamo=False or external_data=False, or "
            "onnx.save without save_as_external_data)"
        )
    width = _BYTES.get(message.data_type)
    if width is None or message.HasField("segment"):
        raise ModelError(f"{name} has an array that is not of plain numbers; save float32 weights")
    stored = [
        len(getattr(message, part)) for part in ("float_data", "double_data", "int32_data")
    ] + [len(message.int64_data), len(message.uint64_data), len(message.raw_data) // width]
    count = math.prod(message.dims)
    if any(size < 0 for size in message.dims) or count != sum(stored):
        raise ModelError(
            f"{name} has an array of shape {first_few(list(message.dims), 8)} with "
            f"{sum(stored)} numbers; the file is damaged"
        )


def _messages(root: Any) -> Iterator[Any]:
    """Yield a message and all messages in it, at any depth."""
    waiting = [root]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.type != field.TYPE_MESSAGE:
                continue
            # A single message has a descriptor; several are a list of messages.
            waiting.extend([value] if hasattr(value, "DESCRIPTOR") else value)
