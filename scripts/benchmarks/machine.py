"""Describe the machine of a measurement: processor, memory, load, versions."""

import os
import platform
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "voxtile",
    "keras",
    "tensorflow",
    "jax",
    "openvino",
    "onnxruntime",
    "torch",
    "monai",
    "nnunetv2",
    "nibabel",
    "indexed_gzip",
    "isal",
    "numpy",
    "scipy",
)


def describe() -> dict[str, Any]:
    """Return processor, cores, memory, load average now, and versions."""
    info = _cpuinfo()
    return {
        "date": date.today().isoformat(),
        "cpu": info.get("model name", platform.processor()),
        "cpu_model": f"family {info.get('cpu family', '?')} model {info.get('model', '?')}",
        "cores": len(os.sched_getaffinity(0)),
        "flags": sorted(
            _flags() & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"}
            | {flag for flag in _flags() if flag.startswith("amx")}
        ),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load": load(),
        "gpu": gpu_name(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES if _version(name)},
    }


def short_numbers_pay(library: str = "openvino", precision: str = "bfloat16") -> bool:
    """Whether a short precision is faster than float32 here, as voxtile measures it; or on a GPU.

    The flags do not say it: with avx512_bf16 alone, bfloat16 is faster on some
    processors and slower on others.
    """
    from voxtile.engines.short_numbers import pays

    return gpu_name() is not None or pays(library, precision)


def load() -> float:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def gpu_name() -> str | None:
    """Return the name of an NVIDIA GPU, from the driver's files; nothing is imported."""
    for path in Path("/proc/driver/nvidia/gpus").glob("*/information"):
        for line in path.read_text().splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return None


def sentence(machine: dict[str, Any]) -> str:
    """Return the machine in one line, for the head of a table."""
    return (
        f"{machine['date']}, {machine['cores']} cores of {machine['cpu']} ({machine['cpu_model']}; "
        f"{', '.join(machine['flags'])}), {machine['memory_gb']} GB, "
        + (f"{machine['gpu']}, " if machine["gpu"] else "no GPU, ")
        + f"load {machine['load']} at the start, Python {machine['python']}; "
        + ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    )


def _cpuinfo() -> dict[str, str]:
    """Return the first processor of /proc/cpuinfo; empty if this file is missing."""
    if sys.platform != "linux":
        return {}
    block = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _flags() -> set[str]:
    """Return the processor's flags."""
    return set(_cpuinfo().get("flags", "").split())


def _version(name: str) -> str | None:
    """Return the installed version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
