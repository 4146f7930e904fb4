"""Which cases to look at first, without any reference.

Two kinds of flags: what a case shows by itself (`inspect_case`, kept in its
JSON) and what shows only beside the others of its run (`flag_cases`, worked
out whenever the report is written). Each has a reason and a severity, 1 at
its limit; the rank of a case follows its most severe flag.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from statistics import median
from typing import Any

import numpy as np

from voxtile.models.spec import Label, ModelSpec
from voxtile.run_folder.case_report import CaseReport
from voxtile.scoring.rows import LabelRow
from voxtile.volume import Volume, canonical

from .domain import compare_scan, describe_scan

CODES = ("empty", "border", "volume", "components", "entropy", "intensity", "spacing")
# Fewer cases are no cohort: one of them is no outlier of the rest.
_FEWEST = 5
# Modified z-score that marks an outlier (Iglewicz and Hoaglin 1993, section 3).
_OUTLIER = 3.5
_MOST_SEVERE = 10.0
# Cohorts as alike as this (phantoms, say) would make outliers of nothing: 2 % of a volume.
_LEAST_LOG_VOLUME = 0.02
_LEAST_ENTROPY = 0.005
_FACES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))


@dataclass(frozen=True, slots=True)
class Flag:
    """A reason to look at a case.

    Parameters
    ----------
    code : str
        One of `CODES`.
    sentence : str
    severity : float
        1 at the limit, at most 10.
    label : int or None
        None where it concerns the whole case.
    """

    code: str
    sentence: str
    severity: float
    label: int | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class CaseFlags:
    """Flags of one case and its place in the queue, 1 first; None without flags."""

    flags: tuple[Flag, ...]
    rank: int | None

    def of_label(self, label: int) -> str:
        """Return what concerns a label, or the whole case, as one cell of the report."""
        return "; ".join(str(flag) for flag in self.flags if flag.label in (None, label))


def inspect_case(
    mask: Volume,
    labels: Sequence[Label],
    rows: Sequence[LabelRow],
    *,
    image: Volume | None = None,
    spec: ModelSpec | None = None,
    entropy: float | None = None,
) -> dict[str, Any]:
    """Look at a case by itself; return what its JSON keeps under "qc".

    Parameters
    ----------
    mask : Volume of integers
        The prediction.
    labels : sequence of Label
    rows : sequence of LabelRow
        What was measured of each label, in the same order.
    image : Volume, optional
        The scan; compared with those of the training where there is a spec.
    spec : ModelSpec, optional
    entropy : float, optional
        From `voxtile.inference.entropy`.

    Returns
    -------
    dict
        ``entropy``, ``scan`` (spacing and intensities) and ``flags``.
    """
    flags = []
    for label, row, faces in zip(labels, rows, _faces(mask, labels), strict=True):
        if not row.voxels_pred:
            flags.append(Flag("empty", f"no voxel of {label.name} was predicted", 5.0, label.value))
        elif faces:
            sentence = f"{label.name} touches the {', '.join(faces)} border of the scan"
            flags.append(Flag("border", sentence, 1.0, label.value))
    facts: dict[str, Any] = {"entropy": entropy, "scan": None}
    if image is not None and spec is not None:
        scan = describe_scan(image, spec.channels, spec.intensity)
        facts["scan"] = scan.dump()
        flags += [
            Flag(strange.code, strange.sentence, min(strange.severity, _MOST_SEVERE))
            for strange in compare_scan(scan, spec.training)
        ]
    return {**facts, "flags": [asdict(flag) for flag in flags]}


def flag_cases(reports: Sequence[CaseReport]) -> dict[str, CaseFlags]:
    """Return the flags of each finished case of a run, and who is to be looked at first.

    Parameters
    ----------
    reports : sequence of CaseReport

    Returns
    -------
    dict of str to CaseFlags
        By case id, in the order of the reports.
    """
    done = [report for report in reports if report.status == "done"]
    flags: dict[str, list[Flag]] = {report.case_id: _own_flags(report) for report in done}
    if len(done) >= _FEWEST:
        _drop_the_usual(flags)
    found = list(_unsure(done))
    for label in dict.fromkeys(row.label for report in done for row in report.labels):
        rows = {
            report.case_id: row for report in done for row in report.labels if row.label == label
        }
        found += [*_odd_volumes(rows), *_many_components(rows)]
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


def _faces(mask: Volume, labels: Sequence[Label]) -> list[tuple[str, ...]]:
    """Return for each label which faces of the scan it touches.

    An axis with a single plane has no inside, so its faces do not count.
    """
    array = canonical(mask).array
    touching: dict[str, set[int]] = {}
    for axis, names in enumerate(_FACES):
        if array.shape[axis] > 1:
            for name, index in zip(names, (0, -1), strict=True):
                touching[name] = set(np.unique(np.moveaxis(array, axis, 0)[index]).tolist())
    return [
        tuple(name for name, values in touching.items() if values & set(label.values))
        for label in labels
    ]


def _own_flags(report: CaseReport) -> list[Flag]:
    """Return the flags that a case's JSON has."""
    return [Flag(**flag) for flag in report.qc.get("flags", ())]


def _drop_the_usual(flags: dict[str, list[Flag]]) -> None:
    """Forget that a label is empty or cut where it is so in most cases: then it is no news."""
    for code in ("empty", "border"):
        labels = {flag.label for of_case in flags.values() for flag in of_case if flag.code == code}
        for label in labels:
            having = [
                case_id
                for case_id, of_case in flags.items()
                if any(flag.code == code and flag.label == label for flag in of_case)
            ]
            if 2 * len(having) > len(flags):
                for case_id in having:
                    flags[case_id] = [
                        flag
                        for flag in flags[case_id]
                        if not (flag.code == code and flag.label == label)
                    ]


def _unsure(reports: Sequence[CaseReport]) -> Iterator[tuple[str, Flag]]:
    """Yield the cases of which the network was much less sure than of the others."""
    values = {
        report.case_id: float(report.qc["entropy"])
        for report in reports
        if report.qc.get("entropy") is not None
    }
    if len(values) < _FEWEST:
        return
    middle, spread = _robust(values.values())
    for case_id, value in values.items():
        score = (value - middle) / max(spread, _LEAST_ENTROPY)
        if score > _OUTLIER:
            yield (
                case_id,
                Flag(
                    "entropy",
                    f"mean entropy {value:.3f}, the cohort's median is {middle:.3f} "
                    f"(robust z {score:.1f}): tiles or views disagree, or the network is unsure",
                    min(score / _OUTLIER, _MOST_SEVERE),
                ),
            )


def _odd_volumes(rows: Mapping[str, LabelRow]) -> Iterator[tuple[str, Flag]]:
    """Yield the cases whose volume of one label is far from the cohort's.

    Logarithms are compared: half of the median is as far from it as double.
    """
    volumes = {case_id: row.volume_ml_pred for case_id, row in rows.items() if row.volume_ml_pred}
    if len(volumes) < _FEWEST:
        return
    middle, spread = _robust(map(log, volumes.values()))
    for case_id, volume in volumes.items():
        score = (log(volume) - middle) / max(spread, _LEAST_LOG_VOLUME)
        if abs(score) > _OUTLIER:
            row = rows[case_id]
            yield (
                case_id,
                Flag(
                    "volume",
                    f"{row.label_name} has {volume:.3g} ml, the cohort's median is "
                    f"{exp(middle):.3g} ml (robust z {score:.1f})",
                    min(abs(score) / _OUTLIER, _MOST_SEVERE),
                    row.label,
                ),
            )


def _many_components(rows: Mapping[str, LabelRow]) -> Iterator[tuple[str, Flag]]:
    """Yield the cases in which a label falls into many more parts than in the cohort."""
    counts = {case_id: row.components_pred for case_id, row in rows.items() if row.components_pred}
    if len(counts) < _FEWEST:
        return
    middle, spread = _robust(counts.values())
    limit = max(2 * middle, middle + _OUTLIER * spread)
    for case_id, count in counts.items():
        if count > limit:
            row = rows[case_id]
            yield (
                case_id,
                Flag(
                    "components",
                    f"{row.label_name} has {count} separate parts, the cohort's median is "
                    f"{middle:g}",
                    min(count / limit, _MOST_SEVERE),
                    row.label,
                ),
            )


def _robust(values: Iterable[float]) -> tuple[float, float]:
    """Return the median, and the standard deviation as 1.4826 MAD gives it for normal values."""
    known = list(values)
    middle = float(median(known))
    return middle, 1.4826 * float(median(abs(value - middle) for value in known))
