"""What `voxtile models verify` measured, by model and kind of processor, and what follows from it.

<cache>/evidence/<SHA-256 of bundle, kind of processor>.json
spec.json, training.verified    the same, for everybody who gets the bundle (--save)
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from voxtile.errors import EnvironmentFault, counted, first_few
from voxtile.machine.cache import cache_folder
from voxtile.machine.files import write_json
from voxtile.machine.json_objects import read_object
from voxtile.machine.processors import gpu_model, processor_model
from voxtile.machine.versions import installed_version
from voxtile.models.backend_name import backend_name
from voxtile.models.bundle import Bundle

from .engine import ENGINES, EngineName, Precision
from .quantised import quantised_digest

# ``--precision auto`` chooses a reduced precision only within these limits.
LARGEST_DICE_CHANGE = 1e-3
LEAST_AGREEMENT = 0.999
LEAST_GAIN = 1.1
# And only if at least this much was compared. A change of Dice of 0.001 is about one voxel in a
# thousand, so fewer voxels of a label could not show it.
LEAST_PLANES = 32
LEAST_LABEL_PLANES = 8
LEAST_LABEL_VOXELS = 1000

# The source of measurements without a manifest, which show speed but do not count as evidence.
PHANTOM = "phantom"
# Processor flags that decide how fast, and by which kernels, numbers are multiplied.
_UNITS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimddp", "sve"),
)


# What is read back has these fields and no others.
_CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One engine at one precision, compared with the reference engine."""

    __pydantic_config__ = _CHECKED
    engine: EngineName
    precision: Precision
    version: str  # of the engine's package
    agreement: float  # fraction of voxels with the same label as from the reference engine
    # For each label, the mean over cases of its Dice minus the Dice of the reference engine, both
    # against the case's reference. For cases without a reference, the Dice between both engines
    # minus 1. Labels that occur nowhere are left out.
    dice_change: Mapping[str, float]
    tiles_per_s: float
    made: str = ""  # for int8, identifies the networks that were measured
    # The mean change is below this with 95 % confidence, on other planes and scans like these;
    # None if no label occurs, or an earlier version measured.
    dice_bound: float | None = None
    # The largest change of one label in one case (mean over its views).
    worst_change: float | None = None
    worst_label: str = ""
    # For int8, the layers that compute in `rest` instead, because int8 as a whole fails the limits.
    kept: tuple[str, ...] = ()
    rest: Precision = "float32"

    @property
    def within_limits(self) -> bool:
        """Whether it changes masks so little that `auto` may choose it."""
        return (
            self.agreement > LEAST_AGREEMENT
            and self.mean_change < LARGEST_DICE_CHANGE  # False for NaN: no label occurred
            and self.dice_bound is not None
            and self.dice_bound < LARGEST_DICE_CHANGE
        )

    @property
    def mean_change(self) -> float:
        """Mean over labels of the absolute change of Dice; NaN if no label occurs."""
        moved = [abs(change) for change in self.dice_change.values()]
        return sum(moved) / len(moved) if moved else float("nan")

    @property
    def change(self) -> str:
        """The mean change for people; "-" if no label occurs."""
        return f"{self.mean_change:.5f}" if self.dice_change else "-"

    @property
    def bound(self) -> str:
        """The bound of the mean change for people; "-" if there is none."""
        return "-" if self.dice_bound is None else f"{self.dice_bound:.5f}"

    @property
    def worst(self) -> str:
        """The worst case for people; "-" if there is none."""
        if self.worst_change is None:
            return "-"
        return f"{self.worst_change:+.5f} ({self.worst_label})"

    @property
    def layers(self) -> str:
        """Which layers are not in integers, for people; empty if all are."""
        if not self.kept:
            return ""
        return f"{self.rest} in {', '.join(self.kept)}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured for one bundle on one machine."""

    __pydantic_config__ = _CHECKED
    sha256: str  # of the bundle
    processor: str  # from `processor_kind`
    threads: int
    source: str  # name of the manifest; `PHANTOM` without one
    cases: int
    planes: int
    labelled: bool  # whether Dice is against the cases' references
    date: str  # ISO 8601
    measurements: tuple[Measurement, ...] = ()  # the first is the reference itself
    # For each label of the model, in how many of the planes it occurs, and how many voxels it
    # has there, in the references, or in the masks of the reference engine for cases without
    # references.
    label_planes: Mapping[str, int] = field(default_factory=dict)
    label_voxels: Mapping[str, int] = field(default_factory=dict)

    @property
    def amount(self) -> str:
        """How much was compared, for people."""
        return f"{counted(self.planes, 'plane')} of {counted(self.cases, 'case')}"

    @property
    def on_scans(self) -> bool:
        """Whether scans were measured, not a phantom."""
        return self.source != PHANTOM

    @property
    def shortage(self) -> str:
        """What is missing before a reduced precision may be chosen; empty if nothing is missing."""
        if not self.on_scans:
            return "a phantom is no evidence; give a MANIFEST"
        if not self.label_voxels:
            return "an earlier version did not count the voxels of each label; verify again"
        if any(one.dice_change and one.dice_bound is None for one in self.measurements):
            return "an earlier version did not bound the change of Dice; verify again"
        short = [
            f"{name} has {counted(self.label_voxels[name], 'voxel')} in "
            f"{counted(self.label_planes.get(name, 0), 'plane')}"
            for name in self.label_voxels
            if self.label_voxels[name] < LEAST_LABEL_VOXELS
            or self.label_planes.get(name, 0) < LEAST_LABEL_PLANES
        ]
        if self.planes < LEAST_PLANES:
            short.insert(0, counted(self.planes, "plane"))
        if not short:
            return ""
        return (
            f"too little: {first_few(short, 3)}, but at least {LEAST_PLANES} planes are needed, "
            f"and {LEAST_LABEL_VOXELS} voxels of each label in {LEAST_LABEL_PLANES} planes; give "
            "more --cases or --planes"
        )

    @property
    def chosen(self) -> dict[EngineName, Precision]:
        """The precision that ``auto`` uses with each engine."""
        made = next((one.made for one in reversed(self.measurements) if one.made), None)
        engines = dict.fromkeys(one.engine for one in self.measurements)
        return {engine: _accepted(self, engine, made) or "float32" for engine in engines}

    @classmethod
    def of_json(cls, value: Any) -> "Evidence":
        """Return the evidence from its `asdict`; ValueError for any other value."""
        return TypeAdapter(cls).validate_json(json.dumps(value), strict=True)

    def lines(self) -> Iterator[str]:
        """Yield the table for a terminal."""
        yield (
            f"{self.amount} of {self.source}, {counted(self.threads, 'thread')} of "
            f"{self.processor}; Dice against "
            + ("the cases' references" if self.labelled else "the reference engine's mask")
        )
        if self.label_voxels:
            least = min(self.label_voxels, key=lambda name: self.label_voxels[name])
            yield (
                f"the label with the fewest voxels is {least}: "
                f"{counted(self.label_voxels[least], 'voxel')} in "
                f"{counted(self.label_planes.get(least, 0), 'plane')}"
            )
        yield (
            f"{'engine':<10}{'precision':<11}{'agreement':>11}{'Dice change':>13}{'95 % below':>12}"
            f"{'tiles/s':>9}  worst case"
        )
        for one in self.measurements:
            yield (
                f"{one.engine:<10}{one.precision:<11}{one.agreement:>11.4%}{one.change:>13}"
                f"{one.bound:>12}{one.tiles_per_s:>9.1f}  {one.worst}"
                + (f"; {one.layers}" if one.kept else "")
            )
        for engine, precision in self.chosen.items():
            why = self.shortage or self._uncertain(engine)
            yield f"{engine} --precision auto: {precision}" + (f" ({why})" if why else "")

    def _uncertain(self, engine: EngineName) -> str:
        """Return which precisions only the bound of the change excludes; empty if none."""
        names = [
            one.precision
            for one in self.measurements
            if one.engine == engine and replace(one, dice_bound=0.0).within_limits
            if not one.within_limits
        ]
        if not names:
            return ""
        return (
            f"{' and '.join(dict.fromkeys(names))}: the mean change is small enough, its bound is "
            "not; more --cases may narrow it"
        )


def accepted_precision(bundle: Bundle, engine: EngineName, device: str) -> Precision | None:
    """Return the fastest reduced precision that the evidence allows, or None.

    On enough planes of scans (`Evidence.shortage`), with this version of the
    engine and this kind of processor, the mean Dice must have changed by less
    than 0.001 with 95 % confidence, more than 99.9 % of voxels must have kept
    their label, and the precision must be at least 1.1 times as fast as the same engine in float32.
    If the bundle has several members, all must allow it. A GPU needs its own
    evidence.
    """
    kind = processor_kind(device)
    found = {
        _accepted(read_evidence(member, kind), engine, quantised_digest(member))
        for member in bundle.members
    }
    return found.pop() if len(found) == 1 else None


def read_evidence(bundle: Bundle, kind: str | None = None) -> Evidence | None:
    """Return what was measured for a bundle on a kind of processor, by default the one here.

    Measurements of this machine come before those that the bundle's maker
    published, and measurements on scans before those on a phantom.
    """
    kind = kind or processor_kind()
    found = [_cached(bundle.sha256, kind), *published_evidence(bundle)]
    fitting = [
        one
        for one in found
        if one is not None and (one.sha256, one.processor) == (bundle.sha256, kind)
    ]
    return min(fitting, key=lambda one: not one.on_scans, default=None)


def published_evidence(bundle: Bundle) -> Iterator[Evidence]:
    """Yield what a bundle's maker measured, on any kind of processor."""
    published = bundle.spec.training.get("verified", [])
    for value in published if isinstance(published, list) else []:
        with suppress(ValueError):
            yield Evidence.of_json(value)


def keep_evidence(evidence: Evidence) -> Path | None:
    """Write evidence to the user's cache; return None if it was not written.

    It is not written if the cache is read-only, or if it was measured on a
    phantom and there is evidence that was measured on scans.
    """
    earlier = _cached(evidence.sha256, evidence.processor)
    if earlier is not None and earlier.on_scans and not evidence.on_scans:
        return None
    try:
        path = _path(evidence.sha256, evidence.processor)
        write_json(path, asdict(evidence))
    except EnvironmentFault:
        return None
    return path


def processor_kind(device: str = "cpu") -> str:
    """Return the name of a device, and what decides its speed and kernels.

    For the processor these are its arithmetic units; for "gpu" or "gpu:N" the backend of Keras.
    """
    if device != "cpu":
        return f"{gpu_model(int(device.partition(':')[2] or 0))} with Keras on {backend_name()}"
    name, flags = processor_model()
    return " ".join([name, *(unit for unit in _UNITS if unit in flags)])


def _accepted(evidence: Evidence | None, engine: EngineName, made: str | None) -> Precision | None:
    """Return the fastest precision that counts; `made` identifies this machine's int8 networks."""
    if evidence is None or evidence.shortage:
        return None
    here = installed_version(ENGINES[engine].package)
    if here is None:
        return None
    mine = [one for one in evidence.measurements if (one.engine, one.version) == (engine, here)]
    full = [one.tiles_per_s for one in mine if one.precision == "float32"]
    good = [
        one
        for one in mine
        if one.precision != "float32"
        and (one.precision != "int8" or one.made == made)
        and one.within_limits
        and full
        and one.tiles_per_s >= LEAST_GAIN * full[0]
    ]
    return max(good, key=lambda one: one.tiles_per_s).precision if good else None


def _cached(sha256: str, kind: str) -> Evidence | None:
    """Return the cached evidence for a bundle on a kind of processor; None if there is none."""
    try:
        return Evidence.of_json(read_object(_path(sha256, kind), {}))
    except (OSError, EnvironmentFault, ValueError):
        return None


def _path(sha256: str, kind: str) -> Path:
    """Return the file of the evidence for a bundle on a kind of processor."""
    key = hashlib.sha256(f"{sha256} {kind}".encode()).hexdigest()
    return cache_folder("evidence") / f"{key}.json"
