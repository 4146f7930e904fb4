"""One worker process, from its own side: load the networks once, then case after case.

    run                                worker
      |-- job ------------------------->|   loads the networks
      |<--------------------- "ready" --|
      |-- case, notices --------------->|
      |<--------------- "stage", name --|   a few of them
      |<------------- "report", report -|   mask and JSON are written

It is a child as `voxtile.machine.processes` starts them, so that one that is killed at any
moment harms no other.
"""

from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from voxtile.case import Case
from voxtile.errors import EnvironmentFault, Notice
from voxtile.inference.segmenter import Segmenter
from voxtile.machine.processes import serve_line
from voxtile.run.case import Job, attempt_case
from voxtile.run.journal import Journal
from voxtile.run_folder.case_report import CaseReport

from .ledger import record

# Reasons that another try, alone and with half the batch, may mend.
MENDABLE = ("out_of_memory", "decoder_crashed")


def serve(descriptor: int) -> None:
    """Live as a worker until the run ends the line."""
    serve_line(descriptor, _answer)


def do_case(case: Case, job: Job, segmenter: Segmenter, journal: Journal) -> CaseReport:
    """Do one case and record it, unless it is to be tried again.

    Raises
    ------
    EnvironmentFault
        If results cannot be written.
    """
    report = attempt_case(case, job, segmenter, journal)
    if report.reason is None or report.reason.code not in MENDABLE:
        record(job.out, report)
    return report


def _answer(line: Connection) -> None:
    """Answer the run."""
    try:
        job: Job = line.recv()
        segmenter = job.load()
    except EOFError:
        raise
    except Exception as error:
        # Also what reading the job raises: models that this process cannot import.
        line.send(("unfit", error if _travels(error) else RuntimeError(_named(error))))
        return
    line.send(("ready", None))
    while True:
        case, notices = line.recv()
        try:
            line.send(("report", _do(line, case, notices, job, segmenter)))
        except EnvironmentFault as error:
            line.send(("fault", str(error)))


def _do(
    line: Connection, case: Case, notices: Sequence[Notice], job: Job, segmenter: Segmenter
) -> CaseReport:
    """Do one case, telling its stages."""
    journal = Journal(lambda stage: line.send(("stage", stage)))
    journal.note(notices)
    return do_case(case, job, segmenter, journal)


def _travels(error: Exception) -> bool:
    """Whether an exception is one that the run knows."""
    from voxtile.errors import ModelError

    return isinstance(error, ModelError | EnvironmentFault)


def _named(error: Exception) -> str:
    """Return type and text of an error, for the run's own message."""
    text: Any = str(error)
    return f"{type(error).__name__}: {text}"
