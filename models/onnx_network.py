"""Check that an ``.onnx`` file is a plain 2D network, and nothing else.

ONNX contains no code, but a graph can make a runtime load other files:
operators of other domains come from plug-ins, and external data from any path
beside the file. The bytes are checked here before a runtime sees them.
"""

from collections.abc import Iterator
from typing import Any

from voxtile.errors import ModelError

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
_LARGEST = 2**31 - 1  # of any protocol buffer
_MOST_NODES = 20_000


def check_onnx(content: bytes, name: str) -> None:
    """Refuse an ``.onnx`` file that is damaged or has more than a plain network.

    Parameters
    ----------
    name : str
        Of the file, for messages.

    Raises
    ------
    ModelError
        Also if the package onnx is not installed.
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
    except Exception as error:  # protocol buffers raise their own
        raise ModelError(f"{name} is not a valid ONNX file ({type(error).__name__})") from error
    if len(model.graph.node) > _MOST_NODES:
        raise ModelError(
            f"{name} has {len(model.graph.node)} nodes; at most {_MOST_NODES} are allowed"
        )
    domains = {entry.domain or "ai.onnx" for entry in model.opset_import}
    others = sorted(domains - {"ai.onnx"})
    if others or model.functions:
        raise ModelError(
            f"{name} has operators of {', '.join(others) or 'its own'}; only the standard ones "
            "(ai.onnx) are allowed, because others come from plug-ins"
        )
    versions = [entry.version for entry in model.opset_import]
    if len(versions) != 1 or versions[0] not in _OPSETS:
        raise ModelError(
            f"{name} has operator set {versions}; one of {_OPSETS[0]} or later was needed"
        )
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise ModelError(
                f"{name} has the operator {kind}, which is not allowed in a 2D network; export it "
                "without control flow and custom operators"
            )
    if model.graph.sparse_initializer:
        raise ModelError(f"{name} has sparse weights, which are not supported; save dense ones")
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"{name} has weights in another file, which its checksum does not cover; save them "
                "inside (torch.onnx.export with dynamo=False or external_data=False, or "
                "onnx.save without save_as_external_data)"
            )
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # of C++
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(f"{name} is not valid ONNX: {reason}") from error


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every array of a graph."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
