"""The cache of translated networks: each ``.keras`` file is translated and checked once.

    <cache>/networks/<key>/
      model.xml, model.bin    the network as OpenVINO reads it
      entry.json              SHA-256 of both, largest difference from Keras; or why it was refused

The key is a hash of everything that changes the translation: the network's
bytes, and the versions of the programs that read and write it. An ``.onnx``
network is not translated, but its output is compared with ONNX Runtime's.
Translating needs TensorFlow, which takes 600 MB and seconds to start. So
another process does it; a process that runs OpenVINO never imports TensorFlow.
"""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

from voxtile.errors import EnvironmentFault, ModelError
from voxtile.machine.cache import cache_folder
from voxtile.machine.processes import command
from voxtile.machine.versions import installed_version
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

from .cached_networks import REFUSED, alone, digest_of, read_entry, write_entry
from .engine import reference_engine

# An export is used if its probabilities differ by at most this from Keras' in float32.
TOLERANCE = 1e-4
MODEL = "model.xml"
FILES = (MODEL, "model.bin")
# Packages that make and check an export, by the suffix of the network.
SOURCES = {".keras": ("openvino", "keras", "tensorflow"), ".onnx": ("openvino", "onnxruntime")}

# Increased whenever the way of exporting changes.
_FORMAT = 1
_EXPORT_S = 600.0


def ensure(bundle: Bundle, network: Network) -> Path:
    """Return the exported network; it is made and checked unless the cache has it.

    An ``.onnx`` network is only checked. The path is that of ``model.xml``, with ``model.bin``
    beside it. ModelError if it cannot be translated, or its output differs from Keras';
    EnvironmentFault if the process that translates cannot run, or the disk is full.
    """
    folder = cache_folder("networks")
    path = folder / _key(network)
    entry = _read(path, network)
    if entry is None:
        with alone(folder, 2 * _EXPORT_S):
            # Another process may have made it while this one waited.
            try:
                entry = _read(path, network) or write_entry(
                    path, lambda work: ask_child("openvino", bundle, network, work)
                )
            except EnvironmentFault as error:
                raise EnvironmentFault(
                    f"{error}; use --engine {reference_engine(network)}"
                ) from error
    if REFUSED in entry:
        raise ModelError(str(entry[REFUSED]))
    return path / MODEL


def translation_digest(bundle: Bundle) -> str | None:
    """Return what identifies a bundle's translated networks; None if one is missing.

    Other members of an ensemble are ignored.
    """
    folder = cache_folder("networks")
    entries = [_read(folder / _key(network), network) for network in bundle.spec.networks]
    found = [entry for entry in entries if entry is not None and REFUSED not in entry]
    return digest_of(iter(found)) if len(found) == len(entries) else None


def translation_name(bundle: Bundle) -> str:
    """Return the key of a bundle's `translation_digest` in the versions of an engine."""
    return f"translation of {bundle.sha256[:12]}"


def _read(path: Path, network: Network) -> dict[str, Any] | None:
    """Return the cached entry of a network; None if it is missing or not valid."""
    entry = read_entry(path, FILES if network.file.endswith(".keras") else ())
    if entry is None or REFUSED in entry or entry.get("difference", 1.0) <= TOLERANCE:
        return entry
    return None


def _key(network: Network) -> str:
    """Return the name of an export in the cache."""
    parts = [str(_FORMAT), network.sha256]
    for package in SOURCES[Path(network.file).suffix]:
        parts.append(f"{package} {installed_version(package) or 'none'}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def ask_child(form: str, bundle: Bundle, network: Network, folder: Path) -> dict[str, Any]:
    """Translate a network in another process.

    The files are written to `folder`. The answer has "difference", the largest one from the
    reference; or "refused", the reason. EnvironmentFault if the process cannot run, dies, or lacks
    memory. None of these is a fault of the network, so they are never cached as a refusal.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # OpenVINO reads only this backend's graph, so the user's choice does not count here.
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    program = command("from voxtile.engines.translating import serve; serve()")
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            input=pickle.dumps((form, bundle, network, folder)),
            env=environment,
            capture_output=True,
            timeout=_EXPORT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(
            f"{network.file} could not be exported ({type(error).__name__})"
        ) from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        lines = done.stderr.decode(errors="replace").splitlines()
        raise EnvironmentFault(
            f"the process that exports {network.file} died (exit code {done.returncode}"
            f"{', ' + lines[-1][:200] if lines else ''})"
        ) from error
    if "fault" in answer:
        raise EnvironmentFault(str(answer["fault"]))
    return answer
