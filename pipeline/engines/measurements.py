"""What `voxtile models verify` measured, by model and kind of processor, and what follows from it.

<cache>/evidence/<SHA-256 of bundle, kind of processor>.json
spec.json, training.verified    the same, for those who get the bundle (--save)
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from voxtile.errors import EnvironmentFault
from voxtile.machine.cache import cache_folder
from voxtile.machine.files import write_json
from voxtile.machine.processors import processor_model
from voxtile.models.bundle import Bundle

from .engine import ENGINES, EngineName, Precision
from .quantised import quantised_digest

# What a reduced precision may change, and what it must gain, to be chosen by itself.
LARGEST_DICE_CHANGE = 1e-3
LEAST_AGREEMENT = 0.999
LEAST_GAIN = 1.1

# What measurements without a manifest are of: they show speed, and prove nothing.
PHANTOM = "phantom"
# Units that decide how fast, and by which kernels, numbers are multiplied.
_UNITS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimddp", "sve"),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One engine at one precision, against the reference.

    Parameters
    ----------
    engine : {"keras", "openvino", "onnx"}
    precision : {"float32", "bfloat16", "float16", "int8"}
    version : str
        Of the engine's package.
    agreement : float
        Share of voxels with the reference's label.
    dice_change : mapping of str to float
        For each label, the mean over cases of its Dice against the case's
        reference label less that of the reference engine; where cases have no
        label, Dice between both less 1. Labels that occur nowhere are not in it.
    tiles_per_s : float
    made : str
        Of int8, what identifies the networks that were measured.
    """

    engine: EngineName
    precision: Precision
    version: str
    agreement: float
    dice_change: Mapping[str, float]
    tiles_per_s: float
    made: str = ""

    @property
    def mean_change(self) -> float:
        """Mean over labels of how far Dice moved, up or down; NaN where no label occurs."""
        moved = [abs(change) for change in self.dice_change.values()]
        return sum(moved) / len(moved) if moved else float("nan")

    @property
    def change(self) -> str:
        """The mean change in words; "-" where no label occurs."""
        return f"{self.mean_change:.5f}" if self.dice_change else "-"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured for one bundle on one machine.

    Parameters
    ----------
    sha256 : str
        Of the bundle.
    processor : str
        Kind of processor, from `processor_kind`.
    threads : int
    source : str
        Name of the manifest; `PHANTOM` where there was none.
    cases, planes : int
        How many were judged.
    labelled : bool
        Whether Dice is against the cases' own labels.
    date : str
        ISO 8601.
    measurements : tuple of Measurement
        The first is the reference itself.
    """

    sha256: str
    processor: str
    threads: int
    source: str
    cases: int
    planes: int
    labelled: bool
    date: str
    measurements: tuple[Measurement, ...] = field(default=())

    @property
    def on_scans(self) -> bool:
        """Whether it was measured on scans, not on a phantom."""
        return self.source != PHANTOM

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def of_json(cls, value: Any) -> "Evidence":
        """Return what `as_json` gave.

        Raises
        ------
        TypeError, KeyError
            If it is something else.
        """
        measured = tuple(Measurement(**one) for one in value["measurements"])
        return cls(**{**value, "measurements": measured})

    def lines(self) -> Iterator[str]:
        """Yield the table for a terminal."""
        of = "their labels" if self.labelled else "the reference's mask"
        yield (
            f"{self.planes} planes of {self.cases} cases of {self.source}, {self.threads} threads "
            f"of {self.processor}; Dice against {of}"
        )
        yield f"{'engine':<10}{'precision':<11}{'agreement':>11}{'Dice change':>13}{'tiles/s':>9}"
        for one in self.measurements:
            yield (
                f"{one.engine:<10}{one.precision:<11}{one.agreement:>11.4%}{one.change:>13}"
                f"{one.tiles_per_s:>9.1f}"
            )
        for engine in dict.fromkeys(one.engine for one in self.measurements):
            made = next((one.made for one in self.measurements if one.made), None)
            yield f"{engine} --precision auto: {_accepted(self, engine, made) or 'float32'}" + (
                "" if self.on_scans else " by this (a phantom proves nothing: give a MANIFEST)"
            )


def accepted_precision(bundle: Bundle, engine: EngineName, device: str) -> Precision | None:
    """Return the fastest reduced precision that the evidence allows, or None.

    Mean Dice must change by less than 0.001 and more than 99.9 % of voxels
    keep their label, on real planes, with the engine's version and kind of
    processor that are here; and it must be at least 1.1 times as fast as the
    same engine in float32.

    Parameters
    ----------
    bundle : Bundle
        Each of several members must have the same.
    engine : {"keras", "openvino", "onnx"}
    device : str
        Only "cpu" has evidence.
    """
    if device != "cpu":
        return None
    found = set()
    for member in bundle.members:
        evidence = read_evidence(member)
        found.add(
            None if evidence is None else _accepted(evidence, engine, quantised_digest(member))
        )
    return found.pop() if len(found) == 1 else None


def read_evidence(bundle: Bundle) -> Evidence | None:
    """Return what was measured for a bundle on this kind of processor.

    What was measured here comes before what its maker published; but what was
    measured on a phantom, wherever, only where there is nothing else.
    """
    found = [_kept(bundle.sha256), *published_evidence(bundle)]
    fitting = [
        one
        for one in found
        if one is not None and (one.sha256, one.processor) == (bundle.sha256, processor_kind())
    ]
    return min(fitting, key=lambda one: not one.on_scans, default=None)


def published_evidence(bundle: Bundle) -> Iterator[Evidence]:
    """Yield what a bundle's maker measured, on whatever processors."""
    published = bundle.spec.training.get("verified", [])
    for value in published if isinstance(published, list) else []:
        with suppress(TypeError, KeyError):
            yield Evidence.of_json(value)


def keep_evidence(evidence: Evidence) -> Path | None:
    """Keep what was measured in the user's cache; None where that cannot be written.

    What was measured on a phantom never replaces what was measured on scans;
    None then, too.
    """
    earlier = _kept(evidence.sha256)
    if earlier is not None and earlier.on_scans and not evidence.on_scans:
        return None
    path = _path(evidence.sha256)
    try:
        write_json(path, evidence.as_json())
    except EnvironmentFault:
        return None
    return path


def processor_kind() -> str:
    """Return the name of the processor and those of its units that decide speed and kernels."""
    name, flags = processor_model()
    return " ".join([name, *(unit for unit in _UNITS if unit in flags)])


def _accepted(evidence: Evidence, engine: EngineName, made: str | None) -> Precision | None:
    """Return the fastest reduced precision of an engine that the evidence allows.

    `made` identifies the int8 networks that are here; others prove nothing for them.
    """
    if not evidence.on_scans:
        return None
    try:
        here = version(ENGINES[engine].package)
    except PackageNotFoundError:
        return None
    mine = [one for one in evidence.measurements if (one.engine, one.version) == (engine, here)]
    full = [one.tiles_per_s for one in mine if one.precision == "float32"]
    good = [
        one
        for one in mine
        if one.precision != "float32"
        and (one.precision != "int8" or one.made == made)
        and one.agreement > LEAST_AGREEMENT
        and one.mean_change < LARGEST_DICE_CHANGE  # False for NaN: no label was seen
        and full
        and one.tiles_per_s >= LEAST_GAIN * full[0]
    ]
    return max(good, key=lambda one: one.tiles_per_s).precision if good else None


def _kept(sha256: str) -> Evidence | None:
    """Return what the cache has for a bundle on this kind of processor; None if that is nothing."""
    try:
        return Evidence.of_json(json.loads(_path(sha256).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _path(sha256: str) -> Path:
    """Return where evidence for a bundle on this kind of processor is kept."""
    key = hashlib.sha256(f"{sha256} {processor_kind()}".encode()).hexdigest()
    return cache_folder() / "evidence" / f"{key}.json"
