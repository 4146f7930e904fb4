"""Networks in 8-bit integers, which are made and cached when a model is verified.

    <cache>/quantised/<key>/
      model.xml, model.bin    the network as OpenVINO reads it

Weights and activations become integers of 8 bits with a scale each, chosen
from the activations on real tiles (post-training quantisation; Jacob et al.
2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 2.1). Processors multiply such
numbers about four times as fast as float32 (AVX-512 VNNI, AVX-VNNI, AMX).
"""

import hashlib
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
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
from .engine import ENGINES
from .translated import FILES, MODEL, ensure

# Increased whenever the way of making them changes.
_FORMAT = 1
_LONGEST_S = 3600.0


def quantise(bundle: Bundle, network: Network, tiles: Sequence[np.ndarray]) -> None:
    """Make an integer network, and replace an earlier one.

    `tiles`, float32, (rows, columns, channels), are as the network gets them in a run, in any sizes
    that the network takes.
    """
    source: Path | bytes = ensure(bundle, network)
    if network.file.endswith(".onnx"):
        source = bundle.read_network(network)
    order = (2, 0, 1) if network.layout == "channels_first" else (0, 1, 2)
    calibration = [np.ascontiguousarray(tile.transpose(order))[np.newaxis] for tile in tiles]
    path = _path(network)

    def make(folder: Path) -> dict[str, Any]:
        """Write the network."""
        try:
            model = ENGINES["openvino"].load_module().read(source)
            _write(model, calibration, folder / MODEL)
        except Exception as error:  # the library raises any error
            raise ModelError(
                f"{network.file} cannot be made int8 ({type(error).__name__}); use another "
                "--precision"
            ) from error
        return {"tiles": len(calibration)}

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
    return digest_of(iter(found)) if len(found) == len(entries) else None


def digest_name(bundle: Bundle) -> str:
    """Return the key of a bundle's `quantised_digest` in the versions of an engine."""
    return f"int8 of {bundle.sha256[:12]}"


def _path(network: Network) -> Path:
    """Return the folder of a network in integers, whether it was made or not."""
    program = installed_version("openvino") or "none"
    key = hashlib.sha256(f"{_FORMAT}\n{network.sha256}\n{program}".encode()).hexdigest()
    return cache_folder("quantised") / key


def _write(model: Any, calibration: Sequence[np.ndarray], path: Path) -> None:
    """Quantise an OpenVINO model and write it."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it draws progress bars
        import nncf
        import openvino as ov

        nncf.set_log_level(40)
        made = nncf.quantize(model, nncf.Dataset(calibration), subset_size=len(calibration))
        ov.save_model(made, path, compress_to_fp16=False)
