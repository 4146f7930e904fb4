"""Options of the engine. Imports nothing heavy: `voxtile --help` reads it."""

from dataclasses import dataclass
from typing import Literal, get_args

from voxtile.errors import UsageError

from .engine import EngineName, Precision


@dataclass(frozen=True, slots=True)
class Wish:
    """What runs the networks; "auto" leaves the choice to `choose_engine`.

    UsageError if a value is not one of those listed.

    Parameters
    ----------
    engine : {"auto", "keras", "openvino", "onnx"}
        Program that runs the networks.
    precision : {"auto", "float32", "bfloat16", "float16", "int8"}
        Arithmetic of the networks; auto uses a reduced precision only where voxtile models verify
        has measured that it is accurate enough.
    device : str
        Device that runs the networks: auto, cpu, gpu or gpu:N.
    """

    engine: Literal["auto"] | EngineName = "auto"
    precision: Literal["auto"] | Precision = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("engine", self.engine, get_args(EngineName)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in ("auto", *known):
                raise UsageError(f"--{name} {value!r} must be one of auto, {', '.join(known)}")
        kind, colon, number = self.device.partition(":")
        numbered = kind == "gpu" and colon and number.isdecimal()
        if self.device not in ("auto", "cpu", "gpu") and not numbered:
            raise UsageError(f"--device {self.device!r} must be auto, cpu, gpu or gpu:N")
