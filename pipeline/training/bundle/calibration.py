"""Learn from the validation cases how the Dice of a trained bundle is predicted."""

from collections.abc import Sequence
from pathlib import Path

from voxtile.engines import choose_engine
from voxtile.errors import counted
from voxtile.inference.segmenter import load_segmenter, make_plans
from voxtile.machine.files import write_text
from voxtile.models.bundle import load_bundle
from voxtile.models.quality import FEWEST, FILE
from voxtile.preparation.plan import PlanWish
from voxtile.report.quality import learn_quality
from voxtile.run.observation import observe
from voxtile.training.data.stored_cases import StoredCase


def calibrate(folder: Path, cases: Sequence[StoredCase], groups: Sequence[str]) -> str:
    """Write ``quality.json`` if there are enough groups of cases; return a line that says so."""
    bundle = load_bundle(folder)
    several, quality = len({*groups}), None
    if several >= FEWEST:
        segmenter = load_segmenter(bundle, make_plans(bundle, PlanWish()), choose_engine(bundle))
        observations = [
            observe(group, case.volume, case.reference, bundle.spec, segmenter)
            for group, case in zip(groups, cases, strict=True)
        ]
        source = f"{counted(len(cases), 'validation case')}, which also chose the checkpoint"
        quality = learn_quality(bundle, observations, source)
    if quality is None:
        few = f", there are {several}" if several < FEWEST else ", and some masks are empty"
        return (
            f"no predicted Dice: at least {FEWEST} independent validation cases with a mask of a "
            f"label are needed{few}; voxtile models calibrate takes cases or a cross-validation"
        )
    write_text(folder / FILE, quality.dump())
    return f"predicted Dice: learned from {quality.source}"
