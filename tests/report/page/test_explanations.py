"""Every metric and flag explains itself."""

from voxtile.report.page.explanations import FLAGS, explanation
from voxtile.report.qc import CODES
from voxtile.report.verdict import RULES
from voxtile.scoring.columns import COLUMNS, nsd_column


def test_every_metric_and_flag_has_a_sentence() -> None:
    names = [column.name for column in COLUMNS if column.of_label] + [nsd_column(0.5)]
    assert [name for name in names if not explanation(name).endswith(".")] == []
    assert explanation("scanner") == ""
    assert set(FLAGS) == {*CODES, *RULES}
