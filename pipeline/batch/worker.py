"""A worker process: it loads the networks once, then processes one case after another.

    run                                worker
      |-- job ------------------------->|   loads the networks
      |<--------------------- "ready" --|
      |-- case, notices --------------->|
      |<--------------- "stage", name --|   a few of them
      |<------------- "report", report -|   mask and record are written

Workers are child processes of `voxtile.machine.processes`: if one is killed at
any moment, the others are not affected.
"""

from multiprocessing.connection import Connection

from voxtile.case import Case
from voxtile.errors import EnvironmentFault, ModelError, place_of
from voxtile.inference.segmenter import Segmenter
from voxtile.machine.memory_errors import is_out_of_memory
from voxtile.machine.processes import serve_line
from voxtile.run.case import attempt_case
from voxtile.run.job import Job
from voxtile.run.journal import Journal
from voxtile.run_folder.case_report import CaseReport

from .ledger import record

# Reasons after which a case may succeed at another attempt, alone and with half as many tiles.
_RETRIED = ("out_of_memory", "decoder_crashed")


def may_succeed_later(report: CaseReport) -> bool:
    """Whether another attempt, alone and with half as many tiles at once, may succeed."""
    return report.reason is not None and report.reason.code in _RETRIED


def serve(descriptor: int) -> None:
    """Work until the run closes the connection."""
    serve_line(descriptor, _answer)


def do_case(case: Case, job: Job, segmenter: Segmenter, journal: Journal) -> CaseReport:
    """Process one case, and record it unless it should be tried again.

    EnvironmentFault if results cannot be written.
    """
    report = attempt_case(case, job, segmenter, journal)
    if not may_succeed_later(report):
        record(job.folder, report)
    return report


def _answer(line: Connection) -> None:
    """Answer the run until it closes the connection."""
    try:
        job: Job = line.recv()
        segmenter = job.load()
    except EOFError:
        raise
    except Exception as error:
        # Reading the job fails too, if this process cannot import its models.
        known = isinstance(error, ModelError | EnvironmentFault)
        unfit: Exception | str = error if known else f"{type(error).__name__} at {place_of(error)}"
        if is_out_of_memory(error):
            unfit = EnvironmentFault(
                "memory ran out while a worker loaded the networks; use fewer --workers, or a "
                "machine with more memory"
            )
        line.send(("unfit", unfit))
        return
    line.send(("ready", None))
    while True:
        case, notices = line.recv()
        try:
            journal = Journal(lambda stage: line.send(("stage", stage)))
            journal.note(notices)
            line.send(("report", do_case(case, job, segmenter, journal)))
        except EnvironmentFault as error:
            line.send(("fault", str(error)))
