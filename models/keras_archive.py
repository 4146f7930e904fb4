"""Check that a ``.keras`` file is a plain network of stock layers, before Keras sees it.

It must be a valid zip archive of the three members that Keras writes, each of
a plausible size. Each layer must be on a short list, and each array, of weights or
of layer outputs, must have a plausible size (`keras_shapes`, `keras_weights`).
"""

import json
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NoReturn

from voxtile.errors import ModelError

from .keras_shapes import layer_sizes
from .keras_weights import count_weights
from .limits import check_sizes

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MEMBERS = {_CONFIG, _METADATA, _WEIGHTS}
_LARGEST = {_CONFIG: 16 * 2**20, _METADATA: 2**20}
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1
_DEEPEST = 64
# Layers that only compute, and run no code from their configuration.
# fmt: off
_LAYERS = {
    "Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate",
    "Conv2D", "Conv2DTranspose", "Cropping2D", "DepthwiseConv2D", "Dropout", "ELU", "Functional",
    "GroupNormalization", "InputLayer", "LayerNormalization", "LeakyReLU", "MaxPooling2D",
    "Multiply", "PReLU", "ReLU", "Rescaling", "SeparableConv2D", "Softmax", "SpatialDropout2D",
    "UpSampling2D", "ZeroPadding2D",
}
# fmt: on
# Modules of other objects that a layer's configuration may contain.
_PARTS = {
    f"keras.{part}" for part in ("initializers", "regularizers", "constraints", "activations")
}
_VALUES = {("keras", "DTypePolicy"), ("builtins", "slice")}


def check_keras_archive(
    content: bytes, name: str, tile: tuple[int, int] = (128, 128), channels: int = 1
) -> None:
    """Refuse a ``.keras`` file that is damaged or holds more than a stock network.

    The sizes of its arrays are computed for `tile` (rows, columns) and `channels`, unless the file
    names other sizes. `name` is the file's name, for messages.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            _check_members(archive, len(content), name)
            members = {member: _inflated(archive, member, name) for member in sorted(_MEMBERS)}
        config = json.loads(
            members[_CONFIG], object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except ModelError:
        raise
    # A damaged or false archive raises any error: from zlib, struct, JSON, or recursion.
    except Exception as error:
        plain = isinstance(error, ValueError | zipfile.BadZipFile)
        why = str(error)[:100] if plain else type(error).__name__
        raise ModelError(
            f"{name} is not a valid Keras 3 archive ({why}); pickles, .h5 and SavedModel are "
            "refused because loading them can run code"
        ) from error
    for part in _objects(config, name):
        _check_object(part, name)
    try:
        arrays, parameters = layer_sizes(config, tile, channels)
        stored = count_weights(members[_WEIGHTS], len(content))
        if parameters > stored:
            raise ValueError(
                f"its layers need {parameters} parameters, but the file has only {stored}; it is "
                "incomplete or was altered"
            )
    except ValueError as error:
        raise ModelError(f"{name}: {error}") from error
    check_sizes(arrays, tile, name)


def _check_members(archive: zipfile.ZipFile, size: int, name: str) -> None:
    """Refuse members that Keras does not write, other compressions, and implausible sizes."""
    items = archive.infolist()
    members = {item.filename: item for item in items}
    unknown = sorted(set(members) - _MEMBERS)
    if unknown or len(members) != len(items):
        raise ModelError(
            f"{name} contains {[text[:60] for text in unknown[:5]] or 'a member twice'}, which no "
            "network file needs"
        )
    if set(members) != _MEMBERS:
        missing = sorted(_MEMBERS - set(members))
        raise ModelError(f"{name} has no {missing}, so it is not a Keras 3 network")
    for member, item in members.items():
        if item.flag_bits & _ENCRYPTED or item.compress_type not in _METHODS:
            raise ModelError(
                f"{name} has a {member} that is encrypted or compressed in another way than Keras "
                "does; save it again with Keras"
            )
        limit = _LARGEST.get(member)
        if limit is not None and item.file_size > limit:
            raise ModelError(f"{name} has a {member} of more than {limit // 2**20} MiB")
        # Trained weights hardly compress, so this archive would be a decompression bomb.
        if limit is None and item.file_size > max(4 * size, 2**20):
            raise ModelError(f"{name} decompresses to more than four times its size")


def _inflated(archive: zipfile.ZipFile, member: str, name: str) -> bytes:
    """Return the content of a member; refuse one that is not as long as the archive says."""
    size = archive.getinfo(member).file_size
    with archive.open(member) as file:
        content = file.read(size + 1)
    if len(content) != size:
        raise ModelError(f"{name} is damaged: {member} has another size than the archive says")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; refuse one with a key twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _refuse_constant(text: str) -> NoReturn:
    """Refuse NaN and infinity, which JSON does not have."""
    raise ValueError(f"{text} is not JSON")


def _objects(root: Any, name: str) -> Iterator[dict[str, Any]]:
    """Yield every serialised object in a Keras config."""
    waiting = [(root, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ModelError(f"{name} has a config.json that is nested too deeply")
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]


def _check_object(part: dict[str, Any], name: str) -> None:
    """Refuse a serialised object that is not one of Keras' stock objects."""
    kind, module = part.get("class_name"), part.get("module")
    plain = isinstance(kind, str) and isinstance(module, str | None)
    stock = plain and (
        (module in ("keras.layers", "keras") and kind in _LAYERS)
        or (module == "keras.src.models.functional" and kind == "Functional")
        or (module in _PARTS and str(kind).isidentifier())
        or (module, kind) in _VALUES
        or kind == "__keras_tensor__"
    )
    if not stock or part.get("registered_name") not in (None, kind, "Functional"):
        raise ModelError(
            f"{name} contains {str(module)[:60]}.{str(kind)[:60]}, which is not one of the allowed "
            "stock layers; loading it could run code"
        )
