"""Choose one engine for a run from options such as ``--engine auto``; imports nothing heavy."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from voxtile.errors import EnvironmentFault, ModelError
from voxtile.machine.cache import cache_problem
from voxtile.machine.versions import installed_version
from voxtile.models.backend_name import backend_name
from voxtile.models.bundle import Bundle

from .engine import ENGINES, Engine, EngineName, Precision, engines_for, reference_engine
from .measurements import accepted_precision
from .options import Wish as Wish
from .quantised import digest_name, kept_layers, quantised_digest
from .translated import SOURCES, ensure, translation_digest, translation_name

_PROBE_S = 120.0


def choose_engine(bundle: Bundle, wish: Wish | None = None) -> Engine:
    """Return the engine that a run uses, by these rules.

    - device: a GPU if Keras finds one, else the processor.
    - engine: Keras on a GPU. OpenVINO on a processor, if it is installed and
      its translation of each network gives the same output as Keras (compared
      once, when a network is translated), else Keras. ONNX Runtime for
      ``.onnx`` networks if OpenVINO is not installed.
    - precision: float32, unless `voxtile models verify` has shown that for this
      model and this kind of processor a reduced one is faster, and changes
      the mean Dice by less than 0.001 and fewer than 1 in 1000 labels.

    The result has the reason for the choice. ModelError if the engine cannot run the
    networks; EnvironmentFault if it is not installed, or the device is missing.
    """
    wish = wish or Wish()
    networks = [(one, network) for one in bundle.members for network in one.spec.networks]
    suffixes = {Path(network.file).suffix for _, network in networks}
    device, why = _device(wish, suffixes)
    if wish.engine == "auto":
        name, reason = _preferred(bundle, suffixes, device)
        why.append(reason)
    else:
        name = wish.engine
    _check(bundle, name, suffixes, device)
    if ENGINES[name].translates:
        try:
            for one, network in networks:
                ensure(one, network)
        except (ModelError, EnvironmentFault) as error:
            if wish.engine != "auto":
                raise
            name = reference_engine(networks[0][1])
            why = [str(error).partition("; use --engine")[0]]
        if problem := cache_problem("networks"):
            why.append(problem)
    precision = wish.precision
    if precision == "auto":
        found = accepted_precision(bundle, name, device)
        precision = found or "float32"
        why.append(
            f"{precision}: verified for this model here"
            if found
            else "float32: no other precision is verified for this model here"
        )
    versions = _versions(bundle, name, precision, suffixes)
    if precision == "int8":
        why += [
            f"{rest} in {', '.join(kept)}"
            for kept, rest in dict.fromkeys(kept_layers(network) for _, network in networks)
            if kept
        ]
    return Engine(name, precision, device, versions, "; ".join(why))


def _preferred(bundle: Bundle, suffixes: set[str], device: str) -> tuple[EngineName, str]:
    """Return the engine that ``auto`` takes for some networks on a device, and why."""
    able = [
        name for name in engines_for(suffixes) if device.partition(":")[0] in ENGINES[name].devices
    ]
    if not able:
        raise ModelError(
            f"{bundle.folder} has {' and '.join(sorted(suffixes))} networks, which no engine runs "
            f"together on {device}; use --device cpu, or models of one kind"
        )
    missing = [name for name in able if not ENGINES[name].installed]
    name = next((name for name in able if name not in missing), able[-1])
    better = able[: able.index(name)]
    return name, f"{ENGINES[name].title} {ENGINES[name].merit}" + "".join(
        f", and {ENGINES[other].title} is not installed" for other in better
    )


def _check(bundle: Bundle, name: EngineName, suffixes: set[str], device: str) -> None:
    """Refuse an engine that is missing, or cannot run such networks or use this device."""
    kind = ENGINES[name]
    if not kind.reads.issuperset(suffixes):
        others = " or ".join(sorted(engines_for(suffixes)))
        raise ModelError(
            f"{bundle.folder}: {kind.title} cannot run {', '.join(sorted(suffixes - kind.reads))} "
            f"networks; use --engine {others}"
            + (
                ", or make a bundle of .onnx networks with voxtile models export --format onnx"
                if kind.reads == {".onnx"}
                else ""
            )
        )
    if device.partition(":")[0] not in kind.devices:
        others = " or ".join(
            other for other in engines_for(suffixes) if "gpu" in ENGINES[other].devices
        )
        raise EnvironmentFault(
            f"{kind.title} runs on processors only, not on --device {device}; use "
            + (f"--engine {others}" if others else "--device cpu")
        )
    kind.check_installed()


def _versions(
    bundle: Bundle, name: EngineName, precision: Precision, suffixes: set[str]
) -> tuple[tuple[str, str], ...]:
    """Return the version of everything that may change a result."""
    package = ENGINES[name].package
    versions = [(package, _installed(package))]
    if precision == "int8":
        versions += _int8(bundle, name)
    if ENGINES[name].translates and suffixes == {".keras"}:  # they wrote the translation
        versions += [(source, _installed(source)) for source in SOURCES[".keras"][1:]]
        if precision != "int8":
            versions += [
                (translation_name(member), translation_digest(member) or "missing")
                for member in bundle.members
            ]
    if name == "keras":
        backend = backend_name()
        versions.append(("backend", backend))
        if find_spec(backend) is not None:
            versions.append((backend, _installed(backend)))
    return tuple(versions)


def _int8(bundle: Bundle, name: EngineName) -> list[tuple[str, str]]:
    """Return names and digests of the int8 networks, which were made with tiles of scans."""
    if not ENGINES[name].translates:
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


def _device(wish: Wish, suffixes: set[str]) -> tuple[str, list[str]]:
    """Return the device, and why it was chosen."""
    if wish.device != "auto":
        return wish.device, []
    names = engines_for(suffixes) if wish.engine == "auto" else [wish.engine]
    seeking = [name for name in names if ENGINES[name].seeks_gpu]
    if not seeking or not Path("/dev/nvidiactl").exists():
        return "cpu", []
    if _sees_gpu(seeking[0]):
        return "gpu", []
    return "cpu", [f"Keras with {backend_name()} finds no GPU, though the machine has one"]


def _sees_gpu(name: EngineName) -> bool:
    """Whether an engine finds a GPU; another process checks, to keep this one small."""
    program = f"from voxtile.engines.{ENGINES[name].module} import gpu_count; print(gpu_count())"
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
    """Return the version of a package, "unknown" if it is installed without metadata."""
    return installed_version(package) or "unknown"
