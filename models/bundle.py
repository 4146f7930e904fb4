"""A bundle on disk: a trained network and everything it expects.

    models/<name>/
      spec.json      what the networks expect and emit (`voxtile.models.spec`)
      *.keras        the networks (or *.onnx, imported ones)
      README.md      model card
      LICENSE        licence of the weights
      fingerprint.json, recipe.toml, history.csv, training.png     how they were trained

A network file can contain code that runs when it is loaded. So the file is
checked here before Keras sees it: its checksum, that it is a valid zip archive
of the three members that Keras writes, that each layer is on a short list of
stock layers, and that its size is plausible. No network is built here.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from voxtile.errors import ModelError, UsageError

from .onnx_network import check_onnx
from .spec import NAME, ModelSpec, Network, read_spec

SHIPPED = Path(__file__).parent

_MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
_LARGEST_CONFIG = 16 * 2**20
_MOST_PARAMETERS = 2 * 10**9
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
# Modules of other objects that a layer's configuration may have.
_PARTS = {
    f"keras.{part}" for part in ("initializers", "regularizers", "constraints", "activations")
}
_VALUES = {("keras", "DTypePolicy"), ("builtins", "slice")}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle.

    Parameters
    ----------
    others : tuple of Bundle
        Further bundles whose mean with this one decides (an ensemble); their
        labels and channels are the same.
    """

    folder: Path
    spec: ModelSpec
    others: tuple["Bundle", ...] = ()

    @property
    def members(self) -> tuple["Bundle", ...]:
        """Every bundle of the ensemble, each alone; this one first."""
        return (replace(self, others=()), *self.others)

    @property
    def name(self) -> str:
        """Name of the bundle, or of all members with commas between."""
        return ",".join(member.spec.name for member in self.members)

    @property
    def sha256(self) -> str:
        """Hash of everything that may change a mask: the spec, with each network's SHA-256."""
        if self.others:
            each = [member.sha256 for member in self.members]
            return hashlib.sha256(" ".join(each).encode()).hexdigest()
        decisive = self.spec.model_dump(mode="json", exclude={"training", "description", "name"})
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def read_network(self, network: Network) -> bytes:
        """Return the verified bytes of one network.

        The checked bytes are the bytes that are loaded, so nobody can change
        the file in between.

        Raises
        ------
        ModelError
            If the file is missing or altered, or has more than a network needs.
        """
        path = self.folder / network.file
        if path.exists() and not path.is_file():
            raise ModelError(f"{path} is not a file; copy the whole bundle folder")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"{path} cannot be read ({error.strerror}); copy the whole bundle folder"
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != network.sha256:
            raise ModelError(
                f"{path} has SHA-256 {digest}, but its spec.json says {network.sha256}: the file "
                "was altered or is incomplete; copy the bundle again from its source"
            )
        if network.file.endswith(".keras"):
            check_keras_archive(content, str(path))
        else:
            check_onnx(content, str(path))
        return content


def load_bundle(name: str | Path) -> Bundle:
    """Read and verify a bundle, or several as an ensemble; no network is built.

    Parameters
    ----------
    name : str or Path
        A folder, or the name of a bundle that voxtile ships. A name that is
        also a folder here means the folder. Several have commas between them,
        unless there is a folder with the commas in its name.

    Raises
    ------
    ModelError
        If the bundle does not exist, its spec or a network is refused, or
        several do not have the same channels and labels.
    """
    if isinstance(name, str) and "," in name and not Path(name).is_dir():
        return _together([load_bundle(part.strip()) for part in name.split(",")])
    folder = Path(name)
    if not folder.is_dir() and folder.name == str(name) and (SHIPPED / folder).is_dir():
        folder = SHIPPED / folder
    if not folder.is_dir():
        shipped = ", ".join(shipped_bundles()) or "none"
        raise ModelError(
            f"model '{name}' is neither a folder nor a shipped bundle; shipped: {shipped}"
        )
    bundle = Bundle(folder, read_spec(folder / "spec.json"))
    for network in bundle.spec.networks:
        bundle.read_network(network)
    return bundle


def _together(bundles: Sequence[Bundle]) -> Bundle:
    """Return one bundle of several with the same channels, activation and labels."""
    first = bundles[0]
    for other in bundles[1:]:
        for what, one, another in (
            ("channels", first.spec.channels, other.spec.channels),
            ("activation", first.spec.activation, other.spec.activation),
            ("labels", _meaning(first.spec), _meaning(other.spec)),
        ):
            if one != another:
                raise ModelError(
                    f"{first.folder} and {other.folder} cannot be averaged: their {what} are "
                    f"{one} and {another}"
                )
    known: dict[str, Path] = {}
    for bundle in bundles:
        # A copy, or another path to the same folder, is the same model.
        if (earlier := known.setdefault(bundle.sha256, bundle.folder)) is not bundle.folder:
            raise ModelError(
                f"{bundle.folder} is named twice"
                + (f" (also as {earlier})" if earlier != bundle.folder else "")
                + "; name each model once"
            )
    return replace(first, others=tuple(bundles[1:]))


def _meaning(spec: ModelSpec) -> list[tuple[int, str, tuple[int, ...]]]:
    """Return the meaning of a network's outputs."""
    return [(label.value, label.name, label.values) for label in spec.labels]


def bundle_name(folder: Path) -> str:
    """Return the name of a new bundle, which is that of its folder.

    Raises
    ------
    ValueError
        If a bundle cannot have this name.

    Examples
    --------
    >>> bundle_name(Path("models/liver-cv"))
    'liver-cv'
    """
    name = folder.absolute().name  # also of a folder that is given as "."
    if not re.fullmatch(NAME, name):
        instead = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("._-")[:100] or "model"
        raise UsageError(
            f"the model would have the name {name!r} of its folder, but a name has at most 100 "
            "letters A to Z and a to z, digits, '.', '_' and '-', and begins with a letter or a "
            f"digit; name the folder {instead!r}, for example"
        )
    return name


def shipped_bundles() -> list[str]:
    """Return the names of the bundles that voxtile ships."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/spec.json"))


def check_keras_archive(content: bytes, name: str) -> None:
    """Refuse a ``.keras`` file that is damaged or holds more than a stock network.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = {item.filename: item for item in archive.infolist()}
            unknown = sorted(set(members) - _MEMBERS)
            if unknown or len(members) != len(archive.infolist()):
                raise ModelError(
                    f"{name} contains {unknown or 'a member twice'}, which no network file needs"
                )
            if set(members) != _MEMBERS:
                missing = sorted(_MEMBERS - set(members))
                raise ModelError(f"{name} has no {missing}, so it is not a Keras 3 network")
            if members["config.json"].file_size > _LARGEST_CONFIG:
                raise ModelError(f"{name} has a config.json of more than 16 MiB")
            if members["model.weights.h5"].file_size > max(4 * len(content), 2**20):
                # Trained weights hardly compress, so this archive is a decompression bomb.
                raise ModelError(f"{name} decompresses to more than four times its size")
            broken = archive.testzip()
            if broken is not None:
                raise ModelError(f"{name} is damaged: {broken} fails its checksum")
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(
            f"{name} is not a valid Keras 3 archive ({error}); pickles, .h5 and SavedModel are "
            "refused because loading them can run code"
        ) from error
    for part in _objects(config):
        _check_object(part, name)
    parameters = _parameters(config)
    if parameters > _MOST_PARAMETERS:
        raise ModelError(
            f"{name} would have about {parameters:.2g} parameters; at most {_MOST_PARAMETERS:.2g} "
            "are allowed"
        )


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every serialised object in a Keras config, at any depth."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _check_object(part: dict[str, Any], name: str) -> None:
    """Refuse a serialised object that is not stock."""
    kind, module = part.get("class_name"), part.get("module")
    stock = (
        (module in ("keras.layers", "keras") and kind in _LAYERS)
        or (module == "keras.src.models.functional" and kind == "Functional")
        or (module in _PARTS and isinstance(kind, str) and kind.isidentifier())
        or (module, kind) in _VALUES
        or (module is None and kind == "__keras_tensor__")
        or (kind == "__keras_tensor__")
    )
    if not stock or part.get("registered_name") not in (None, kind, "Functional"):
        raise ModelError(
            f"{name} contains {module}.{kind}, which is not one of the allowed stock layers; "
            "loading it could run code"
        )


def _parameters(config: dict[str, Any]) -> float:
    """Return an upper bound of the parameters, from the widths of the layers alone."""
    widths = [1]
    largest = 0.0
    for part in _objects(config):
        inner = part.get("config", {})
        if not isinstance(inner, dict):
            continue
        filters = inner.get("filters")
        kernel = inner.get("kernel_size") or [1, 1]
        if isinstance(filters, int | float):
            area = 1.0
            for size in kernel if isinstance(kernel, list) else [kernel] * 2:
                area *= size
            largest += filters * area * 2 * max(widths)
            widths.append(int(filters))
    return largest
