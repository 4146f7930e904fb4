"""Make a bundle's int8 networks so that they pass: as a whole, else without their worst layers.

Groups of layers (encoder levels, bottleneck, decoder levels, head) are ordered by the share of
int8's error that each makes. If int8 as a whole changes masks too much, the worst 1, 2, 4 and 8
groups, and all but one, are left in bfloat16 or float32, until one of these tries passes or none
can be worth it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

import numpy as np

from voxtile.engines.engine import Precision
from voxtile.engines.measurements import LEAST_GAIN, Evidence, Measurement
from voxtile.engines.quantised import kept_layers, quantise, quantised_digest
from voxtile.engines.sensitivity import error_shares
from voxtile.engines.short_numbers import pays
from voxtile.errors import ModelError, counted
from voxtile.models.bundle import Bundle

# How many of the most sensitive groups are left out, in turn; no try begins after so many seconds.
_COUNTS = (1, 2, 4, 8)
_LONGEST_S = 1200.0


def int8_measurements(
    bundle: Bundle,
    tiles: Sequence[Sequence[np.ndarray]],
    measure: Callable[[], Measurement],
    evidence: Evidence,
    say: Callable[[str], None],
) -> Iterator[Measurement]:
    """Make int8 networks, and yield what `measure` finds: of the whole ones, and the best others.

    `tiles` are those of each network that the scales come from. Layers are left out only if
    `evidence`, of the other precisions, is enough to allow a precision.
    """
    try:
        _make(bundle, tiles)
        whole = measure()
        yield whole
        if not whole.within_limits and not evidence.shortage:
            yield from _without_worst(bundle, tiles, measure, evidence, say)
    except ModelError as error:  # only these rows are lost
        say(f"warning: {error}")


def int8_facts(bundle: Bundle) -> dict[str, Any]:
    """Return what a measurement says about a bundle's int8 networks, which were made here."""
    kept, rest = kept_layers(bundle.spec.networks[0])
    return {"made": quantised_digest(bundle) or "", "kept": kept, "rest": rest}


def _without_worst(
    bundle: Bundle,
    tiles: Sequence[Sequence[np.ndarray]],
    measure: Callable[[], Measurement],
    evidence: Evidence,
    say: Callable[[str], None],
) -> Iterator[Measurement]:
    """Yield the first measurement that passes with layers left out; else the last, and say why."""
    begin = monotonic()
    slowest, rest = _least_speed(evidence), _rest(evidence)
    order = _worst_first(bundle, tiles, rest)
    found = None
    for count in sorted({*_COUNTS, len(order) - 1} & set(range(1, len(order)))):
        if found is not None and monotonic() - begin > _LONGEST_S:
            say(f"int8: no more layers were tried after {_LONGEST_S / 60:.0f} minutes")
            break
        _make(bundle, tiles, order[:count], rest)
        found = measure()
        if found.within_limits or found.tiles_per_s < slowest:
            break
    if found is None:
        return
    yield found
    if not found.within_limits:
        slow = f" and computes fewer than {slowest:.1f} tiles/s"
        say(
            f"int8 changes masks too much, also with {counted(len(found.kept), 'group')} of layers "
            f"in {found.rest} ({', '.join(found.kept)})"
            f"{slow if found.tiles_per_s < slowest else ''}; auto does not use it"
        )


def _make(
    bundle: Bundle,
    tiles: Sequence[Sequence[np.ndarray]],
    kept: Sequence[str] = (),
    rest: Precision = "float32",
) -> None:
    """Make the networks, with the groups `kept` in `rest`."""
    for network, given in zip(bundle.spec.networks, tiles, strict=True):
        quantise(bundle, network, given, kept, rest)


def _worst_first(
    bundle: Bundle, tiles: Sequence[Sequence[np.ndarray]], rest: Precision
) -> list[str]:
    """Return the groups of layers of all networks, by their share of the error."""
    total: dict[str, float] = defaultdict(float)
    for network, given in zip(bundle.spec.networks, tiles, strict=True):
        for group, share in error_shares(bundle, network, given, rest).items():
            total[group] += share
    return sorted(total, key=lambda group: -total[group])


def _rest(evidence: Evidence) -> Precision:
    """Return the precision of layers that are left out: bfloat16 if it is fast and passes."""
    passes = any(
        (one.engine, one.precision) == ("openvino", "bfloat16") and one.within_limits
        for one in evidence.measurements
    )
    return "bfloat16" if passes and pays("openvino") else "float32"


def _least_speed(evidence: Evidence) -> float:
    """Return the tiles per second below which int8 would not be chosen."""
    mine = [one for one in evidence.measurements if one.engine == "openvino"]
    return max(
        one.tiles_per_s * (LEAST_GAIN if one.precision == "float32" else 1)
        for one in mine
        if one.precision == "float32" or one.within_limits
    )
