"""Try the verdict on hippocampi: how often its bound holds, and which bad masks it finds.

python scripts/verdict_trial.py DATA    (a folder with hippocampus/, and tasks/ for other anatomy)

The validation cases of the shipped model calibrate it. For each tenth of them the calibration
is learned again from the other nine tenths, so no case that is judged has calibrated anything.
Then 200 scans are damaged, or show another anatomy, where every mask is wrong.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.stats import binomtest, spearmanr

from voxtile.engines import choose_engine
from voxtile.inference.entropy import EntropyWatch
from voxtile.inference.segmenter import Segmenter, load_segmenter, make_plans
from voxtile.manifest.rows import read_manifest
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.quality import Quality
from voxtile.preparation.options import PlanWish
from voxtile.reading.channels import read_channels
from voxtile.reading.nifti import read_nifti
from voxtile.reading.reference import read_reference
from voxtile.report.qc import inspect_case
from voxtile.report.quality import Observation, learn_quality, predict_dice
from voxtile.report.verdict import LEAST_DICE, judge_record
from voxtile.run_folder.case_report import plain
from voxtile.scoring.overlap import count_overlaps
from voxtile.scoring.rows import label_rows
from voxtile.scoring.score import Measures
from voxtile.volume import Volume

MANIFEST = Path(__file__).resolve().parents[1] / "manifests" / "hippocampus.csv"
EACH = 25
FOLDS = 10
KINDS = (
    "noise", "flipped", "shifted", "half the slices", "motion", "wrong intensities",
    "another sequence",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A scan that was segmented, and what is known of its mask."""

    kind: str
    fold: int
    image: Volume
    mask: Volume
    entropy: float | None
    seen: Observation

    @property
    def is_bad(self) -> bool:
        """Whether the Dice of a label is below the limit."""
        return any(dice is not None and dice < LEAST_DICE for dice in self.seen.dice)

    def reasons(self, bundle: Bundle, quality: Quality) -> set[str]:
        """Return the codes of the reasons to look at the mask; empty if it is usable."""
        labels = bundle.spec.labels
        rows = label_rows(self.mask, None, labels, Measures())
        dice = predict_dice(quality, labels, self.seen.expected)
        qc = inspect_case(
            self.mask, labels, rows, image=self.image, spec=bundle.spec, entropy=self.entropy,
            dice=dice,
        )  # fmt: skip
        record = {"status": "done", "labels": plain(rows), "warnings": [], "qc": qc}
        return {reason.code for reason in judge_record(record).reasons}


def damaged(
    kind: str, array: np.ndarray, reference: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a damaged scan and the reference that belongs to it."""
    low, high = np.percentile(array, (0.5, 99.5))
    share = (array.clip(low, high) - low) / (high - low)
    axis = int(rng.integers(3))
    if kind == "noise":
        return array + rng.normal(0, rng.uniform(0.5, 3) * array.std(), array.shape), reference
    if kind == "flipped":
        return np.flip(array, axis), np.flip(reference, axis)
    if kind == "shifted":
        offset = [0, 0, 0]
        offset[axis] = int(rng.uniform(0.2, 0.6) * array.shape[axis] * rng.choice((-1, 1)))
        moved = (ndimage.shift(one, offset, order=0) for one in (array, reference))
        return next(moved), next(moved)
    if kind == "half the slices":
        half = array.shape[axis] // 2
        part = [slice(None)] * 3
        part[axis] = slice(half) if rng.random() < 0.5 else slice(half, None)
        return array[tuple(part)], reference[tuple(part)]
    if kind == "motion":  # each line along A is measured at another place
        places = rng.normal(0, rng.uniform(2, 6), array.shape[1])
        phase = np.exp(2j * np.pi * places * np.fft.fftfreq(array.shape[1]))
        return np.abs(np.fft.ifftn(np.fft.fftn(array) * phase[:, np.newaxis])), reference
    if kind == "wrong intensities":
        power = float(rng.choice((0.15, 0.3, 4, 8)))
        ramp = np.linspace(1, rng.uniform(0.1, 0.6), array.shape[axis])
        return share**power * np.moveaxis(ramp[:, None, None], 0, axis), reference
    # Another sequence: dark fluid becomes bright, as in T2.
    levels = [0, 1, 0.75, 0.5, 0.35, 0.3] if rng.random() < 0.5 else [1, 0.8, 0.6, 0.4, 0.2, 0]
    return np.interp(share, [0, 0.15, 0.4, 0.6, 0.8, 1], levels), reference


def foreign(data: Path) -> Iterator[Volume]:
    """Yield scans of other anatomy, cropped to about the size of the training scans."""
    folders = ("lidc_nodules_ct", "lumbar_vertebrae_mr", "mouse_brain_mr", "fetal_brain_sba_atlas")
    for name in folders:
        for path in sorted((data / "tasks" / name / "images").iterdir())[:7]:
            scan = read_nifti(path).volume
            begin = [max(0, size // 2 - 24) for size in scan.shape]
            part = tuple(slice(start, start + 48) for start in begin)
            yield Volume(np.ascontiguousarray(scan.array[part]), scan.affine)


def judged(
    bundle: Bundle, segmenter: Segmenter, kind: str, fold: int, image: Volume, reference: Volume
) -> Judged:
    """Segment one scan."""
    spec = bundle.spec
    watch = EntropyWatch(spec.activation, spec.thresholds)
    mask = segmenter(image, watch)
    regions = [label.values for label in spec.labels]
    dice = [one.dice for one in count_overlaps(mask.array, reference.array, regions)]
    seen = Observation(
        f"{kind} {id(image)}", watch.expected_dice, tuple(None if isnan(x) else x for x in dice)
    )
    return Judged(kind, fold, image, mask, watch.mean, seen)


def segment_all(data: Path, bundle: Bundle) -> Iterator[Judged]:
    """Yield the undamaged cases, the damaged ones, and those of other anatomy."""
    segmenter = load_segmenter(bundle, make_plans(bundle, PlanWish()), choose_engine(bundle))
    rng = np.random.default_rng(0)
    cases = [
        case
        for case in read_manifest(MANIFEST, root=data / "hippocampus")
        if case.split == "val" and case.label is not None
    ]
    scans = []
    for number, case in enumerate(cases):
        image = read_channels(case, bundle.spec.channels).volume
        reference, _ = read_reference(case.label, image, bundle.spec.labels)  # type: ignore[arg-type]
        scans.append((image, reference))
        yield judged(bundle, segmenter, "undamaged", number % FOLDS, image, reference)
    for kind in KINDS:
        for number in rng.permutation(len(scans))[:EACH].tolist():
            image, reference = scans[number]
            array, true = damaged(kind, image.array.astype(np.float32), reference.array, rng)
            image = Volume(np.ascontiguousarray(array, np.float32), image.affine)
            reference = Volume(np.ascontiguousarray(true, np.uint8), image.affine)
            yield judged(bundle, segmenter, kind, number % FOLDS, image, reference)
    for number, image in enumerate(foreign(data)):
        if number < EACH:
            nothing = Volume(np.zeros(image.shape, np.uint8), image.affine)
            yield judged(bundle, segmenter, "other anatomy", number % FOLDS, image, nothing)


def main() -> None:
    """Print the figures of docs/verdict.md."""
    data, bundle = Path(sys.argv[1]), load_bundle("hippocampus")
    everything = list(segment_all(data, bundle))
    usual = [one for one in everything if one.kind == "undamaged"]
    qualities = [
        learn_quality(bundle, [one.seen for one in usual if one.fold != fold], "trial")
        for fold in range(FOLDS)
    ]
    for index, label in enumerate(bundle.spec.labels):
        for kind, chosen in (("undamaged", usual), ("all", everything)):
            pairs = [
                (dice, each)
                for one in chosen
                for each in predict_dice(qualities[one.fold], bundle.spec.labels, one.seen.expected)
                if each.label == label.value and (dice := one.seen.dice[index]) is not None
            ]
            held = sum(dice >= prediction.lower for dice, prediction in pairs)
            low, high = binomtest(held, len(pairs)).proportion_ci(0.95)
            rho = spearmanr(*zip(*((dice, one.predicted) for dice, one in pairs), strict=True))[0]
            width = np.mean([one.predicted - one.lower for _, one in pairs])
            print(
                f"{label.name}, {kind}: bound holds for {held} of {len(pairs)} "
                f"({held / len(pairs):.1%}, 95 % interval {low:.1%} to {high:.1%}), "
                f"width {width:.3f}, rank correlation {rho:.2f}"
            )
    counts: dict[tuple[str, bool], list[int]] = defaultdict(lambda: [0, 0])
    for one in everything:
        reasons = one.reasons(bundle, qualities[one.fold])  # type: ignore[arg-type]
        for key in (one.kind, "all damaged or foreign" if one.kind != "undamaged" else ""):
            for place, found in enumerate((True, bool(reasons))):
                counts[key, one.is_bad][place] += found
    for (kind, bad), (number, listed) in sorted(counts.items()):
        if kind:
            word = f"Dice below {LEAST_DICE:g}" if bad else "good"
            print(f"{kind}, {word}: {listed} of {number} listed ({listed / number:.1%})")


if __name__ == "__main__":
    main()
