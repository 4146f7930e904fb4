"""The cache of exported networks: each ``.keras`` file is translated once, checked, and kept.

    <cache>/networks/<key>/
      model.xml, model.bin    the network as OpenVINO reads it
      entry.json              SHA-256 of both, how far it is from Keras; or why it was refused

The key is made of all that decides the translation: the network's bytes, and
the versions of what reads and writes. An ``.onnx`` network needs none, but is
checked as well, against ONNX Runtime. Translating needs TensorFlow, which
takes 600 MB and seconds to start, so a process of its own does it: one that
runs OpenVINO never imports it.
"""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from voxtile.errors import EnvironmentFault
from voxtile.files import write_json
from voxtile.lifeline import command
from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelError, Network

from .cache import cache_folder

# Most difference of a probability from Keras' in float32, for an export to be used.
TOLERANCE = 1e-4
MODEL, ENTRY = "model.xml", "entry.json"
# What an export is made and checked with, by the kind of network.
SOURCES = {
    ".keras": ("openvino", "keras", "tensorflow"),
    ".onnx": ("openvino", "onnxruntime"),
}

# Another number whenever the way of exporting changes.
_FORMAT = 1
_MOST_BYTES = 2 * 10**9
# What was used so recently may be about to be read by another process.
_IN_USE_S = 3600.0
_EXPORT_S = 600.0


def ensure(bundle: Bundle, network: Network) -> Path:
    """Return the exported network, made and checked now unless it is there and sound.

    Parameters
    ----------
    bundle : Bundle
    network : Network
        One of the bundle's. An ``.onnx`` one is only checked.

    Returns
    -------
    Path
        ``model.xml``, with ``model.bin`` beside it.

    Raises
    ------
    ModelError
        If it cannot be translated, or says something else than Keras does.
    EnvironmentFault
        If the process that translates cannot run, or there is no room.
    """
    import filelock

    folder = cache_folder() / "networks"
    place = folder / _key(network)
    entry = _sound(place)
    if entry is None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with filelock.FileLock(folder / ".lock", timeout=2 * _EXPORT_S):
                entry = _sound(place)  # another process may have made it while we waited
                if entry is None:
                    entry = _make(bundle, network, place)
                    _trim(folder, place)
        except filelock.Timeout as error:
            raise EnvironmentFault(
                f"another process holds {folder / '.lock'} for longer than any export takes; "
                "end it, or set VOXTILE_CACHE to another folder"
            ) from error
    if "refused" in entry:
        raise ModelError(str(entry["refused"]))
    with suppress(OSError):
        os.utime(place)  # the oldest are removed first
    return place / MODEL


def _key(network: Network) -> str:
    """Return the name under which an export is kept."""
    parts = [str(_FORMAT), network.sha256]
    for package in SOURCES[Path(network.file).suffix]:
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} none")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sound(place: Path) -> dict[str, Any] | None:
    """Return what is known of a kept export; None if it is not there or not what was written."""
    try:
        entry = json.loads((place / ENTRY).read_bytes())
        if "refused" in entry:
            return {"refused": str(entry["refused"])}
        for name, digest in entry["sha256"].items():
            with (place / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return None
        return dict(entry)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _make(bundle: Bundle, network: Network, place: Path) -> dict[str, Any]:
    """Translate a network, check it, and put it in its place whole; return what is known of it."""
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
    try:
        entry = ask_child("openvino", bundle, network, work)
        entry["sha256"] = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in work.iterdir()
        }
        write_json(work / ENTRY, entry)
        shutil.rmtree(place, ignore_errors=True)  # a damaged one
        work.rename(place)
        return entry
    except OSError as error:
        raise EnvironmentFault(
            f"{place.parent} cannot be written ({error.strerror or error}); free space there, or "
            "set VOXTILE_CACHE to another folder"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def ask_child(form: str, bundle: Bundle, network: Network, folder: Path) -> dict[str, Any]:
    """Let a process of its own translate a network.

    Parameters
    ----------
    form : {"openvino", "onnx", "savedmodel"}
    bundle : Bundle
    network : Network
    folder : Path
        Gets the files.

    Returns
    -------
    dict
        "difference", how far it is from its reference; or "refused", why.

    Raises
    ------
    EnvironmentFault
        If the process cannot run, or dies.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # The one backend whose graph OpenVINO reads; another is no reason to go without.
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    program = command("from voxtile.engines.exporting import serve; serve()")
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
            f"{network.file} could not be exported ({type(error).__name__}); use --engine keras"
        ) from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    except (ValueError, IndexError) as error:
        lines = done.stderr.decode(errors="replace").splitlines()
        raise EnvironmentFault(
            f"the process that exports {network.file} died (exit code {done.returncode}"
            f"{', ' + lines[-1][:200] if lines else ''}); use --engine keras"
        ) from error


def _trim(folder: Path, kept: Path) -> None:
    """Remove the exports that were not used for longest, until the rest are small enough."""
    entries = []
    for place in folder.iterdir():
        with suppress(OSError):  # another process may remove it
            if place.is_dir():
                size = sum(file.stat().st_size for file in place.iterdir())
                entries.append((place.stat().st_mtime, size, place))
    total = sum(size for _, size, _ in entries)
    for used, size, place in sorted(entries):
        if total <= _MOST_BYTES:
            return
        if place != kept and time.time() - used > _IN_USE_S:
            shutil.rmtree(place, ignore_errors=True)
            total -= size
