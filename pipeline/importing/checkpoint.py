"""Read a checkpoint of PyTorch as arrays, without running code that it holds.

A checkpoint is a pickle, which can run any code when it is loaded. PyTorch reads it with
``weights_only``: tensors, plain values, and the few types of NumPy that nnU-Net stores beside
them. PyTorch takes 300 MB and does not go well with TensorFlow in one process, so another
process does it.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.errors import EnvironmentFault, ModelError
from voxtile.machine.files import regular
from voxtile.machine.processes import command

_LOADING_S = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a model needs of a checkpoint of nnU-Net."""

    arrays: dict[str, np.ndarray]  # the network's weights by their names
    trainer: str  # name of the class that trained it
    # Axes of a plane (0 rows, 1 columns) along which nnU-Net mirrors it as well.
    mirroring: tuple[int, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the weights of a checkpoint.

    ModelError if it holds anything but numbers and plain values; EnvironmentFault without PyTorch.
    """
    regular(path)
    if find_spec("torch") is None:
        raise EnvironmentFault(
            f"{path} needs PyTorch to be read, which is not installed; "
            'pip install "voxtile[nnunet]" (only to import; the new model runs without it)'
        )
    with tempfile.TemporaryDirectory(prefix="voxtile-") as folder:
        stored = Path(folder, "arrays.npz")
        program = "from voxtile.importing.checkpoint import serve; serve()"
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", command(program), str(path), str(stored)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                capture_output=True,
                timeout=_LOADING_S,
                check=False,
            )
            answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
            raise EnvironmentFault(
                f"the process that reads {path} failed ({type(error).__name__}); check the memory "
                "and the installation of PyTorch"
            ) from error
        if "refused" in answer:
            raise ModelError(f"{path} {answer['refused']}")
        with np.load(stored, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    return Checkpoint(found, str(answer["trainer"]), tuple(map(int, answer["mirroring"])))


def serve() -> None:
    """Run as the child: write the arrays to a file, and an answer to standard output."""
    path, stored = map(Path, sys.argv[1:3])
    try:
        answer = _extracted(path, stored)
    except Exception as error:  # PyTorch raises errors of many types for a damaged file
        answer = {
            "refused": f"cannot be read without running code that it may hold, or is damaged "
            f"({type(error).__name__}); use a checkpoint that nnU-Net v2 wrote"
        }
    print(json.dumps(answer))


def _extracted(path: Path, stored: Path) -> dict[str, Any]:
    """Write the arrays of a checkpoint to a file; return what else is needed of it."""
    import torch

    # nnU-Net's log of losses, which is not used, has single numbers of NumPy.
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    types = {type(np.dtype(kind)) for kind in ("f8", "f4", "f2", "i8", "i4", "?")}
    allowed = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *types]
    with torch.serialization.safe_globals(allowed):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    weights = checkpoint.get("network_weights") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict):
        return {"refused": "has no network_weights; use a checkpoint that nnU-Net v2 wrote"}
    np.savez(stored, **{name: value.float().numpy() for name, value in weights.items()})
    return {
        "trainer": checkpoint.get("trainer_name", ""),
        "mirroring": checkpoint.get("inference_allowed_mirroring_axes") or (),
    }
