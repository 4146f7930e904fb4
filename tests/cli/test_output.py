"""Errors as exit codes: what voxtile refuses, and what is a bug."""

import pytest
import typer

from voxtile.cli.output import explained
from voxtile.errors import (
    CaseError,
    EnvironmentFault,
    ManifestError,
    ModelError,
    SourceError,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("tile 3"), 2, "tile 3"),
        (ManifestError(["line 2", "line 3"]), 4, "line 2\nline 3"),
        (CaseError("truncated", "too short"), 4, "truncated: too short"),
        (SourceError("checksum"), 4, "checksum"),
        (ModelError("no spec"), 5, "no spec"),
        (EnvironmentFault("disk full"), 6, "disk full"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_each_error_has_its_exit_code(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, explained():
        raise error
    assert ended.value.exit_code == code
    assert capsys.readouterr().err == f"{text}\n"


def test_an_unexpected_value_error_is_a_bug_and_its_text_is_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as ended, explained():
        int("DOE^JANE")
    assert ended.value.exit_code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("unexpected ValueError; this is a bug in voxtile")
    assert lines[-1].startswith("  test_output.py line ")
    assert not any("DOE" in line for line in lines)


def test_a_usage_error_is_a_value_error_for_callers_in_python() -> None:
    with pytest.raises(ValueError, match="tile"):
        raise UsageError("tile 3")
