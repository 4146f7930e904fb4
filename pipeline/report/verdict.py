"""Decide which masks can be used: a verdict for each case, and one line for a run.

    usable   no rule of `RULES` applies
    look     a person should look at the mask before it is used, for the reasons given
    failed   there is no mask

Imports no large package, because `voxtile status` judges thousands of records.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from voxtile.errors import Notice, counted

if TYPE_CHECKING:
    from voxtile.run_folder.case_report import CaseReport

    from .domain import Flag

# A Dice below this is a reason to look, whether it was measured or predicted.
LEAST_DICE = 0.7
# The rules in order of weight: the code of a flag, and the words for it in the line of a run.
RULES = {
    "empty": "empty",
    "scored": f"Dice below {LEAST_DICE:g}",
    "dice": f"predicted Dice perhaps below {LEAST_DICE:g}",
    "scan": "with a doubtful scan",
    "intensity": "outside the training's intensities",
    "spacing": "outside the training's spacings",
    "extent": "outside the training's extents",
    "border": "at the border of the scan",
    "components": "with many separate parts",
    "volume": "of unusual volume",
    "entropy": "unusually uncertain",
}
# Warnings of readers that question where the voxels are, or what their values mean.
DOUBTS = frozenset(
    (
        "bad_sform", "constant", "duplicates_first", "form_conflict", "frames_of_reference",
        "missing_interpolated", "nan_filled", "no_orientation", "no_rescale", "no_thickness",
        "picture_spacing", "tilt_unused",
    )
)  # fmt: skip
_WEIGHTS = {code: weight for weight, code in enumerate(RULES)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a mask can be used, and why not; the weightiest reason is first."""

    word: Literal["usable", "look", "failed"]
    reasons: tuple[Notice, ...] = ()

    def __str__(self) -> str:
        """Return the word and the codes of the reasons, such as "look (empty, border)"."""
        codes = ", ".join(dict.fromkeys(reason.code for reason in self.reasons))
        return f"{self.word} ({codes})" if codes else self.word


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """The verdicts of a run, counted."""

    usable: int
    failed: int
    look: Mapping[str, int]  # cases to look at, by the code of their weightiest reason
    common: Mapping[str, int]  # reasons that more than half of the finished cases have
    missing: int = 0

    @property
    def line(self) -> str:
        """The counts in one line, for people."""
        look = sum(self.look.values())
        why = ", ".join(f"{count} {RULES[code]}" for code, count in self.look.items())
        return (
            f"{counted(self.usable + look + self.failed + self.missing, 'case')}: {self.usable} "
            f"usable, {look} to look at{f' ({why})' if why else ''}, {self.failed} failed"
            + (f", {self.missing} missing" if self.missing else "")
        )

    @property
    def lines(self) -> Iterator[str]:
        """The line, after one line for each reason that most cases have."""
        finished = self.usable + sum(self.look.values())
        for code, count in self.common.items():
            yield (
                f"{count} of {finished} masks: {RULES[code]}; check that the model fits these "
                "scans before you use any of their masks"
            )
        yield self.line

    def dump(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "line": self.line,
            "usable": self.usable,
            "look": dict(self.look),
            "failed": self.failed,
            "common": dict(self.common),
        }


def judge(report: "CaseReport", flags: "Sequence[Flag] | None" = None) -> Verdict:
    """Return the verdict of a case.

    `flags` are those of `voxtile.report.qc.flag_cases`; without them, the flags that compare the
    cases of a run are not known.
    """
    own = report.qc.get("flags", ())
    return judge_record(
        {
            "status": report.status,
            "reason": None if report.reason is None else asdict(report.reason),
            "warnings": [asdict(notice) for notice in report.warnings],
            "labels": [
                {name: getattr(row, name) for name in ("label", "label_name", "status", "dice")}
                for row in report.labels
            ],
            "qc": {"flags": own if flags is None else [asdict(flag) for flag in flags]},
        }
    )


def judge_record(record: Mapping[str, Any]) -> Verdict:
    """Return the verdict of a case from its record, without the flags that compare cases."""
    if record["status"] == "failed":
        reason = record.get("reason")
        return Verdict("failed", (_notice(reason),) if reason else ())
    rows = record.get("labels", ())
    # Where the reference is empty too, an empty mask is right.
    right = {row["label"] for row in rows if row["status"] == "both_empty"}
    found = [
        (flag["severity"], _notice(flag))
        for flag in record.get("qc", {}).get("flags", ())
        if flag["code"] in RULES and not (flag["code"] == "empty" and flag["label"] in right)
    ]
    for notice in map(_notice, record.get("warnings", ())):
        if notice.code in DOUBTS:
            found.append((1.0, Notice("scan", notice.sentence)))
    for row in rows:
        dice = row.get("dice")
        if dice is not None and dice < LEAST_DICE and row["status"] != "pred_empty":
            words = f"{row['label_name']} has Dice {dice:.3f} with the reference"
            found.append((1.0 - dice, Notice("scored", words)))
    found.sort(key=lambda pair: (_WEIGHTS[pair[1].code], -pair[0]))
    reasons = tuple(dict.fromkeys(reason for _, reason in found))
    return Verdict("look" if reasons else "usable", reasons)


def count_verdicts(verdicts: Iterable[Verdict], missing: int = 0) -> RunVerdict:
    """Count the verdicts of a run; each case to look at counts for its weightiest reason."""
    verdicts = tuple(verdicts)
    finished = [verdict for verdict in verdicts if verdict.word != "failed"]
    first = Counter(verdict.reasons[0].code for verdict in finished if verdict.reasons)
    codes = Counter(code for one in finished for code in {reason.code for reason in one.reasons})
    return RunVerdict(
        sum(verdict.word == "usable" for verdict in finished),
        len(verdicts) - len(finished),
        {code: first[code] for code in RULES if code in first},
        {code: codes[code] for code in RULES if 2 * codes[code] > max(2, len(finished))},
        missing,
    )


def _notice(values: Mapping[str, Any]) -> Notice:
    """Return the code and the sentence of a JSON object."""
    return Notice(values["code"], values["sentence"])
