"""Networks in 8-bit integers, which are made and cached when a model is verified.

    <cache>/quantised/<key>/
      model.xml, model.bin    the network as OpenVINO reads it

Weights and activations become integers of 8 bits with a scale each, chosen
from the activations on real tiles (post-training quantisation; Jacob et al.
2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 2.1). Processors multiply such
numbers about four times as fast as float32 (AVX-512 VNNI, AVX-VNNI, AMX).
The most sensitive layers may compute in a longer precision instead; entry.json
names their groups (`layer_groups`) as `kept`, and the precision as `rest`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.errors import EnvironmentFault, ModelError
from voxtile.machine.cache import cache_folder
from voxtile.machine.versions import installed_version
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

from .cached_networks import alone, digest_of, read_entry, write_entry
from .engine import ENGINES, Precision
from .layer_groups import layer_groups
from .translated import FILES, MODEL, ensure

# Increased whenever the way of making them changes.
_FORMAT = 1
_LONGEST_S = 3600.0
# Tiles on which networks are compared; scales need more.
_COMPARED = 8


def quantise(
    bundle: Bundle,
    network: Network,
    tiles: Sequence[np.ndarray],
    kept: Sequence[str] = (),
    rest: Precision = "float32",
) -> None:
    """Make an integer network, and replace an earlier one.

    `tiles`, float32, (rows, columns, channels), are as the network gets them in a run, in any sizes
    that the network takes. The groups of layers in `kept` compute in `rest`.
    """
    calibration = as_inputs(network, tiles)
    path = _path(network)

    def make(folder: Path) -> dict[str, Any]:
        """Write the network."""
        with explained(network):
            model = read_source(bundle, network)
            groups = layer_groups(model, calibration[0].shape) if kept else {}
            left = [name for group in kept for name in groups.get(group, [])]
            _save(_closest(model, calibration, left, rest), folder / MODEL)
        return {"tiles": len(calibration), "kept": list(kept), "rest": rest}

    with alone(path.parent, _LONGEST_S):
        write_entry(path, make)


def quantised(network: Network) -> Path | None:
    """Return the ``model.xml`` of a network in integers; None if it was not made here."""
    path = _path(network)
    return None if read_entry(path, FILES) is None else path / MODEL


def quantised_digest(bundle: Bundle) -> str | None:
    """Return what identifies a bundle's networks in integers; None if one is missing.

    They depend on the tiles that they were made with, so the bundle's own
    SHA-256 does not identify them. Other members of an ensemble are
    ignored.
    """
    try:
        entries = [read_entry(_path(network), FILES) for network in bundle.spec.networks]
    except EnvironmentFault:  # nothing can be cached
        return None
    found = [entry for entry in entries if entry is not None]
    for entry in found:
        if _rest(entry) != "float32":  # the files alone do not say it
            entry["sha256"]["rest"] = _rest(entry)
    return digest_of(iter(found)) if len(found) == len(entries) else None


def kept_layers(network: Network) -> tuple[tuple[str, ...], Precision]:
    """Return which groups of layers of a network are not in integers, and their precision."""
    entry = read_entry(_path(network), FILES) or {}
    return tuple(entry.get("kept", ())), _rest(entry)


def digest_name(bundle: Bundle) -> str:
    """Return the key of a bundle's `quantised_digest` in the versions of an engine."""
    return f"int8 of {bundle.sha256[:12]}"


def _path(network: Network) -> Path:
    """Return the folder of a network in integers, whether it was made or not."""
    program = installed_version("openvino") or "none"
    key = hashlib.sha256(f"{_FORMAT}\n{network.sha256}\n{program}".encode()).hexdigest()
    return cache_folder("quantised") / key


def _rest(entry: Mapping[str, Any]) -> Precision:
    """Return the precision of the layers that are not in integers; networks of 0.1 do not say."""
    return "bfloat16" if entry.get("rest") == "bfloat16" else "float32"


def as_inputs(network: Network, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return each tile, (rows, columns, channels), as a batch in the layout of a network."""
    order = (2, 0, 1) if network.layout == "channels_first" else (0, 1, 2)
    return [np.ascontiguousarray(tile.transpose(order))[np.newaxis] for tile in tiles]


def read_source(bundle: Bundle, network: Network) -> Any:
    """Return a network in float32 as an OpenVINO model."""
    source: Path | bytes = ensure(bundle, network)
    if network.file.endswith(".onnx"):
        source = bundle.read_network(network)
    return ENGINES["openvino"].load_module().read(source)


@contextmanager
def explained(network: Network) -> Iterator[None]:
    """Turn any error of the library into a ModelError that says what cannot be done."""
    try:
        yield
    except (ModelError, EnvironmentFault):
        raise
    except Exception as error:  # the library raises any error
        raise ModelError(
            f"{network.file} cannot be made int8 ({type(error).__name__}); use another --precision"
        ) from error


def in_integers(
    model: Any, calibration: Sequence[np.ndarray], left: Sequence[str], *, corrected: bool
) -> Any:
    """Return an OpenVINO model in integers without the layers `left`.

    If it is `corrected`, the mean error of each layer's output was subtracted from its bias.
    """
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it draws progress bars
        import nncf

        nncf.set_log_level(40)
        return nncf.quantize(
            model,
            nncf.Dataset(calibration),
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=list(left)) if left else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=not corrected
            ),
        )


def mean_error(short: Any, exact: Any, inputs: Sequence[np.ndarray], rest: Precision) -> float:
    """Return the mean difference of predictions in integers and `rest` from those in float32."""
    run = ENGINES["openvino"].load_module().OpenVinoModel
    one, other = run(short.clone(), rest, 0), run(exact.clone(), "float32", 0)
    return float(np.mean([np.abs(one(each) - other(each)).mean() for each in inputs]))


def few(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return some inputs, evenly chosen: enough to compare networks by."""
    places = np.linspace(0, len(inputs) - 1, min(len(inputs), _COMPARED)).astype(int)
    return [inputs[place] for place in places]


def _closest(
    model: Any, calibration: Sequence[np.ndarray], left: Sequence[str], rest: Precision
) -> Any:
    """Return the model in integers with or without corrected biases, whichever errs less."""
    # The correction helps most networks, but doubles the error of some that were hardly trained.
    both = [
        in_integers(model, calibration, left, corrected=corrected) for corrected in (True, False)
    ]
    some = few(calibration)
    return min(both, key=lambda one: mean_error(one, model, some, rest))


def _save(model: Any, path: Path) -> None:
    """Write an OpenVINO model."""
    import openvino as ov

    ov.save_model(model, path, compress_to_fp16=False)
