"""Check, before anything runs, whether a model was trained on scans like those of a manifest."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from voxtile.case import Case
from voxtile.errors import Notice
from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelSpec
from voxtile.volume import Volume, canonical

from .domain import ScanFacts, compare_scan, describe_scan, extent_mm

# Hounsfield units go from air to tissue in almost every CT, as training assumes too.
_AIR_HU, _TISSUE_HU = -500.0, 100.0


@dataclass(frozen=True, slots=True)
class Suitability:
    """What a model was trained on, to compare cases with.

    Parameters
    ----------
    modality : {"CT", "other", ""}
        Empty if the model does not state it.
    """

    spec: ModelSpec
    modality: str

    def __call__(self, case: Case, volume: Volume, voxels: bool) -> Iterator[Notice]:
        """Yield how a case differs; without `voxels`, only differences in its header."""
        stated = dict(case.extras).get("modality", "").strip().upper()
        like_ct = voxels and volume.array.min() <= _AIR_HU and volume.array.max() >= _TISSUE_HU
        if self.modality == "CT" and stated not in ("", "CT"):
            yield _modality(f"is {stated[:16]} by column modality", "CT")
        elif self.modality == "other" and stated == "CT":
            yield _modality("is CT by column modality", "scans of another modality")
        elif self.modality == "other" and like_ct and not stated:
            words = f"goes from below {_AIR_HU:g} to above {_TISSUE_HU:g}, as a CT does"
            yield _modality(words, "scans of another modality")
        ras = canonical(volume)
        facts = ScanFacts(ras.spacing_mm, {}, extent_mm(ras))
        if voxels:
            facts = describe_scan(volume, self.spec.channels, self.spec.intensity, case.missing)
        for flag in compare_scan(facts, self.spec.training):
            yield Notice(f"domain_{flag.code}", flag.sentence)


def suitability(bundle: Bundle) -> Callable[[Case, Volume, bool], Iterator[Notice]]:
    """Return a function that compares a case with the training scans of a model."""
    try:
        channels = json.loads((bundle.folder / "fingerprint.json").read_text())["channels"]
        known = {str(channel["modality"]) for channel in channels}
    except (OSError, ValueError, KeyError, TypeError):  # an optional file
        known = {"CT"} if bundle.spec.intensity.method == "window" else set()
    return Suitability(bundle.spec, known.pop() if len(known) == 1 else "")


def _modality(what: str, trained: str) -> Notice:
    """Return the notice about a scan of another modality."""
    return Notice("domain_modality", f"the scan {what}, but the model was trained on {trained}")
