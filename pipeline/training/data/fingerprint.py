"""Summary of the training cases, from which the rules choose a recipe.

    image, label -> CaseFacts  -.
    image, label -> CaseFacts  --+-> Fingerprint -> rules -> Recipe
    ...                        -'

A fingerprint has only sizes, counts and percentiles: no patient's text and no
voxels. It is in every bundle as ``fingerprint.json``.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from voxtile.models.spec import Label, View
from voxtile.preparation.planes import slice_axis

from .case_facts import CaseFacts, ChannelFacts, Triple, triple

Modality = Literal["CT", "other"]

_PERCENTILES = (0.5, 5.0, 25.0, 50.0, 75.0, 95.0, 99.5)
# Hounsfield units: water is 0, air is -1000, and 12 bits hold -1024 to 3071 (PS3.3 C.8.2.1). Almost
# every CT shows air (lung, bowel gas, around the body); other scans do not have such values.
_AIR_HU, _TISSUE_HU, _LEAST_HU = -500.0, 100.0, -4096.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum, median and maximum of a quantity over the cases."""

    least: float
    median: float
    most: float


@dataclass(frozen=True, slots=True)
class ChannelSummary:
    """Intensities of one channel over all cases."""

    name: str
    modality: Modality
    why: str  # how the modality is known
    least: Spread  # over the extremes of each case
    most: Spread
    zeros: Spread  # fraction of voxels that are exactly 0
    # Percentiles, mean and SD of the labelled voxels of all cases, with the same weight for each
    # case; empty if nothing is labelled.
    foreground: dict[str, float] = field(default_factory=dict)
    missing: int = 0  # cases without this channel; all other values are those of the other cases


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """One label value over all cases."""

    value: int
    cases: int
    share: float  # fraction of all voxels of all cases
    components: Spread  # number of connected parts, over the cases with this label
    component_ml: Spread  # volume of a connected part, in ml
    # (R, A, S): standard deviation over the cases of the middle of the largest part, where a scan
    # goes from -1 to 1; None if fewer than two cases have the label.
    place_sd: Triple | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Summary of the training cases. Axes are (R, A, S)."""

    cases: int
    shape: tuple[Spread, Spread, Spread]  # voxels along each axis
    spacing_mm: tuple[Spread, Spread, Spread]
    # Size of a whole scan: voxels times spacing.
    extent_mm: tuple[Spread, Spread, Spread]
    planes: tuple[int, int, int]  # (R, A, S): slices of all cases together, along each axis
    channels: tuple[ChannelSummary, ...] = ()
    labels: tuple[LabelSummary, ...] = ()  # by rising value
    overlap: bool = False  # whether two regions of the recipe's labels share a value
    foreground: float = 0.0  # fraction of all voxels of all cases that are labelled
    # (R, A, S): fraction of planes that show a label, median over cases.
    labelled_planes: Triple = (0.0, 0.0, 0.0)
    # Size of the box around the labels of a case.
    box_mm: tuple[Spread, Spread, Spread] = (Spread(0, 0, 0),) * 3

    def is_flat(self, view: View) -> bool:
        """Whether every case is a single plane in a view."""
        return self.shape[slice_axis(view)].most == 1

    @property
    def values(self) -> tuple[int, ...]:
        """Label values of all cases, without 0."""
        return tuple(label.value for label in self.labels)

    @property
    def is_ct(self) -> bool:
        """Whether every channel is in Hounsfield units."""
        return bool(self.channels) and all(part.modality == "CT" for part in self.channels)

    def dump(self) -> dict[str, Any]:
        """Return JSON values, rounded to six significant digits."""
        values: dict[str, Any] = json.loads(
            json.dumps(asdict(self)), parse_float=lambda text: float(f"{float(text):.6g}")
        )
        for channel in values["channels"]:
            if not channel["missing"]:
                del channel["missing"]
        return values

    @classmethod
    def parse(cls, values: Any) -> "Fingerprint":
        """Return what `dump` wrote."""
        return TypeAdapter(cls).validate_python(values)


def take_fingerprint(
    cases: Sequence[CaseFacts], channels: Sequence[str] = (), labels: Sequence[Label] = ()
) -> Fingerprint:
    """Summarise the training cases; their order does not matter.

    The channels have the same order as in each case; the labels of the recipe
    decide whether regions overlap.
    """
    voxels = sum(case.voxels for case in cases)
    r, a, s = map(sum, zip(*(case.shape for case in cases), strict=True))
    values = [value for label in labels for value in label.values]
    return Fingerprint(
        cases=len(cases),
        shape=_spreads([case.shape for case in cases]),
        spacing_mm=_spreads([case.spacing_mm for case in cases]),
        extent_mm=_spreads(
            [
                triple(n * mm for n, mm in zip(case.shape, case.spacing_mm, strict=True))
                for case in cases
            ]
        ),
        planes=(r, a, s),
        channels=tuple(
            _summarise_channel(name, index, cases) for index, name in enumerate(channels)
        ),
        labels=tuple(
            _summarise_label(value, cases, voxels)
            for value in sorted({value for case in cases for value in case.values})
        ),
        overlap=len(values) != len(set(values)),
        foreground=sum(label.voxels for case in cases for label in case.labels) / max(voxels, 1),
        labelled_planes=triple(
            spread.median for spread in _spreads([case.labelled_planes for case in cases])
        ),
        box_mm=_spreads([case.box_mm for case in cases]),
    )


def _summarise_channel(name: str, index: int, cases: Sequence[CaseFacts]) -> ChannelSummary:
    """Summarise one channel over the cases that have it."""
    count = len(cases)
    cases = [case for case in cases if index not in case.missing]
    parts = [case.channels[index] for case in cases]
    pooled = np.array([value for part in parts for value in part.foreground], np.float64)
    foreground: dict[str, float] = {}
    if pooled.size:
        found = np.percentile(pooled, _PERCENTILES).tolist()
        foreground = {f"{p:g}": value for p, value in zip(_PERCENTILES, found, strict=True)}
        foreground |= {"mean": float(pooled.mean()), "sd": float(pooled.std())}
    modality, why = _modality(parts, {case.modality.upper() for case in cases})
    return ChannelSummary(
        name=name,
        modality=modality,
        why=why,
        least=_spread([part.least for part in parts]),
        most=_spread([part.most for part in parts]),
        zeros=_spread([part.zeros for part in parts]),
        foreground=foreground,
        missing=count - len(cases),
    )


def _modality(parts: Sequence[ChannelFacts], named: set[str]) -> tuple[Modality, str]:
    """Return whether a channel is in Hounsfield units, and how that is known."""
    if "" not in named:
        why = f"the manifest's column modality says {', '.join(sorted(named))}"
        return ("CT" if named == {"CT"} else "other"), why
    like_ct = sum(_LEAST_HU <= part.least <= _AIR_HU and part.most >= _TISSUE_HU for part in parts)
    enough = like_ct >= 0.9 * len(parts)
    return ("CT" if enough else "other"), (
        f"{'' if enough else 'only '}{like_ct} of {len(parts)} scans go from below {_AIR_HU:g} to "
        f"above {_TISSUE_HU:g}, as Hounsfield units do"
    )


def _summarise_label(value: int, cases: Sequence[CaseFacts], voxels: int) -> LabelSummary:
    """Summarise one label value over the cases."""
    found = [label for case in cases for label in case.labels if label.value == value]
    return LabelSummary(
        value=value,
        cases=len(found),
        share=sum(label.voxels for label in found) / max(voxels, 1),
        components=_spread([len(label.component_ml) for label in found]),
        component_ml=_spread([volume for label in found for volume in label.component_ml]),
        place_sd=triple(np.std([label.place for label in found], axis=0, ddof=1))
        if len(found) > 1
        else None,
    )


def _spread(values: Sequence[float]) -> Spread:
    """Return minimum, median and maximum; three zeros if there are no values."""
    if not values:
        return Spread(0.0, 0.0, 0.0)
    return Spread(float(min(values)), float(np.median(values)), float(max(values)))


def _spreads(rows: Sequence[Sequence[float]]) -> tuple[Spread, Spread, Spread]:
    """Return a spread for each of three columns."""
    r, a, s = (_spread(column) for column in zip(*rows, strict=True))
    return r, a, s
