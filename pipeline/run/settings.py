"""The settings that a user chooses for a run, and which of them change its results.

The command line makes its options from this module, so it imports no large package.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from voxtile.case import Split
from voxtile.engines.options import Wish
from voxtile.preparation.options import PlanWish
from voxtile.reading.scan import ReadPolicy
from voxtile.scoring.measures import Measures


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run treats its cases.

    Parameters
    ----------
    policy : ReadPolicy
        How to read a scan that can be read in more than one way.
    label_map : mapping of int to int
        Reference values to rename.
    ignore_bad_labels : bool
        If a reference cannot be used, segment its case without scoring it.
    plan : PlanWish
        How planes are tiled; by default, the bundle decides.
    engine : Wish
        What runs the networks.
    splits : tuple of str
        Only cases of these splits, such as val or val,test.
    exports : tuple of str
        Also write the masks in these formats, such as seg.nrrd,bids.
    measures : Measures
        What to measure in addition to the standard metrics.
    by : tuple of str
        Columns of the manifest to summarise by.
    montages : bool
        Draw a picture of each case into ``qc/``.
    cases : tuple of str
        Only these case ids, such as p1,p2.
    thresholds : mapping of str to float
        Smallest probability of labels, by their names or values, instead of the model's.

    Raises
    ------
    ValueError
        If an export format does not exist.
    """

    policy: ReadPolicy = field(default_factory=ReadPolicy)
    label_map: Mapping[int, int] = field(default_factory=dict)
    ignore_bad_labels: bool = False
    plan: PlanWish = field(default_factory=PlanWish)
    engine: Wish = field(default_factory=Wish)
    splits: tuple[Split, ...] = ()
    exports: tuple[str, ...] = ()
    measures: Measures = field(default_factory=Measures)
    by: tuple[str, ...] = ()
    montages: bool = True
    cases: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.exports:
            from voxtile.export import check_formats  # it loads NumPy, which `--help` does not need

            object.__setattr__(self, "exports", check_formats(self.exports, running=True))

    def decisive(self) -> dict[str, Any]:
        """Return what changes a result, apart from engine, plan and thresholds."""
        return {
            "policy": asdict(self.policy),
            "label_map": {str(key): value for key, value in sorted(self.label_map.items())},
            "ignore_bad_labels": self.ignore_bad_labels,
            "measures": self.measures.facts(),
        }
