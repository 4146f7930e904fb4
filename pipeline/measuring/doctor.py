"""Check what this machine has and lacks, one line each, with the command that fixes it."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from voxtile.engines.short_numbers import gains
from voxtile.errors import counted
from voxtile.machine.memory import free_memory_mb, total_memory_mb
from voxtile.machine.processors import processor_count, processor_model
from voxtile.machine.versions import installed_version
from voxtile.models.backend_name import backend_name, has_cuda
from voxtile.version import __version__

_NEEDED = ("numpy", "scipy", "nibabel", "pydicom", "highdicom", "keras")
# Packages, and the compression that they decode.
_CODECS = {"openjpeg": "JPEG 2000", "jpeg_ls": "JPEG-LS", "gdcm": "JPEG and JPEG lossless"}
_LEAST_KERAS = (3, 14)
_LEAST_FREE_GB, _LEAST_MEMORY_GB = 1.0, 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    good: bool  # False only if voxtile cannot work
    words: str  # what was found
    remedy: str = ""  # a command or another action; empty if nothing is missing

    def __str__(self) -> str:
        mark = "ok " if self.good and not self.remedy else "-- " if self.good else "BAD"
        return f"{mark} {self.words}" + (f"; {self.remedy}" if self.remedy else "")


def examine(out: Path) -> Iterator[Finding]:
    """Yield the findings, one line each.

    `out` is the folder of the results.
    """
    yield Finding(True, f"voxtile {__version__}, Python {sys.version.split()[0]}")
    yield from _packages()
    yield _backend()
    yield _gpu()
    yield from _arithmetic()
    yield from _codecs()
    yield from _extras()
    yield _memory()
    yield _writable(out)
    yield _disk(out)
    yield _temporary()


def _packages() -> Iterator[Finding]:
    """Yield the versions of the packages that voxtile needs, and the missing packages."""
    found = {name: installed_version(name) for name in _NEEDED}
    missing = [name for name, installed in found.items() if installed is None]
    yield Finding(True, ", ".join(f"{name} {got}" for name, got in found.items() if got))
    if missing:
        yield Finding(False, f"{', '.join(missing)} missing", "pip install --upgrade voxtile")
    keras = found["keras"]
    if keras and tuple(int(part) for part in keras.split(".")[:2]) < _LEAST_KERAS:
        yield Finding(
            False,
            f"keras {keras} has published vulnerabilities: a model file can run code",
            'pip install "keras>=3.14"',
        )


def _backend() -> Finding:
    """Return the backend of Keras."""
    backend = backend_name()
    if find_spec(backend) is None:
        return Finding(
            False,
            f"Keras is set to the backend {backend}, which is not installed",
            f"pip install {backend}, or unset KERAS_BACKEND",
        )
    return Finding(
        True, f"Keras backend {backend} {installed_version(backend) or 'of unknown version'}"
    )


def _gpu() -> Finding:
    """Return whether a GPU can be used; only its driver is asked."""
    if not Path("/dev/nvidiactl").exists():
        return Finding(True, "no NVIDIA GPU: networks run on the processor")
    backend = backend_name()
    if not has_cuda(backend):
        return Finding(
            True, f"an NVIDIA GPU, but no CUDA for {backend}", 'pip install "voxtile[gpu]" for JAX'
        )
    return Finding(True, f"an NVIDIA GPU and CUDA for {backend}")


def _arithmetic() -> Iterator[Finding]:
    """Yield the number of processors, and how fast short numbers are with each library."""
    yield Finding(True, f"{counted(processor_count(), 'core')} of {processor_model()[0]}")
    for library in ("openvino", backend_name()):
        rates = [f"{name} {gain:.2g}" for name, gain in gains(library).items()]
        if rates:
            yield Finding(True, f"{library}, times the speed of float32: {', '.join(rates)}")


def _codecs() -> Iterator[Finding]:
    """Yield which kinds of compressed DICOM can be read."""
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
    """Yield the optional packages, with what they are for if they are missing."""
    from voxtile.engines.engine import ENGINES

    if find_spec("distributed") is None:
        yield Finding(
            True, "no Dask: cases run on this machine only", 'pip install "voxtile[distributed]"'
        )
    else:
        yield Finding(True, f"Dask {installed_version('distributed')}")
    for kind in ENGINES.values():
        if kind.extra and not kind.installed:
            yield Finding(True, f"no {kind.package}: {kind.without}", kind.install_command)
        elif kind.extra:
            yield Finding(True, f"{kind.package} {installed_version(kind.package)}")


def _memory() -> Finding:
    """Return how much memory is free."""
    free, total = free_memory_mb() / 1e3, total_memory_mb() / 1e3
    words = f"{free:.1f} of {total:.1f} GB memory free"
    if free < _LEAST_MEMORY_GB:
        return Finding(False, words, f"end other programs; {_LEAST_MEMORY_GB:g} GB are needed")
    return Finding(True, words)


def _writable(out: Path) -> Finding:
    """Return whether results can be written; a file is written to find out."""
    if not out.exists():
        out = next(parent for parent in out.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=out) as probe:
            probe.write(b"voxtile")
    except OSError as error:
        return Finding(
            False,
            f"{out} cannot be written ({error.strerror})",
            f"chmod u+w {out}, or name another folder with --out",
        )
    return Finding(True, f"{out.absolute()} can be written")


def _disk(out: Path) -> Finding:
    """Return how much space is free on the disk."""
    folder = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free / 1e9
    words = f"{free:.1f} GB free on the disk of {folder}"
    if free < _LEAST_FREE_GB:
        return Finding(False, words, "free some space, or name another folder with --out")
    return Finding(True, words)


def _temporary() -> Finding:
    """Return whether temporary files can be written, because networks are loaded from them."""
    try:
        with tempfile.TemporaryFile():
            return Finding(True, f"temporary files in {tempfile.gettempdir()}")
    except OSError as error:
        return Finding(
            False,
            f"temporary files cannot be written ({error.strerror})",
            "set TMPDIR to a folder with free space",
        )
