"""An engine: the program, precision and device that run a network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

# From a batch of tiles, float32 of shape (n, rows, columns, channels), to predictions, float32 of
# shape (n, rows, columns, classes). The rest of the pipeline knows no more of a network.
Model = Callable[["np.ndarray"], "np.ndarray"]

EngineName = Literal["keras", "openvino", "onnx"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs the networks of a run; part of every case's fingerprint.

    Parameters
    ----------
    name : {"keras", "openvino", "onnx", "callable"}
        "callable": functions that the caller gave.
    precision : {"float32", "bfloat16", "float16", "int8"}
        Of the arithmetic inside; tiles and probabilities are always float32.
    device : str
        "cpu", "gpu", or "gpu:N" for the N-th from 0.
    versions : tuple of (package, version)
        Of what computes: another version may round otherwise.
    reason : str
        Why it was chosen, for people; decides nothing.
    """

    name: EngineName | Literal["callable"]
    precision: Precision = "float32"
    device: str = "cpu"
    versions: tuple[tuple[str, str], ...] = ()
    reason: str = field(default="", compare=False)

    def decisive(self) -> dict[str, str]:
        """Return what decides a result: all but the reason; which of several GPUs does not."""
        return {
            "engine": self.name,
            "precision": self.precision,
            "device": self.device.partition(":")[0],
            **dict(self.versions),
        }

    def facts(self) -> dict[str, str]:
        """Return what ``run.json`` says of it."""
        return {**self.decisive(), "device": self.device, "reason": self.reason}

    def __str__(self) -> str:
        """Return it as people write it: ``openvino float32 cpu``."""
        return f"{self.name} {self.precision} {self.device}"


CALLABLE = Engine("callable")
