"""From what was asked for, "auto" among it, to one engine for a whole run.

It is decided before the first case, by the process that drives the batch:
nothing heavy is imported here.
"""

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from voxtile.errors import EnvironmentFault, ModelError
from voxtile.models.backend_name import backend_name
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

from .engine import Engine, EngineName, Precision
from .measurements import PACKAGES, accepted_precision
from .quantised import digest_name, quantised_digest
from .translated import SOURCES, ensure

_PROBE_S = 120.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for.

    Parameters
    ----------
    engine : {"auto", "keras", "openvino", "onnx"}
    precision : {"auto", "float32", "bfloat16", "float16", "int8"}
    device : str
        "auto", "cpu", "gpu" or "gpu:N".

    Raises
    ------
    ValueError
        If one is not known.
    """

    engine: EngineName | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        for what, chosen, known in (
            ("engine", self.engine, get_args(EngineName)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if chosen not in ("auto", *known):
                raise ValueError(f"--{what} {chosen!r} must be one of auto, {', '.join(known)}")
        kind, colon, number = self.device.partition(":")
        if self.device not in ("auto", "cpu", "gpu") and not (
            kind == "gpu" and colon and number.isdecimal()
        ):
            raise ValueError(f"--device {self.device!r} must be auto, cpu, gpu or gpu:N")


def choose_engine(bundle: Bundle, wish: Wish | None = None) -> Engine:
    """Return the engine that a run uses, by written rules.

    - device: a GPU where Keras finds one, else the processor.
    - engine: on a GPU Keras. On a processor OpenVINO where it is installed
      and says what Keras says (looked at when a network is exported, which is
      done here, once), else Keras;
      ONNX Runtime for ``.onnx`` networks where OpenVINO is not there.
    - precision: float32, unless `voxtile models verify` has shown for this
      model on this kind of processor that a reduced one is faster and changes
      the mean Dice by less than 0.001 and fewer than 1 in 1000 labels.

    Parameters
    ----------
    bundle : Bundle
    wish : Wish, optional
        Everything "auto" unless given.

    Returns
    -------
    Engine
        Also says why.

    Raises
    ------
    ModelError
        If the engine cannot run such networks.
    EnvironmentFault
        If the engine or the device is not there.
    """
    wish = wish or Wish()
    networks = [(one, network) for one in bundle.members for network in one.spec.networks]
    foreign = any(network.file.endswith(".onnx") for _, network in networks)
    device, why = _device(wish, foreign=foreign)
    name = wish.engine
    if name == "auto":
        name, reason = _engine(device, foreign=foreign)
        why.append(reason)
    if name == "keras" and foreign:
        raise ModelError(f"{bundle.folder}: Keras cannot run .onnx; use --engine openvino or onnx")
    mixed = foreign and not all(network.file.endswith(".onnx") for _, network in networks)
    if name == "onnx" and (mixed or not foreign):
        raise ModelError(
            f"{bundle.folder}: --engine onnx runs .onnx networks; this bundle has .keras (make one "
            "with voxtile models export and models import), which keras and openvino run"
        )
    if name == "openvino" and device != "cpu":
        raise EnvironmentFault("OpenVINO is used on processors only; use --engine keras on a GPU")
    package = PACKAGES[name]
    if find_spec(package) is None:
        raise EnvironmentFault(
            f"{package} is not installed; pip install "
            + (f'"voxtile[{name}]"' if name != "keras" else "--upgrade voxtile")
        )
    if name == "openvino":
        try:
            _export(networks)
        except (ModelError, EnvironmentFault) as error:
            if wish.engine != "auto":
                raise
            name = "onnx" if foreign else "keras"
            package = PACKAGES[name]
            why = [str(error).partition("; use --engine")[0]]
    precision = wish.precision
    if precision == "auto":
        found = accepted_precision(bundle, name, device.partition(":")[0])
        precision = found or "float32"
        why.append(
            f"{precision}: verified for this model here"
            if found
            else "float32: nothing else is verified for this model here"
        )
    versions = [(package, version(package))]
    if precision == "int8":
        versions += _int8(bundle, name)
    if name == "openvino" and not foreign:  # these wrote what OpenVINO reads
        versions += [(source, _installed(source)) for source in SOURCES[".keras"][1:]]
    if name == "keras":
        backend = backend_name()
        versions.append(("backend", backend))
        if find_spec(backend) is not None:
            versions.append((backend, _installed(backend)))
    return Engine(name, precision, device, tuple(versions), "; ".join(why))


def _export(networks: Iterable[tuple[Bundle, Network]]) -> None:
    """Export and check each network for OpenVINO, unless it was before."""
    for bundle, network in networks:
        ensure(bundle, network)


def _int8(bundle: Bundle, name: EngineName) -> list[tuple[str, str]]:
    """Return what identifies the networks in integers; they are made with tiles of scans."""
    if name != "openvino":
        raise EnvironmentFault(f"{name} does not compute in int8; use --engine openvino")
    found = []
    for member in bundle.members:
        digest = quantised_digest(member)
        if digest is None:
            raise EnvironmentFault(
                f"{member.name} has no int8 networks here; voxtile models verify MODEL MANIFEST "
                "makes them and measures what they change"
            )
        found.append((digest_name(member), digest))
    return found


def _engine(device: str, *, foreign: bool) -> tuple[EngineName, str]:
    """Return the engine for a device, and why."""
    if device != "cpu":
        return ("onnx", "ONNX networks") if foreign else ("keras", "Keras runs on the GPU")
    if find_spec("openvino") is not None:
        return "openvino", "OpenVINO is the fastest on a processor"
    if foreign:
        return "onnx", "ONNX networks, and OpenVINO is not installed"
    return "keras", "OpenVINO is not installed"


def _device(wish: Wish, *, foreign: bool) -> tuple[str, list[str]]:
    """Return the device, and why."""
    if wish.device != "auto":
        return wish.device, []
    if wish.engine in ("openvino", "onnx") or foreign or not Path("/dev/nvidiactl").exists():
        return "cpu", []
    if _sees_gpu():
        return "gpu", []
    return "cpu", [f"Keras with {backend_name()} sees no GPU, though the machine has one"]


def _sees_gpu() -> bool:
    """Whether Keras' backend finds a GPU; asked in a process of its own, to keep this one small."""
    program = "from voxtile.engines.keras_engine import gpu_count; print(gpu_count())"
    try:
        answer = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=True,
        )
        return int(answer.stdout.split()[-1]) > 0
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return False


def _installed(package: str) -> str:
    """Return a version; a package that is there without metadata is "unknown"."""
    try:
        return version(package)
    except ModuleNotFoundError:
        return "unknown"
