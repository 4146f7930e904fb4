"""What this machine has and lacks, one line each, with the command that mends it."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from voxtile.models.backend_name import backend_name
from voxtile.version import __version__

_NEEDED = ("numpy", "scipy", "nibabel", "pydicom", "highdicom", "keras")
# Import name, and the transfer syntaxes that it decodes.
_CODECS = {
    "openjpeg": "JPEG 2000",
    "jpeg_ls": "JPEG-LS",
    "gdcm": "JPEG and JPEG lossless",
}
_LEAST_KERAS = (3, 14)
_LEAST_FREE_GB, _LEAST_MEMORY_GB = 1.0, 2.0
# How /proc/cpuinfo calls the units that make bfloat16 and int8 fast.
_UNITS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 bf16", "amx_bf16": "AMX"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination.

    Parameters
    ----------
    good : bool
        False only for what stops voxtile from working.
    words : str
    remedy : str
        A command, or what else to do; empty where nothing is lacking.
    """

    good: bool
    words: str
    remedy: str = ""

    def __str__(self) -> str:
        mark = "ok " if self.good and not self.remedy else "-- " if self.good else "BAD"
        return f"{mark} {self.words}" + (f"; {self.remedy}" if self.remedy else "")


def examine(out: Path) -> Iterator[Finding]:
    """Yield what is found, one line each.

    Parameters
    ----------
    out : Path
        Where results would go.
    """
    yield Finding(True, f"voxtile {__version__}, Python {sys.version.split()[0]}")
    yield from _packages()
    yield _backend()
    yield _gpu()
    yield _units()
    yield from _codecs()
    yield from _extras()
    yield _memory()
    yield _writable(out)
    yield _disk(out)
    yield _temporary()


def _packages() -> Iterator[Finding]:
    """Yield versions."""
    found = {name: _version(name) for name in _NEEDED}
    missing = [name for name, installed in found.items() if installed is None]
    yield Finding(True, ", ".join(f"{name} {got}" for name, got in found.items() if got))
    if missing:
        yield Finding(False, f"{', '.join(missing)} missing", "pip install --upgrade voxtile")
    keras = found["keras"]
    if keras and tuple(int(part) for part in keras.split(".")[:2]) < _LEAST_KERAS:
        yield Finding(
            False,
            f"keras {keras} has known ways to run code from a model file",
            'pip install "keras>=3.14"',
        )


def _backend() -> Finding:
    """Return what runs the networks."""
    backend = backend_name()
    if find_spec(backend) is None:
        return Finding(
            False,
            f"Keras is set to the backend {backend}, which is not installed",
            f"pip install {backend}, or unset KERAS_BACKEND",
        )
    return Finding(True, f"Keras backend {backend} {_version(backend) or 'of unknown version'}")


def _gpu() -> Finding:
    """Return whether a graphics processor can be used; the driver answers, no network is built."""
    if not Path("/dev/nvidiactl").exists():
        return Finding(True, "no NVIDIA GPU: networks run on the processor")
    if find_spec("nvidia") is None:
        return Finding(
            True, "an NVIDIA GPU, but no CUDA for TensorFlow", 'pip install "voxtile[gpu]"'
        )
    return Finding(True, "an NVIDIA GPU and CUDA")


def _units() -> Finding:
    """Return what the processor computes fast."""
    from voxtile.batch.settings import machine_cores

    try:
        flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].split("\n")[0].split())
    except OSError:
        flags = set()
    units = [name for flag, name in _UNITS.items() if flag in flags]
    return Finding(True, f"{machine_cores()} cores" + (f", {', '.join(units)}" if units else ""))


def _codecs() -> Iterator[Finding]:
    """Yield which compressed DICOM can be read."""
    missing = [what for name, what in _CODECS.items() if find_spec(name) is None]
    if missing:
        yield Finding(
            True,
            f"compressed DICOM cannot be read: {', '.join(missing)}",
            'pip install "voxtile[dicom-codecs]"',
        )
    else:
        yield Finding(True, "codecs for JPEG, JPEG lossless, JPEG-LS and JPEG 2000")


def _extras() -> Iterator[Finding]:
    """Yield what is optional and not there."""
    if find_spec("distributed") is None:
        yield Finding(
            True, "no Dask: cases run on this machine only", 'pip install "voxtile[distributed]"'
        )
    else:
        yield Finding(True, f"Dask {_version('distributed')}")
    for package, extra, without in (
        ("openvino", "openvino", "networks run in Keras, which is slower on a processor"),
        ("onnxruntime", "onnx", "models are neither exported to ONNX nor imported"),
    ):
        if find_spec(package) is None:
            yield Finding(True, f"no {package}: {without}", f'pip install "voxtile[{extra}]"')
        else:
            yield Finding(True, f"{package} {_version(package)}")


def _memory() -> Finding:
    """Return the memory that is there."""
    from voxtile.machine.memory import total_memory_mb

    total = total_memory_mb() / 1e3
    free = total
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = min(total, float(line.split()[1]) * 1024 / 1e9)
    except OSError:
        pass
    words = f"{free:.1f} of {total:.1f} GB memory free"
    if free < _LEAST_MEMORY_GB:
        return Finding(False, words, f"end other programs: {_LEAST_MEMORY_GB:g} GB are needed")
    return Finding(True, words)


def _writable(out: Path) -> Finding:
    """Return whether results can be written, by writing."""
    from voxtile.errors import EnvironmentFault
    from voxtile.machine.files import remove, write_text

    if not out.exists():
        out = next(parent for parent in out.absolute().parents if parent.exists())
    probe = out / f".probe-{os.getpid()}"
    try:
        write_text(probe, "")
        remove(probe)
    except EnvironmentFault as error:
        return Finding(False, str(error), f"chmod u+w {out}, or name another folder with --out")
    return Finding(True, f"{out.absolute()} can be written")


def _disk(out: Path) -> Finding:
    """Return the room on the disk."""
    place = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e9
    words = f"{free:.1f} GB free on the disk of {place}"
    if free < _LEAST_FREE_GB:
        return Finding(False, words, "make room, or name another folder with --out")
    return Finding(True, words)


def _temporary() -> Finding:
    """Return whether there is a place for temporary files: networks are loaded through one."""
    try:
        with tempfile.TemporaryFile():
            return Finding(True, f"temporary files in {tempfile.gettempdir()}")
    except OSError as error:
        return Finding(
            False, f"no place for temporary files ({error.strerror})", "set TMPDIR to a folder"
        )


def _version(name: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
