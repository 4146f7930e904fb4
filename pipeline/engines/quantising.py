"""From a network and tiles of scans to the same network in 8-bit integers, by NNCF."""

from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.errors import ModelError
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

from .kept_networks import alone, keep
from .openvino_engine import read
from .quantised import quantised_place
from .translated import MODEL, ensure

_LONGEST_S = 3600.0


def quantise(bundle: Bundle, network: Network, tiles: Sequence[np.ndarray]) -> None:
    """Make a network of integers, instead of any that is there.

    Parameters
    ----------
    bundle : Bundle
    network : Network
        One of the bundle's.
    tiles : sequence of ndarray of float32, shape (rows, columns, channels)
        As the network sees them in a run; of any sizes that it takes.

    Raises
    ------
    ModelError
        If it cannot be made.
    EnvironmentFault
        If the disk refuses.
    """
    source: Path | bytes = ensure(bundle, network)
    if network.file.endswith(".onnx"):
        source = bundle.read_network(network)
    order = (2, 0, 1) if network.layout == "channels_first" else (0, 1, 2)
    calibration = [np.ascontiguousarray(tile.transpose(order))[np.newaxis] for tile in tiles]
    place = quantised_place(network)

    def make(folder: Path) -> dict[str, Any]:
        """Write the network."""
        try:
            _write(read(source), calibration, folder / MODEL)
        except Exception as error:  # the library raises anything
            raise ModelError(
                f"{network.file} cannot be made int8 ({type(error).__name__}); use another "
                "--precision"
            ) from error
        return {"tiles": len(calibration)}

    with alone(place.parent, _LONGEST_S):
        keep(place, make)


def _write(model: Any, calibration: Sequence[np.ndarray], path: Path) -> None:
    """Quantise an OpenVINO model and write it."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it draws bars
        import nncf
        import openvino as ov

        nncf.set_log_level(40)
        made = nncf.quantize(model, nncf.Dataset(calibration), subset_size=len(calibration))
        ov.save_model(made, path, compress_to_fp16=False)
