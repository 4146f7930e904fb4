"""Translate a network to the format of another program, and compare the output of both.

A child process does this. It runs Keras on TensorFlow, even if the user has chosen
another backend, because every converter reads TensorFlow's graph.
"""

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.errors import EnvironmentFault, ModelError
from voxtile.machine.memory_errors import is_out_of_memory
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

from .engine import Engine, Model
from .fitting import activated
from .translated import MODEL, TOLERANCE
from .trial_tiles import trial_tiles

# ONNX Runtime, OpenVINO, TensorRT and DirectML of the last years all read it.
_OPSET = 17


def serve() -> None:
    """Run as the child: read a request from standard input, write an answer to standard output."""
    # Libraries print to standard output, so the answer gets a descriptor of its own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = pickle.load(sys.stdin.buffer)  # from the parent: trusted
    answers.write(json.dumps(answer(*request)) + "\n")
    answers.close()


def answer(form: str, bundle: Bundle, network: Network, folder: Path) -> dict[str, Any]:
    """Return the outcome of `export`, for the parent.

    It has "difference"; or "refused", why this network cannot be translated; or "fault",
    why the attempt was not finished: memory ran out, and may be enough another time.
    """
    try:
        return {"difference": export(form, bundle, network, folder)}
    except EnvironmentFault as error:
        return {"fault": str(error)}
    except Exception as error:
        if is_out_of_memory(error):
            return {"fault": f"memory ran out while {network.file} was translated to {form}"}
        if isinstance(error, ModelError):
            return {"refused": str(error)}
        raise


def export(form: str, bundle: Bundle, network: Network, folder: Path) -> float:
    """Write a ``.keras`` network in another format, and compare the output of both.

    The network becomes ``model.xml`` and ``model.bin``, ``<name>.onnx``, or a SavedModel ``<name>``
    in `folder`. An ``.onnx`` network is only compared, by OpenVINO with ONNX Runtime. The result is
    the largest difference of a probability from the reference's, for a trial tile of the spec's
    size; at most `TOLERANCE`.
    """
    name = network.file  # not its folder: a refusal is cached, and is valid for every copy
    if name.endswith(".onnx"):
        from . import onnx_engine

        reference: Model = onnx_engine.OnnxModel(bundle.read_network(network), Engine("onnx"))
        other = "ONNX Runtime"
    else:
        from . import keras_engine

        model = keras_engine.build(bundle, network)
        reference, other = (lambda tiles: np.asarray(model(tiles, training=False))), "Keras"
    try:
        if other == "Keras":
            translated = _WRITERS[form](model, folder, Path(name).stem)
        else:
            from . import openvino_engine

            translated = openvino_engine.open_model(bundle.read_network(network), _OPENVINO)
    except ModelError:
        raise
    except Exception as error:  # converters raise any error
        raise ModelError(
            f"{name} cannot be translated to {form} ({type(error).__name__}); use --engine "
            f"{'keras' if other == 'Keras' else 'onnx'}"
        ) from error
    tiles = trial_tiles(bundle.spec)
    if network.layout == "channels_first":
        tiles = np.ascontiguousarray(np.moveaxis(tiles, 3, 1))
    expected, found = reference(tiles), translated(tiles)
    if network.output == "logits":  # which may be large, so their probabilities are compared
        axis = 1 if network.layout == "channels_first" else 3
        expected = activated(np.array(expected), bundle.spec.activation, axis)
        found = activated(np.array(found), bundle.spec.activation, axis)
    low, high = float(expected.min()), float(expected.max())
    if not -TOLERANCE <= low <= high <= 1 + TOLERANCE:
        raise ModelError(
            f"{name} gives values from {low:.3g} to {high:.3g} for a trial tile; probabilities "
            'from 0 to 1 were needed. If they are logits, add "output": "logits" to the network in '
            "spec.json"
        )
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:  # NaN too
        raise ModelError(
            f"{name} gives other values as {form} than in {other} (they differ by up to "
            f"{difference:.2g}, at most {TOLERANCE:g} is allowed); use --engine "
            f"{'keras' if other == 'Keras' else 'onnx'}"
        )
    return difference


_OPENVINO = Engine("openvino")


def _as_openvino(model: Any, folder: Path, _: str) -> Model:
    """Write a Keras model for OpenVINO, and return the model that is read back."""
    from . import openvino_engine

    openvino_engine.write(_function(model).get_concrete_function(), folder / MODEL)
    return openvino_engine.open_model(folder / MODEL, _OPENVINO)


def _as_onnx(model: Any, folder: Path, name: str) -> Model:
    """Write a Keras model as ONNX, and return the model that is read back."""
    import onnx
    import tf2onnx

    from . import onnx_engine

    proto, _ = tf2onnx.convert.from_function(
        _function(model), input_signature=_signature(model), opset=_OPSET
    )
    # The converter declares a second operator set that it does not use.
    used = [entry for entry in proto.opset_import if not entry.domain]
    del proto.opset_import[:]
    proto.opset_import.extend(used)
    for part, wanted in ((proto.graph.input[0], "tiles"), (proto.graph.output[0], "answers")):
        _rename(proto.graph, part.name, wanted)
        sizes = part.type.tensor_type.shape.dim
        for size, axis in zip(sizes, ("tiles", "rows", "columns"), strict=False):
            if not size.dim_value:
                size.dim_param = axis
    path = folder / f"{name}.onnx"
    onnx.save(proto, path)
    return onnx_engine.OnnxModel(path.read_bytes(), Engine("onnx"))


def _as_savedmodel(model: Any, folder: Path, name: str) -> Model:
    """Write a Keras model as a SavedModel, and return the model that is read back."""
    import tensorflow as tf

    module = tf.Module()
    module.model = model  # its variables are saved with it
    module.serve = _function(model)
    path = str(folder / name)
    tf.saved_model.save(module, path, signatures={"serving_default": module.serve})
    loaded = tf.saved_model.load(path)
    return lambda tiles: np.asarray(loaded.serve(tiles))


_WRITERS = {"openvino": _as_openvino, "onnx": _as_onnx, "savedmodel": _as_savedmodel}


def _function(model: Any) -> Any:
    """Return a Keras model as a TensorFlow function: float32 in and out, any number of tiles."""
    import tensorflow as tf

    return tf.function(
        lambda tiles: model(tiles, training=False), input_signature=_signature(model)
    )


def _signature(model: Any) -> list[Any]:
    """Return the type of a model's input."""
    import tensorflow as tf

    return [tf.TensorSpec(model.input_shape, tf.float32, name="tiles")]


def _rename(graph: Any, before: str, after: str) -> None:
    """Rename an input or output of an ONNX graph."""
    for part in (*graph.input, *graph.output):
        if part.name == before:
            part.name = after
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == before:
                    names[place] = after
