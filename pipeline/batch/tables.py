"""The CSVs of a run folder, rebuilt from the reports now and then and at the end."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from voxtile.report.tables import write_reports
from voxtile.run_folder.case_report import CaseReport

_EVERY_S = 10.0
# Rebuilding takes longer as reports gather; it never takes more than this share of the time.
_SHARE = 0.05


class Tables:
    """Keeps ``report.csv`` and the summaries up to date.

    Parameters
    ----------
    out : Path
        The run folder.
    order : iterable of str
        Case ids, in the order of their rows.
    by : sequence of str
        Columns to summarise by.
    """

    def __init__(self, out: Path, order: Iterable[str], by: Sequence[str] = ()) -> None:
        self._out = out
        self._order = tuple(order)
        self._by = tuple(by)
        self._next = time.monotonic() + _EVERY_S

    def refresh(self, reports: Mapping[str, CaseReport]) -> None:
        """Rebuild the CSVs if they are old."""
        if time.monotonic() >= self._next:
            self.write(reports)

    def write(self, reports: Mapping[str, CaseReport]) -> None:
        """Rebuild the CSVs."""
        begin = time.monotonic()
        write_reports(
            self._out, [reports[name] for name in self._order if name in reports], self._by
        )
        end = time.monotonic()
        self._next = end + max(_EVERY_S, (end - begin) / _SHARE)
