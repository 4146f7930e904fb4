"""Batch segmentation of medical volumes.

A manifest lists patient scans (DICOM series or NIfTI files). Voxtile reads
each one, slices and normalises it into 2D tiles, runs a tiled U-Net with
overlap stitching, reassembles a 3D mask on the scan's own grid, and writes
per-case Dice and IoU to CSV.

>>> import voxtile
>>> voxtile.__version__.count(".")
2
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from voxtile.models.bundle import Bundle, load_bundle

    from .batch.drive import run_manifest
    from .batch.settings import BatchSettings
    from .errors import CaseError, ManifestError, VoxtileError
    from .nifti import write_mask
    from .notebook import view
    from .reading import read_volume
    from .scoring import score
    from .segmenter import segment
    from .training.drive import train
    from .volume import Volume

# Imported when first used, so that `voxtile --help` does not wait for pandas or TensorFlow.
_HOMES = {
    "BatchSettings": "voxtile.batch.settings",
    "Bundle": "voxtile.models.bundle",
    "CaseError": "voxtile.errors",
    "ManifestError": "voxtile.errors",
    "Volume": "voxtile.volume",
    "VoxtileError": "voxtile.errors",
    "load_bundle": "voxtile.models.bundle",
    "read_volume": "voxtile.reading",
    "run_manifest": "voxtile.batch.drive",
    "score": "voxtile.scoring",
    "segment": "voxtile.segmenter",
    "train": "voxtile.training.drive",
    "view": "voxtile.notebook",
    "write_mask": "voxtile.nifti",
}

__all__ = [
    "BatchSettings",
    "Bundle",
    "CaseError",
    "ManifestError",
    "Volume",
    "VoxtileError",
    "load_bundle",
    "read_volume",
    "run_manifest",
    "score",
    "segment",
    "train",
    "view",
    "write_mask",
]


def __getattr__(name: str) -> Any:
    """Return a public name, importing its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'voxtile' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
