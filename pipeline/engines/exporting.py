"""From Keras to OpenVINO, and proof that both say the same; the work of a child process."""

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelError, Network

from .engine import Engine
from .exported import MODEL, TOLERANCE
from .trial import trial_tiles


def serve() -> None:
    """Live as the child: a request on standard input, an answer on standard output."""
    # What libraries print must not meet the answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    bundle, network, folder = pickle.load(sys.stdin.buffer)  # from the parent, who is trusted
    try:
        answer: dict[str, Any] = {"difference": export(bundle, network, folder)}
    except ModelError as error:
        answer = {"refused": str(error)}
    answers.write(json.dumps(answer) + "\n")
    answers.close()


def export(bundle: Bundle, network: Network, folder: Path) -> float:
    """Write a ``.keras`` network as OpenVINO reads it.

    Parameters
    ----------
    bundle : Bundle
    network : Network
    folder : Path
        Gets ``model.xml`` and ``model.bin``.

    Returns
    -------
    float
        Largest difference of a probability from Keras', on a trial tile.

    Raises
    ------
    ModelError
        If Keras cannot build it, OpenVINO cannot read it, or both differ by
        more than `TOLERANCE`.
    """
    from . import keras_engine, openvino_engine

    name = network.file  # not its folder: a refusal is kept, and holds for every copy
    model = keras_engine.build(bundle, network)
    try:
        openvino_engine.write(concrete_function(model), folder / MODEL)
    except ModelError:
        raise
    except Exception as error:  # the converter raises anything
        raise ModelError(
            f"{name} cannot be translated for OpenVINO ({type(error).__name__}); use --engine keras"
        ) from error
    tiles = trial_tiles(bundle.spec)
    wanted = np.asarray(model(tiles, training=False))
    got = openvino_engine.open_model(folder / MODEL, Engine("openvino"))(tiles)
    difference = float(np.abs(got - wanted).max())
    if not difference <= TOLERANCE:  # NaN too
        raise ModelError(
            f"{name} says something else in OpenVINO than in Keras (probabilities differ by up to "
            f"{difference:.2g}, at most {TOLERANCE:g} is allowed); use --engine keras"
        )
    return difference


def concrete_function(model: Any) -> Any:
    """Return a Keras model as a TensorFlow graph: float32 in and out, any number of tiles."""
    import tensorflow as tf

    signature = tf.TensorSpec(model.input_shape, tf.float32, name="tiles")
    function = tf.function(lambda tiles: model(tiles, training=False), input_signature=[signature])
    return function.get_concrete_function()
