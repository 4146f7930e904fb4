"""Describe the training scans of a network, and check whether a scan is like them.

A scan is described by its spacing and by a few percentiles of its intensities
after the scaling of the spec, as the network sees them. So the arbitrary scale
of a scanner does not matter if the scaling removes it, and Hounsfield units do
matter if a fixed window keeps them. For networks that see where in a scan a pixel is, the extent
of the scan counts too: in a scan that shows more or less of the body, anatomy is elsewhere.

Training stores `training_domain` of its cases as ``spec.training["domain"]``;
without it there is no check.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field, FiniteFloat, PositiveFloat, TypeAdapter, ValidationError

from voxtile.errors import Notice
from voxtile.models.spec import Intensity
from voxtile.preparation.intensity import measure
from voxtile.volume import Volume, canonical

PERCENTILES = (0.5, 5.0, 25.0, 50.0, 75.0, 95.0, 99.5)
# Enough voxels for a stable percentile; a whole CT would take a second, and memory for a copy.
_SAMPLE = 2**20
# Tukey's outer fences (Tukey 1977, "Exploratory Data Analysis"): 3 interquartile ranges.
_FENCE = 3.0
# Quartiles of fewer cases do not predict the next case.
_FEWEST = 5
# Spacings that differ by less come from the same protocol.
_SAME_SPACING = 0.05
# Patients differ by less than this, and fields of view by more.
_SAME_EXTENT = 0.25

Valid = TypeVar("Valid")
_SIZES = TypeAdapter(Annotated[list[PositiveFloat], Field(min_length=3, max_length=3)])
# Minimum, quartiles and maximum of each percentile.
_Row = Annotated[list[FiniteFloat], Field(min_length=5, max_length=5)]
_ROWS = TypeAdapter(
    Annotated[list[_Row], Field(min_length=len(PERCENTILES), max_length=len(PERCENTILES))]
)


@dataclass(frozen=True, slots=True)
class ScanFacts:
    """The properties of a scan that are compared."""

    spacing_mm: tuple[float, float, float]  # (R, A, S): spacing of the closest-canonical array
    # For each channel the `PERCENTILES` of its scaled voxels.
    intensity: dict[str, tuple[float, ...]]
    extent_mm: tuple[float, float, float] | None = None  # (R, A, S): voxels times spacing

    def dump(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "spacing_mm": [round(size, 6) for size in self.spacing_mm],
            "intensity": {
                channel: [float(f"{value:.6g}") for value in values]
                for channel, values in self.intensity.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Flag(Notice):
    """A reason to look at a case; its code is one of `voxtile.report.qc.CODES`."""

    severity: float  # 1 at the limit
    label: int | None = None  # None if it concerns the whole case


def describe_scan(
    volume: Volume, channels: Sequence[str], intensity: Intensity, missing: Sequence[str] = ()
) -> ScanFacts:
    """Describe a scan as its network sees it.

    The volume is (i, j, k), or (i, j, k, channels) if there are several. The scaling of the spec
    and the percentiles are measured on a regular sample of at most 2**20 voxels. `missing` channels
    are left out.
    """
    ras = canonical(volume)
    array = ras.array if ras.array.ndim == 4 else ras.array[..., np.newaxis]
    sample = array[_sampling(ras.shape)]
    described = {}
    for index, channel in enumerate(channels):
        if channel in missing:
            continue
        voxels = np.ascontiguousarray(sample[..., index])
        scaled = measure(voxels, intensity).apply(voxels)
        described[channel] = tuple(np.percentile(scaled, PERCENTILES).tolist())
    return ScanFacts(ras.spacing_mm, described, extent_mm(ras))


def extent_mm(ras: Volume) -> tuple[float, float, float]:
    """Return the size of a canonical volume along R, A and S."""
    r, a, s = (float(n * mm) for n, mm in zip(ras.shape, ras.spacing_mm, strict=True))
    return r, a, s


def training_domain(scans: Sequence[ScanFacts], *, position: bool = False) -> dict[str, Any]:
    """Describe training scans for the spec of a bundle, as JSON values.

    ``cases``; ``spacing_mm`` with the smallest and largest (R, A, S); ``extent_mm`` with the same
    for networks that see positions; and under ``intensity``, for each channel and each of
    ``percentiles``, the minimum, quartiles and maximum over the scans.
    A channel that is missing in some scans needs the same number of other scans as a flag.
    Empty without scans.
    """
    if not scans:
        return {}
    extents = [scan.extent_mm for scan in scans if position and scan.extent_mm]
    described: dict[str, list[tuple[float, ...]]] = {}
    for scan in scans:
        for channel, values in scan.intensity.items():
            described.setdefault(channel, []).append(values)
    return {
        "cases": len(scans),
        "spacing_mm": size_range([scan.spacing_mm for scan in scans]),
        **({"extent_mm": size_range(extents)} if extents else {}),
        "percentiles": list(PERCENTILES),
        "intensity": {
            channel: [
                [float(f"{value:.6g}") for value in np.percentile(values, (0, 25, 50, 75, 100))]
                for values in zip(*rows, strict=True)
            ]
            for channel, rows in described.items()
            if len(rows) >= min(len(scans), _FEWEST)
        },
    }


def size_range(sizes: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Return the smallest and the largest size along each axis, as JSON values."""
    rows = np.array(sizes)
    return {
        "min": rows.min(axis=0).round(6).tolist(),
        "max": rows.max(axis=0).round(6).tolist(),
    }


def compare_scan(scan: ScanFacts, training: Mapping[str, Any]) -> tuple[Flag, ...]:
    """Flag how a scan differs from the training scans.

    `training` is `spec.training`; without a valid "domain" there are no flags.
    """
    domain = training.get("domain")
    if not isinstance(domain, Mapping):
        return ()
    found = [
        _compare_sizes("spacing", scan.spacing_mm, domain, _SAME_SPACING),
        _compare_sizes("extent", scan.extent_mm, domain, _SAME_EXTENT),
    ]
    found += [_compare_intensity(scan, channel, domain) for channel in scan.intensity]
    return tuple(flag for flag in found if flag is not None)


def _compare_sizes(
    what: str, sizes: Sequence[float] | None, domain: Mapping[str, Any], tolerance: float
) -> Flag | None:
    """Compare spacing or extent with the range of the training scans, if it is known."""
    known = domain.get(f"{what}_mm")
    if sizes is None or not isinstance(known, Mapping):
        return None
    low, high = (_valid(_SIZES, known.get(end)) for end in ("min", "max"))
    if low is None or high is None:
        return None
    factors = [
        max(size / most, least / size) for size, least, most in zip(sizes, low, high, strict=True)
    ]
    if max(factors) <= 1 + tolerance:
        return None
    axis = factors.index(max(factors))
    return Flag(
        what,
        f"the {what} along {'RAS'[axis]} is {sizes[axis]:.3g} mm, but the training "
        f"scans had {low[axis]:.3g} to {high[axis]:.3g} mm",
        max(factors) / (1 + tolerance),
    )


def _compare_intensity(scan: ScanFacts, channel: str, domain: Mapping[str, Any]) -> Flag | None:
    """Compare the percentiles of a channel with those of the training scans."""
    cases, table = domain.get("cases"), domain.get("intensity")
    if not isinstance(cases, int) or cases < _FEWEST or not isinstance(table, Mapping):
        return None
    if domain.get("percentiles") != list(PERCENTILES):
        return None
    quartiles = _valid(_ROWS, table.get(channel))
    if quartiles is None:
        return None
    # Clipping can make a percentile equal in all scans, so the spread is at least 2 % of the range.
    least = 0.02 * abs(quartiles[-1][2] - quartiles[0][2])
    worst: Flag | None = None
    for percent, value, row in zip(PERCENTILES, scan.intensity[channel], quartiles, strict=True):
        low, q1, _, q3, high = row
        spread = max(q3 - q1, least)
        beyond = max(value - max(high, q3), min(low, q1) - value)
        fences = max(value - q3, q1 - value) / (_FENCE * spread) if spread else 0.0
        if beyond > 0 and fences > (1 if worst is None else worst.severity):
            worst = Flag(
                "intensity",
                f"percentile {percent:g} of channel {channel} is {value:.3g} after scaling, but "
                f"the training scans had {low:.3g} to {high:.3g}",
                fences,
            )
    return worst


def _sampling(shape: tuple[int, int, int]) -> tuple[slice, ...]:
    """Return slices with steps that leave at most `_SAMPLE` voxels, fewest of the longest axis."""
    steps = [1, 1, 1]
    while np.prod([-(-size // step) for size, step in zip(shape, steps, strict=True)]) > _SAMPLE:
        left = [size / step for size, step in zip(shape, steps, strict=True)]
        steps[left.index(max(left))] += 1
    return tuple(slice(None, None, step) for step in steps)


def _valid(kind: TypeAdapter[Valid], value: Any) -> Valid | None:
    """Return a part of the domain, which any program may have written; None if it is not valid."""
    try:
        return kind.validate_python(value, strict=True)
    except ValidationError:
        return None
