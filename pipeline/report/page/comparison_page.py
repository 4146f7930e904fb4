"""Show a comparison of runs as one page: differences, intervals, and the most changed cases.

The page has no scripts: everything is in the HTML, the intervals as SVG.

    metric, label     A      B    difference                         wins  p (Holm)
    Dice   organ    0.90   0.92       |---o---|                       31    0.002
                                  worse <- 0 -> better
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from pathlib import Path
from string import Template
from typing import Any

from voxtile.machine.files import write_text
from voxtile.report.comparison import Comparison, most_changed
from voxtile.scoring.columns import column_named

from .page import resource, source_hash

_MOST_CASES = 15
# Size of the drawing of an interval, in CSS pixels.
_WIDTH, _HEIGHT = 220, 22


def write_comparison_page(out: Path, comparison: Comparison) -> Path:
    """Write ``comparison.html`` into a folder, and return its path."""
    path = out / "comparison.html"
    write_text(path, comparison_page(comparison))
    return path


def comparison_page(comparison: Comparison) -> str:
    """Return the page as text; every name in it is escaped."""
    rows = comparison.summary.to_dict("records")
    sections = [
        _section(
            comparison,
            run,
            metric,
            [row for row in rows if (row["run_b"], row["metric"]) == (run, metric)],
        )
        for run in comparison.runs[1:]
        for metric in dict.fromkeys(row["metric"] for row in rows if row["run_b"] == run)
    ]
    style = resource("style.css")
    names = " against ".join((", ".join(comparison.runs[1:]), comparison.runs[0]))
    return Template(resource("comparison.html")).substitute(
        policy=escape(f"default-src 'none'; style-src {source_hash(style)}; base-uri 'none'"),
        title=escape(names),
        style=style,
        sections="\n".join(sections),
    )


def _section(
    comparison: Comparison, run: str, metric: str, rows: Sequence[Mapping[str, Any]]
) -> str:
    """Return the section of one run and one metric."""
    reach = max((abs(row[name]) for row in rows for name in _SPAN if _known(row[name])), default=0)
    body = "\n".join(_summary_row(row, metric, reach) for row in rows)
    of_run = comparison.cases[comparison.cases["run_b"] == run]
    changed = "\n".join(_case_row(row) for row in most_changed(of_run, metric, _MOST_CASES))
    column = column_named(metric)
    heading = escape(f"{column.heading}: {run} (B) against {comparison.runs[0]} (A)")
    headings = "".join(f'<th scope="col">{name}</th>' for name in _HEADINGS)
    cases = (
        f'<h3>Cases that changed most</h3><div class="scroll"><table><thead><tr><th scope="col">'
        'Case</th><th scope="col">Label</th><th scope="col">A</th><th scope="col">B</th>'
        f'<th scope="col">B - A</th></tr></thead><tbody>{changed}</tbody></table></div>'
        if changed
        else '<p class="muted">No case changed.</p>'
    )
    return (
        f'<section class="panel"><div class="panel-head"><h2>{heading}</h2>'
        f'<p class="muted">{column.better} is better</p></div><div class="scroll"><table>'
        f"<thead><tr>{headings}</tr></thead><tbody>{body}</tbody></table></div>{cases}</section>"
    )


_SPAN = ("mean_difference", "ci_low", "ci_high")
_HEADINGS = (
    "Label", "Cases", "Mean A", "Mean B", "B - A", "95 % interval", "", "Wins / ties / losses",
    "p (Holm)",
)  # fmt: skip


def _summary_row(row: Mapping[str, Any], metric: str, reach: float) -> str:
    """Return the table row of one label."""
    cells = (
        f'<th scope="row">{escape(str(row["label_name"]))}</th>',
        _cell(row["n"], 0),
        _cell(row["mean_a"]),
        _cell(row["mean_b"]),
        _cell(row["mean_difference"], signed=True),
        f"<td>{_number(row['ci_low'], signed=True)} to {_number(row['ci_high'], signed=True)}</td>",
        f"<td>{_interval(row, reach)}</td>",
        f"<td>{row['wins']} / {row['ties']} / {row['losses']}</td>",
        f"<td>{_p(row['p_holm'])}</td>",
    )
    return f"<tr>{''.join(cells)}</tr>"


def _case_row(row: Mapping[str, Any]) -> str:
    """Return the table row of one case."""
    return (
        f'<tr><th scope="row">{escape(str(row["case_id"]))}</th>'
        f"<td>{escape(str(row['label_name']))}</td>{_cell(row['value_a'])}{_cell(row['value_b'])}"
        f"{_cell(row['difference'], signed=True)}</tr>"
    )


def _interval(row: Mapping[str, Any], reach: float) -> str:
    """Return a drawing of the mean difference and its interval around 0."""
    low, middle, high = row["ci_low"], row["mean_difference"], row["ci_high"]
    if not (_known(middle) and reach > 0):
        return ""
    if not (_known(low) and _known(high)):
        low = high = middle

    def x(value: float) -> str:
        return f"{_WIDTH / 2 + value / reach * (_WIDTH / 2 - 8):.1f}"

    words = escape(f"mean {_number(middle, signed=True)}")
    half = _HEIGHT / 2
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{words}">'
        f'<line x1="{x(0)}" x2="{x(0)}" y1="0" y2="{_HEIGHT}" stroke="currentColor" '
        'stroke-opacity="0.35"/>'
        f'<line x1="{x(low)}" x2="{x(high)}" y1="{half}" y2="{half}" stroke="currentColor" '
        'stroke-width="2"/>'
        f'<circle cx="{x(middle)}" cy="{half}" r="4.5" fill="currentColor"/></svg>'
    )


def _cell(value: Any, digits: int = 4, *, signed: bool = False) -> str:
    """Return a table cell with a number."""
    return f"<td>{_number(value, digits, signed=signed)}</td>"


def _number(value: Any, digits: int = 4, *, signed: bool = False) -> str:
    """Return a number for people; a dash if it is missing."""
    if not _known(value):
        return "-"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def _p(value: Any) -> str:
    """Return a p value for people."""
    if not _known(value):
        return "-"
    return "&lt; 0.0001" if value < 1e-4 else f"{value:.4f}"


def _known(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and isfinite(value)
