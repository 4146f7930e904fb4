"""Measure voxtile and comparable programs in one run: `scripts/bench`.

Each row is a target of docs/performance.md. The programs run in turns, and each
number is the median over the turns. --quick shows that everything runs on a
machine; its numbers mean nothing.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import machine
from plots import Line, Panel, write_svg
from rows import ROWS, Row, Settings


def main() -> int:
    """Measure, print, write; return 1 if a target that applies is missed."""
    words = _words()
    about = machine.describe()
    print(machine.sentence(about))
    if not machine.short_numbers_pay():
        print("bfloat16 is not faster than float32 here: its targets do not apply, others do.")
    with tempfile.TemporaryDirectory(prefix="voxtile-bench-", dir=words.scratch) as scratch:
        # Use a temporary cache, because these networks are temporary too.
        os.environ["VOXTILE_CACHE"] = str(Path(scratch, "cache"))
        settings = Settings(
            Path(scratch),
            rounds=words.rounds or (2 if words.quick else 5),
            slices=words.slices,
            quick=words.quick,
            engine=words.engine,
            nnunet=not words.no_nnunet,
        )
        rows: list[Row] = []
        failed = False
        for name in words.only or list(ROWS):
            print(f"{name} (load {machine.load()})", file=sys.stderr, flush=True)
            try:
                rows += ROWS[name](settings)
            except RuntimeError as error:
                # If a program is not installed, only its row is missing.
                failed = True
                rows.append(Row(name, "", "", None, None, note=f"failed: {str(error)[-500:]}"))
            _write(words, about, rows)
    print(_table(rows))
    return int(failed or any(row.reached is False for row in rows))


def _words() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(ROWS), help="these rows only")
    parser.add_argument("--quick", action="store_true", help="small network, few slices")
    parser.add_argument("--slices", type=int, help="number of slices in all rows")
    parser.add_argument("--rounds", type=int, help="turns of each program (default 5)")
    parser.add_argument("--engine", default="auto", help="voxtile's engine")
    parser.add_argument("--no-nnunet", action="store_true", help="leave nnU-Net out")
    parser.add_argument("--scratch", type=Path, help="where networks and scans go (about 2 GB)")
    parser.add_argument("--json", type=Path, help="write everything measured")
    parser.add_argument("--markdown", type=Path, help="write the table")
    parser.add_argument("--plot", type=Path, help="write time and memory as SVG")
    return parser.parse_args()


def _write(words: argparse.Namespace, about: dict[str, Any], rows: list[Row]) -> None:
    """Write the chosen files; done after every row, because a run takes hours."""
    if words.json:
        record = {"machine": about, "quick": words.quick, "rows": [asdict(row) for row in rows]}
        words.json.write_text(json.dumps(record, indent=1) + "\n")
    if words.markdown:
        words.markdown.write_text(f"{machine.sentence(about)}\n\n{_table(rows)}\n")
    usage = next((row.details for row in rows if row.what.startswith("peak memory")), None)
    if words.plot and usage:
        write_svg(words.plot, _panels(usage))


def _table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| what | voxtile | peer | figure | bar | reached | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        reached = {True: "yes", False: "**no**", None: "-"}[row.reached]
        figure = "-" if row.figure is None else f"{row.figure:.3g}"
        peer = ": ".join(part for part in (row.peer, row.theirs) if part)
        note = row.note.replace("\n", " ").replace("|", "/")
        lines.append(
            f"| {row.what} | {row.ours} | {peer} | {figure} | {row.bar} | {reached} | {note} |"
        )
    return "\n".join(lines)


def _panels(usage: dict[str, dict[str, float]]) -> list[Panel]:
    """Return time and memory against slices, and memory against classes."""
    counts = sorted(int(name.split()[0]) for name in usage if name.endswith("slices"))
    peer = usage.get("nnU-Net")

    def lines(key: str, scale: float) -> tuple[Line, ...]:
        """Return the line of voxtile, and the one point of nnU-Net."""
        points = tuple((count, usage[f"{count} slices"][key] * scale) for count in counts)
        mine = Line("voxtile", points)
        return (mine, Line("nnU-Net", ((counts[0], peer[key] * scale),))) if peer else (mine,)

    classes = tuple(
        (number, usage[name]["peak_mb"] / 1e3)
        for number, name in ((5, f"{counts[0]} slices"), (105, "105 classes"))
    )
    return [
        Panel("time, s", "slices of 512 x 512, 5 classes", lines("seconds", 1)),
        Panel("peak memory, GB", "slices of 512 x 512, 5 classes", lines("peak_mb", 1e-3)),
        Panel("peak memory, GB", f"classes, {counts[0]} slices", (Line("voxtile", classes),)),
    ]


if __name__ == "__main__":
    sys.exit(main())
