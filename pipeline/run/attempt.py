"""The outcome of a case: one report, whatever happens while the case is done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from voxtile.case import Case
from voxtile.errors import CaseError, EnvironmentFault, Notice, place_of
from voxtile.models.spec import Label
from voxtile.run_folder.case_report import CaseReport, failed_rows
from voxtile.scoring.rows import LabelRow
from voxtile.scoring.score import Measures

from .journal import Journal, peak_memory_mb


@dataclass(frozen=True, slots=True)
class Result:
    """What doing a case gave; each field is that of `CaseReport`."""

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
    """Do a case and return its report, which says why if it failed.

    `do` names its stages, warnings and fingerprint in the journal, and returns the result. A failed
    case has a row for each of `labels`, with the columns of `measures`. `more_memory` says what a
    user can do if memory runs out. EnvironmentFault if results cannot be written: the next case
    would end in the same way.
    """
    journal = journal or Journal()
    result, reason = Result(failed_rows(labels, measures)), None
    try:
        result = do(journal)
    except EnvironmentFault:
        raise
    except CaseError as error:
        reason = Notice(error.code, error.sentence)
    except MemoryError:
        reason = Notice(
            "out_of_memory", f"memory ran out in stage {journal.stage_name}; {more_memory}"
        )
    except Exception as error:
        # Only its type and place: the message of another library may quote patient text.
        reason = Notice(
            "unexpected",
            f"{type(error).__name__} in stage {journal.stage_name} ({place_of(error)}); "
            "this is a bug in voxtile: please report it with this line",
        )
    return replace(
        CaseReport.of(case, result.labels, reason),
        warnings=tuple(journal.notices),
        fingerprint=journal.fingerprint,
        geometry=result.geometry,
        mask=result.mask,
        qc=result.qc,
        timings_s=dict(journal.seconds),
        seconds=journal.total_seconds,
        peak_memory_mb=peak_memory_mb(),
    )
