"""Make one report for each case, whatever error occurs while the case is processed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from voxtile.case import Case
from voxtile.errors import CaseError, EnvironmentFault, Notice, place_of
from voxtile.machine.memory_errors import MEMORY_CODES, is_out_of_memory
from voxtile.machine.processes import needing_threads
from voxtile.models.spec import Label
from voxtile.run_folder.anonymous import without_names
from voxtile.run_folder.case_report import CaseReport, failed_rows
from voxtile.scoring.rows import LabelRow
from voxtile.scoring.score import Measures

from .journal import Journal, peak_memory_mb


@dataclass(frozen=True, slots=True)
class Result:
    """The result of processing a case; its fields have the same meaning as in `CaseReport`."""

    labels: tuple[LabelRow, ...]
    geometry: dict[str, Any] = field(default_factory=dict)
    mask: dict[str, str] = field(default_factory=dict)
    qc: dict[str, Any] = field(default_factory=dict)


def attempt(
    case: Case,
    labels: Sequence[Label],
    do: Callable[[Journal], Result],
    *,
    measures: Measures,
    journal: Journal | None = None,
    more_memory: str = "use a machine with more memory",
) -> CaseReport:
    """Process a case and return its report, which has the reason if the case failed.

    `do` processes the case: it writes stages, warnings and fingerprint to the journal, and returns
    the result. A failed case has a row for each of `labels`, with the columns of `measures`.
    `more_memory` says what a user can do if memory runs out. EnvironmentFault if results cannot be
    written, because then the next case would fail too.
    """
    journal = journal or Journal()
    result, reason = Result(failed_rows(labels, measures)), None
    try:
        with needing_threads():
            result = do(journal)
    except EnvironmentFault:
        raise
    except Exception as error:
        reason = _reason(error, journal.stage_name, more_memory)
    named = partial(without_names, case)
    return replace(
        CaseReport.of(case, result.labels, None if reason is None else named(reason)),
        warnings=tuple(dict.fromkeys(map(named, journal.notices))),
        fingerprint=journal.fingerprint,
        geometry=result.geometry,
        mask=result.mask,
        qc=result.qc,
        timings_s=dict(journal.seconds),
        seconds=journal.total_seconds,
        peak_memory_mb=peak_memory_mb(),
    )


def _reason(error: Exception, stage: str, more_memory: str) -> Notice:
    """Return why an error ended a case in a stage."""
    lacking = is_out_of_memory(error)
    if isinstance(error, CaseError) and (error.code in MEMORY_CODES or not lacking):
        return Notice(error.code, error.sentence)
    if lacking:
        return Notice("out_of_memory", f"memory ran out in stage {stage}; {more_memory}")
    # Show only its type and place: the message of another library may quote patient text.
    return Notice(
        "unexpected",
        f"{type(error).__name__} in stage {stage} ({place_of(error)}); this is a bug in voxtile: "
        "please report it with this line",
    )
