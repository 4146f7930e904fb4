"""The engines that voxtile knows, and the one that a run has chosen."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from voxtile.errors import EnvironmentFault

if TYPE_CHECKING:  # options are made from these names, and `voxtile --help` must answer at once
    import numpy as np

    from voxtile.models.bundle import Bundle
    from voxtile.models.spec import Network

# From tiles, float32 of shape (n, rows, columns, channels), to predictions, float32 of shape
# (n, rows, columns, classes). The rest of the pipeline knows nothing else of a network.
Model = Callable[["np.ndarray"], "np.ndarray"]

EngineName = Literal["keras", "openvino", "onnx"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True, slots=True)
class EngineKind:
    """What is known of an engine before its module is imported."""

    title: str
    # Module of this package. It has ``load(bundle, network, engine)``, and ``precisions()``, which
    # returns the precisions of this machine's processor, float32 first.
    module: str
    package: str  # its Python package, whose version may change a result
    extra: str  # the extra of voxtile that installs the package; empty if voxtile needs it anyway
    reads: frozenset[str]  # suffixes of the network files that it runs
    devices: tuple[str, ...]  # "cpu", "gpu"
    merit: str  # why ``auto`` chooses it: the rest of a sentence that begins with the title
    without: str = ""  # what voxtile does without it
    # Whether it uses a GPU without being asked to; its module then has ``gpu_count()``.
    seeks_gpu: bool = False
    # Whether it runs files that were made from a network, see `translated` and `quantised`. An
    # engine that runs the network's own file is the reference for it.
    translates: bool = False

    @property
    def installed(self) -> bool:
        """Whether its package is installed."""
        return find_spec(self.package) is not None

    @property
    def install_command(self) -> str:
        """The command that installs it."""
        return f'pip install "voxtile[{self.extra}]"' if self.extra else "pip install -U voxtile"

    def check_installed(self) -> None:
        """Refuse an engine whose package is missing, and say how to install it."""
        if not self.installed:
            raise EnvironmentFault(f"{self.package} is not installed; {self.install_command}")

    def load_module(self) -> ModuleType:
        """Return its module, which is slow to import."""
        return import_module(f".{self.module}", __package__)


# ``auto`` takes the first that is installed, reads the networks and has the device.
ENGINES: dict[EngineName, EngineKind] = {
    "openvino": EngineKind(
        title="OpenVINO",
        module="openvino_engine",
        package="openvino",
        extra="openvino",
        reads=frozenset({".keras", ".onnx"}),
        devices=("cpu",),
        merit="is the fastest on a processor",
        without="networks run in Keras, which is slower on a processor",
        translates=True,
    ),
    "keras": EngineKind(
        title="Keras",
        module="keras_engine",
        package="keras",
        extra="",
        reads=frozenset({".keras"}),
        devices=("cpu", "gpu"),
        merit="runs .keras networks on every device",
        seeks_gpu=True,
    ),
    "onnx": EngineKind(
        title="ONNX Runtime",
        module="onnx_engine",
        package="onnxruntime",
        extra="onnx",
        reads=frozenset({".onnx"}),
        devices=("cpu", "gpu"),
        merit="runs .onnx networks on every device",
        without="models are neither exported to ONNX nor imported",
    ),
}


def engines_for(suffixes: Collection[str]) -> list[EngineName]:
    """Return the engines that run networks of all these suffixes, as ``auto`` prefers them."""
    return [name for name, kind in ENGINES.items() if kind.reads.issuperset(suffixes)]


def reference_engine(network: "Network") -> EngineName:
    """Return the engine that runs a network's own file."""
    suffix = Path(network.file).suffix
    return next(name for name in engines_for({suffix}) if not ENGINES[name].translates)


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs the networks of a run; part of every case's fingerprint."""

    name: EngineName | Literal["callable"]  # "callable": functions that the caller gave
    # Precision of the arithmetic inside; tiles and probabilities are always float32.
    precision: Precision = "float32"
    device: str = "cpu"  # "cpu", "gpu", or "gpu:N" for GPU number N, from 0
    # Versions of the packages that compute, because another version may round differently.
    versions: tuple[tuple[str, str], ...] = ()
    # Why it was chosen, for people; it changes no result.
    reason: str = field(default="", compare=False)

    def decisive(self) -> dict[str, str]:
        """Return what may change a result: neither the reason, nor the number of the GPU."""
        return {
            "engine": self.name,
            "precision": self.precision,
            "device": self.device.partition(":")[0],
            **dict(self.versions),
        }

    def facts(self) -> dict[str, str]:
        """Return its entry in ``run.json``."""
        return {**self.decisive(), "device": self.device, "reason": self.reason}

    def __str__(self) -> str:
        """Return the engine as people write it: ``openvino float32 cpu``."""
        return f"{self.name} {self.precision} {self.device}"


CALLABLE = Engine("callable")


def load_models(bundle: "Bundle", engine: Engine) -> tuple[Model, ...]:
    """Return one model for each network of a bundle, in the spec's order.

    Each model takes any number of tiles, of any size that the network allows, and is compiled once
    for each size. ModelError if a network does not fit the spec, or the engine cannot build it;
    EnvironmentFault if the device is missing or cannot compute in the engine's precision.
    """
    if engine.name == "callable":
        raise ValueError("functions of the caller are not loaded from a bundle")
    module = ENGINES[engine.name].load_module()
    return tuple(module.load(bundle, network, engine) for network in bundle.spec.networks)
