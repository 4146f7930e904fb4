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
    from voxtile.models.bundle import Bundle as Bundle
    from voxtile.models.bundle import load_bundle as load_bundle
    from voxtile.models.spec import Label as Label
    from voxtile.models.spec import ModelSpec as ModelSpec

    from .batch.drive import run_manifest as run_manifest
    from .batch.settings import BatchSettings as BatchSettings
    from .errors import CaseError as CaseError
    from .errors import ManifestError as ManifestError
    from .errors import ModelError as ModelError
    from .errors import VoxtileError as VoxtileError
    from .inference.segmenter import segment as segment
    from .preparation.plan import PlanWish as PlanWish
    from .reading.channels import read_volume as read_volume
    from .reading.scan import ReadPolicy as ReadPolicy
    from .report.notebook import view as view
    from .run.evaluation import evaluate as evaluate
    from .run.settings import RunSettings as RunSettings
    from .scoring.score import Measures as Measures
    from .scoring.score import score as score
    from .training.drive import train as train
    from .training.recipe.recipe import Recipe as Recipe
    from .volume import Volume as Volume
    from .writing.nifti import write_mask as write_mask

# Imported when first used, so that `voxtile --help` does not wait for pandas or TensorFlow.
_HOMES = {
    "BatchSettings": "voxtile.batch.settings",
    "Bundle": "voxtile.models.bundle",
    "CaseError": "voxtile.errors",
    "Label": "voxtile.models.spec",
    "ManifestError": "voxtile.errors",
    "Measures": "voxtile.scoring.score",
    "ModelError": "voxtile.errors",
    "ModelSpec": "voxtile.models.spec",
    "PlanWish": "voxtile.preparation.plan",
    "ReadPolicy": "voxtile.reading.scan",
    "Recipe": "voxtile.training.recipe.recipe",
    "RunSettings": "voxtile.run.settings",
    "Volume": "voxtile.volume",
    "VoxtileError": "voxtile.errors",
    "evaluate": "voxtile.run.evaluation",
    "load_bundle": "voxtile.models.bundle",
    "read_volume": "voxtile.reading.channels",
    "run_manifest": "voxtile.batch.drive",
    "score": "voxtile.scoring.score",
    "segment": "voxtile.inference.segmenter",
    "train": "voxtile.training.drive",
    "view": "voxtile.report.notebook",
    "write_mask": "voxtile.writing.nifti",
}

# Type checkers see the imports above.
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Return a public name, importing its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'voxtile' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names, so that completion shows them before they are imported."""
    return [*_HOMES, "__version__"]
