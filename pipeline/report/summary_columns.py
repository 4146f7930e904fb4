"""Check the columns of the manifest that summaries are divided by.

Imports no pandas, because each worker checks them when it reads its job.
"""

from collections.abc import Sequence

from voxtile.case import Case
from voxtile.errors import ManifestError
from voxtile.run_folder.case_report import CaseReport


def check_columns(by: Sequence[str], cases: Sequence[Case] | Sequence[CaseReport]) -> None:
    """Refuse to summarise by a column that the manifest lacks, before anything runs."""
    extras = dict.fromkeys(name for case in cases for name in dict(case.extras))
    known = ["split", "group", *extras]
    for column in by:
        if column not in known:
            raise ManifestError(
                f"cannot summarise by {column!r}; the manifest has {', '.join(known)}"
            )
