"""Errors as exit codes: what voxtile refuses, and what is a bug."""

import errno
import re
import shlex
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command

import voxtile.cli
from voxtile.cli.options import with_options
from voxtile.cli.output import explained, next_lines
from voxtile.cli.run import status
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
        (CaseError("too_large", "94 GiB"), 6, "too_large: 94 GiB"),
        (CaseError("out_of_memory", "in a tile"), 6, "out_of_memory: in a tile"),
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


def test_any_error_whose_cause_is_a_lack_of_memory_ends_with_its_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for error in (ModelError("not readable"), ManifestError("no"), UsageError("no"), ValueError()):
        with pytest.raises(typer.Exit) as ended, explained():
            raise error from RuntimeError("std::bad_alloc")
        assert ended.value.exit_code == 6
        assert capsys.readouterr().err.startswith(f"memory ran out ({type(error).__name__} at ")


FOREIGN = [
    RuntimeError("DOE^JANE"),
    KeyError("DOE^JANE"),
    ValueError("DOE^JANE"),
    struct.error("DOE^JANE"),
    RecursionError("DOE^JANE"),
    AssertionError("DOE^JANE"),
    type("Strange", (Exception,), {})("DOE^JANE"),
]


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
def test_any_error_of_another_library_is_one_line_with_its_place_and_without_its_text(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("voxtile.batch.status.read_status", fails)
    with pytest.raises(typer.Exit) as ended:
        with_options(status)(folder=".", as_json=None)
    assert ended.value.exit_code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(rf"unexpected error \({type(error).__name__} at run\.py line \d+\); ", line)
    assert line.endswith("please report it with this line")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory", "DOE^JANE.nii"),
        RuntimeError("std::bad_alloc"),
        ImportError("x.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_lack_of_memory_is_a_sentence_whoever_reports_it(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, explained():
        raise error
    assert ended.value.exit_code == 6
    line = capsys.readouterr().err
    assert line.startswith("memory ran out (") and "use a larger machine" in line
    assert "DOE" not in line


def test_an_error_of_the_system_says_what_the_system_said_but_no_file_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as ended, explained():
        raise PermissionError(errno.EACCES, "Permission denied", "/scans/DOE^JANE.nii")
    assert ended.value.exit_code == 6
    line = capsys.readouterr().err
    assert "refused to read or write: Permission denied (PermissionError at" in line
    assert "DOE" not in line


def test_a_command_whose_reader_went_away_ends_as_usual() -> None:
    with pytest.raises(BrokenPipeError), explained():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    with pytest.raises(typer.BadParameter), explained():
        raise typer.BadParameter("3")


def test_an_error_outside_of_a_command_ends_in_the_same_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise KeyError("DOE^JANE")

    monkeypatch.setattr("voxtile.cli.app", fails)
    with pytest.raises(SystemExit) as ended:
        voxtile.cli.main()
    assert ended.value.code == 1
    assert "unexpected error (KeyError at __init__.py line" in capsys.readouterr().err


def test_a_usage_error_is_a_value_error_for_callers_in_python() -> None:
    with pytest.raises(ValueError, match="tile"):
        raise UsageError("tile 3")


def test_a_limit_on_memory_that_is_too_small_to_start_is_refused_at_once(tmp_path: Path) -> None:
    command = f"ulimit -v 400000; exec {sys.executable} -m voxtile doctor"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 6
    assert done.stderr.startswith("memory is limited to 410 MB (ulimit -v), but")


def test_the_demo_ends_with_the_page_the_environment_and_commands_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my env/bin").mkdir(parents=True)
    (tmp_path / "my env/bin/activate").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "my env"))
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = "\n".join(next_lines(tmp_path / "my demo/report.html")).splitlines()
    assert f"  xdg-open '{tmp_path}/my demo/report.html'" in lines
    assert f"  . '{tmp_path}/my env/bin/activate'" in lines
    words = [shlex.split(line) for line in lines if line.startswith("  voxtile ")]
    assert [line[1] for line in words] == ["manifest", "manifest", "train", "run"]
    for line in words:
        command, rest = get_command(voxtile.cli.app), line[1:]
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        with command.make_context("voxtile", rest):
            pass
    (tmp_path / "voxtile").touch(mode=0o755)  # the environment is active
    assert not any("activate" in line for line in next_lines(tmp_path / "report.html"))
