"""A progress bar on a terminal, and the summary of a run."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from faulty import (
    run_faulty,
    valid_cases,
)

from voxtile.batch.display import Display, result_lines


class Screen:
    """Remembers what a bar would show."""

    def __init__(self) -> None:
        self.total, self.words, self.lines = 0.0, [], []

    def begin(self, stage: str, total: float) -> None:
        self.total = total

    def at(self, completed: float, words: str) -> None:
        self.words.append(words)

    def line(self, words: str) -> None:
        self.lines.append(words)


def test_the_display_shows_running_and_failed_cases(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 3)
    (tmp_path / "c001.nii.gz").write_bytes(b"")
    screen = Screen()
    run_faulty(manifest, tmp_path / "out", on_event=Display(screen))
    assert screen.total == 3
    assert "0/3  c000 infer" in screen.words
    assert screen.words[-1] == "3/3    1 failed"
    (failed,) = screen.lines
    assert "2/3 c001" in failed
    assert "failed  empty_file" in failed


def test_the_summary_names_reasons_and_the_slowest_cases(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 9)
    for number in range(7):
        (tmp_path / f"c00{number}.nii.gz").write_bytes(b"")
    result = run_faulty(manifest, tmp_path / "out")
    lines = list(result_lines(result))
    assert lines[0] == "2 done, 7 failed"
    assert lines[1] == "  7 x empty_file: c000, c001, c002, c003, c004 and 2 more"
    assert lines[2].startswith("slowest: c00")
    assert "--retry-failed" in lines[3]
    assert lines[4] == "9 cases: 2 usable, 0 to look at, 7 failed"
    assert lines[5].startswith("no predicted Dice: the model has no calibration")


def test_no_color_is_respected_on_a_terminal() -> None:
    program = (
        "import time; from voxtile.batch.display import displayed\n"
        "from voxtile.batch.events import Event\n"
        "with displayed(shown=True) as display:\n"
        "    display(Event('run_started', None, {'cases': 2, 'kept': 1})); time.sleep(0.3)\n"
    )
    said = {}
    for value in ("", "1"):
        main, terminal = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": value}
        subprocess.run(
            [sys.executable, "-c", program], stderr=terminal, env=environment, check=True
        )
        os.close(terminal)
        said[value] = os.read(main, 65536).decode()
        os.close(main)
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    assert "cases" in said["1"]
    assert colour.search(said[""])
    assert not colour.search(said["1"])
