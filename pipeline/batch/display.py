"""Show a batch: a progress bar on a terminal, a line for each case, a summary."""

from collections.abc import Iterator
from contextlib import contextmanager

from voxtile.errors import first_few
from voxtile.machine.progress import Progress, show_progress
from voxtile.report.quality import NO_DICE, OTHER_THRESHOLDS
from voxtile.report.tables import run_verdict
from voxtile.report.verdict import judge
from voxtile.run_folder.case_report import CaseReport

from .case_loop import RunResult
from .events import Event


class Display:
    """Display of events as a progress bar.

    `failures` says whether failed cases are shown; it is False if another listener shows them.
    """

    def __init__(self, progress: Progress, *, failures: bool = True) -> None:
        self._progress = progress
        self._shows_failures = failures
        self._finished = self._failed = self._total = 0
        self._running: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Show an event."""
        case_id = event.case_id
        if event.kind == "run_started":
            self._finished, self._total = event.facts["kept"], event.facts["cases"]
            self._progress.begin("cases", self._total)
        elif event.kind == "done_again":
            self._progress.line(event.facts["why"])
        elif case_id is not None and event.kind in ("case_started", "stage"):
            self._running[case_id] = str(event.facts.get("stage", "start"))
        elif case_id is not None:
            self._running.pop(case_id, None)
            if event.report is not None:
                self._finished += 1
                if event.report.status == "failed":
                    self._failed += 1
                    if self._shows_failures:  # this line stays on the screen, above the bar
                        self._progress.line(case_line(event.report, self._finished, self._total))
        self._progress.at(self._finished, self._words())

    def _words(self) -> str:
        """Return which cases are running, and how many have failed."""
        shown = [f"{case_id} {stage}" for case_id, stage in self._running.items()]
        words = f"{self._finished}/{self._total}  {first_few(shown)}"
        return f"{words}  {self._failed} failed" if self._failed else words


@contextmanager
def displayed(*, shown: bool, failures: bool = True) -> Iterator[Display]:
    """Show progress while the block runs, if `shown` and if standard error is a terminal.

    `failures` has the same meaning as in `Display`.
    """
    with show_progress(shown=shown) as progress:
        # The first run of a model translates its networks for this machine, which takes seconds.
        progress.begin("preparing the model", 1.0)
        yield Display(progress, failures=failures)


def case_line(report: CaseReport, number: int, count: int) -> str:
    """Return one line for a finished case."""
    if report.status == "failed":
        outcome = f"failed  {report.reason}"
    else:
        verdict = judge(report)
        scores = [row.dice for row in report.labels if row.dice is not None]
        shown = " ".join(f"{value:.3f}" for value in scores[:8])
        outcome = f"dice {shown}" if scores else "done"
        if verdict.word == "look":
            outcome += f"  {verdict}"
        if report.warnings:
            outcome += f"  ({', '.join(notice.code for notice in report.warnings)})"
    return f"{number:>5}/{count} {report.case_id}  {report.seconds:.1f} s  {outcome}"


def result_lines(result: RunResult) -> Iterator[str]:
    """Yield the summary of a run: counts, failures by reason, the slowest cases."""
    reports, failed = result.reports, result.failed
    before = f" ({result.kept} by an earlier run)" if result.kept else ""
    left = f", {result.not_run} not run" if result.not_run else ""
    yield f"{len(reports) - len(failed)} done, {len(failed)} failed{before}{left}"
    reasons: dict[str, list[str]] = {}
    for report in failed:
        code = "unexpected" if report.reason is None else report.reason.code
        reasons.setdefault(code, []).append(report.case_id)
    for code, case_ids in sorted(reasons.items(), key=lambda pair: -len(pair[1])):
        yield f"  {len(case_ids)} x {code}: {first_few(case_ids, 5)}"
    slowest = sorted(reports, key=lambda report: -report.seconds)[:3]
    if len(reports) > 3:
        yield "slowest: " + ", ".join(f"{case.case_id} {case.seconds:.1f} s" for case in slowest)
    if failed:
        yield "to try the failed cases again, run the same command with --retry-failed"
    yield from run_verdict(reports, result.not_run).lines
    masks = [report for report in reports if any(row.voxels_pred for row in report.labels)]
    if masks and not any(report.qc.get("dice") for report in masks):
        yield OTHER_THRESHOLDS if any(report.thresholds for report in masks) else NO_DICE
