"""Decide which cases to look at first, without a reference.

There are two kinds of flags: those of a single case (`inspect_case`, stored in
its record) and those that compare the cases of a run (`flag_cases`, computed
whenever the report is written). Each has a reason and a severity, which is 1
at its limit; the rank of a case follows its most severe flag.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, log
from statistics import median
from typing import Any

from voxtile.models.spec import Label, ModelSpec
from voxtile.run_folder.case_report import CaseReport
from voxtile.scoring.rows import LabelRow
from voxtile.volume import Volume

from .domain import Flag, compare_scan, describe_scan
from .faces import touched_faces, usual_faces
from .quality import DicePrediction, dice_flags

CODES = (
    "empty", "border", "volume", "components", "entropy", "intensity", "spacing",
    "extent", "dice",
)  # fmt: skip
# With fewer cases, no case can be called an outlier.
_FEWEST = 5
# Modified z-score that marks an outlier (Iglewicz and Hoaglin 1993, section 3).
_OUTLIER = 3.5
_MOST_SEVERE = 10.0
# Minimum spreads. In a very uniform cohort (of phantoms, for example) tiny differences would
# otherwise be outliers; 0.02 is 2 % of a volume.
_LEAST_LOG_VOLUME = 0.02
_LEAST_ENTROPY = 0.005


@dataclass(frozen=True, slots=True)
class CaseFlags:
    """The flags of a case, most severe first, and its rank: 1 is first, None if it has no flags."""

    flags: tuple[Flag, ...]
    rank: int | None

    def of_label(self, label: int) -> str:
        """Return the flags of a label and of the whole case as one cell of the report."""
        return "; ".join(str(flag) for flag in self.flags if flag.label in (None, label))


def inspect_case(
    mask: Volume,
    labels: Sequence[Label],
    rows: Sequence[LabelRow],
    *,
    image: Volume | None = None,
    missing: Sequence[str] = (),
    spec: ModelSpec | None = None,
    entropy: float | None = None,
    dice: Sequence[DicePrediction] = (),
) -> dict[str, Any]:
    """Check a single case; return the part "qc" of its record.

    This part has ``entropy``, ``scan`` (spacing and intensities), ``dice`` and ``flags``. `mask` is
    the prediction; `image` is the scan, which is compared with the training scans if there is a
    spec, but not its `missing` channels. With a spec, faces of the scan that labels touch in
    training too are no flag. `entropy` is the mean entropy, from `voxtile.inference.entropy`;
    `dice` are the predicted Dice.
    """
    flags = list(dice_flags(dice, labels))
    training = {} if spec is None else spec.training
    for label, row, faces in zip(labels, rows, touched_faces(mask, labels), strict=True):
        usual = usual_faces(training, label.value)
        if not row.voxels_pred:
            flags.append(Flag("empty", f"no voxel of {label.name} was predicted", 5.0, label.value))
        elif odd := [face for face in faces if face not in usual]:
            sentence = f"{label.name} touches the {', '.join(odd)} border of the scan"
            flags.append(Flag("border", sentence, 1.0, label.value))
    facts: dict[str, Any] = {"entropy": entropy, "scan": None, "dice": list(map(asdict, dice))}
    if image is not None and spec is not None:
        scan = describe_scan(image, spec.channels, spec.intensity, missing)
        facts["scan"] = scan.dump()
        flags += [
            replace(flag, severity=min(flag.severity, _MOST_SEVERE))
            for flag in compare_scan(scan, spec.training)
        ]
    return {**facts, "flags": [asdict(flag) for flag in flags]}


def flag_cases(reports: Sequence[CaseReport]) -> dict[str, CaseFlags]:
    """Return the flags and the rank of each finished case of a run, by case id."""
    done = [report for report in reports if report.status == "done"]
    flags = {
        report.case_id: [Flag(**flag) for flag in report.qc.get("flags", ())] for report in done
    }
    found = list(_high_entropies(done))
    for label in dict.fromkeys(row.label for report in done for row in report.labels):
        rows = {
            report.case_id: row for report in done for row in report.labels if row.label == label
        }
        found += [*_unusual_volumes(rows), *_many_components(rows)]
    for case_id, flag in found:
        flags[case_id].append(flag)
    flagged = sorted(
        (case_id for case_id, of_case in flags.items() if of_case),
        key=lambda case_id: (
            -max(flag.severity for flag in flags[case_id]),
            -sum(flag.severity for flag in flags[case_id]),
            case_id,
        ),
    )
    ranks = {case_id: rank for rank, case_id in enumerate(flagged, start=1)}
    return {
        case_id: CaseFlags(
            tuple(sorted(of_case, key=lambda flag: -flag.severity)), ranks.get(case_id)
        )
        for case_id, of_case in flags.items()
    }


def _high_entropies(reports: Sequence[CaseReport]) -> Iterator[tuple[str, Flag]]:
    """Yield the cases for which the network was much less certain than for the others."""
    values = {
        report.case_id: float(report.qc["entropy"])
        for report in reports
        if report.qc.get("entropy") is not None
    }
    for case_id, score, middle in _outliers(values, _LEAST_ENTROPY):
        if score > 0:
            sentence = (
                f"mean entropy {values[case_id]:.3f}, the cohort's median is {middle:.3f} "
                f"(robust z {score:.1f}): tiles or views disagree, or the network is unsure"
            )
            yield case_id, Flag("entropy", sentence, min(score / _OUTLIER, _MOST_SEVERE))


def _unusual_volumes(rows: Mapping[str, LabelRow]) -> Iterator[tuple[str, Flag]]:
    """Yield the cases in which the log volume of a label is far from the median of the cohort."""
    volumes = {case_id: row.volume_ml_pred for case_id, row in rows.items() if row.volume_ml_pred}
    logarithms = {case_id: log(volume) for case_id, volume in volumes.items()}
    for case_id, score, middle in _outliers(logarithms, _LEAST_LOG_VOLUME):
        row = rows[case_id]
        sentence = (
            f"{row.label_name} has {volumes[case_id]:.3g} ml, the cohort's median is "
            f"{exp(middle):.3g} ml (robust z {score:.1f})"
        )
        yield case_id, Flag("volume", sentence, min(abs(score) / _OUTLIER, _MOST_SEVERE), row.label)


def _many_components(rows: Mapping[str, LabelRow]) -> Iterator[tuple[str, Flag]]:
    """Yield the cases in which a label has many more components than in the cohort."""
    counts = {case_id: row.components_pred for case_id, row in rows.items() if row.components_pred}
    if len(counts) < _FEWEST:
        return
    middle, spread = _robust(list(counts.values()))
    limit = max(2 * middle, middle + _OUTLIER * spread)
    for case_id, count in counts.items():
        if count > limit:
            row = rows[case_id]
            sentence = (
                f"{row.label_name} has {count} separate parts, the cohort's median is {middle:g}"
            )
            yield case_id, Flag("components", sentence, min(count / limit, _MOST_SEVERE), row.label)


def _outliers(
    values: Mapping[str, float], least_spread: float
) -> Iterator[tuple[str, float, float]]:
    """Yield the id, the robust z and the cohort's median of each outlier."""
    if len(values) < _FEWEST:
        return
    middle, spread = _robust(list(values.values()))
    for case_id, value in values.items():
        score = (value - middle) / max(spread, least_spread)
        if abs(score) > _OUTLIER:
            yield case_id, score, middle


def _robust(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the robust standard deviation, 1.4826 times the MAD."""
    middle = float(median(values))
    return middle, 1.4826 * float(median(abs(value - middle) for value in values))
