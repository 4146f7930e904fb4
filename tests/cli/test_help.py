"""The help of every command: tasks, examples that can be typed, names that are never cut."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from voxtile.cli import app

TREE: Any = get_command(app)


def every_command(group: Any = TREE, *names: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*names, name)
        if hasattr(command, "commands"):
            yield from every_command(command, *names, name)


EVERY = [(), *every_command()]


def found(names: tuple[str, ...]) -> Any:
    command = TREE
    for name in names:
        command = command.commands[name]
    return command


def help_of(*words: str, columns: int = 80) -> str:
    """The help as a process prints it to a terminal of this width."""
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [*words, "-h"]).output


@pytest.mark.parametrize("names", EVERY, ids=" ".join)
def test_names_are_whole_at_80_columns(names: tuple[str, ...]) -> None:
    command, text = found(names), help_of(*names)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for one in command.params:
        for name in (
            one.opts + one.secondary_opts if one.param_type_name == "option" else [one.name]
        ):
            assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.I), name
    for name in getattr(command, "commands", ()):
        assert re.search(rf"^  {name}  ", text, re.MULTILINE), name
    assert text == CliRunner(env={"COLUMNS": "80"}).invoke(app, [*names, "--help"]).output


@pytest.mark.parametrize(
    "names", [one for one in EVERY if not hasattr(found(one), "commands")], ids=" ".join
)
def test_each_command_has_two_examples_that_it_accepts(names: tuple[str, ...]) -> None:
    examples = help_of(*names).partition("\nExamples:\n")[2].strip().splitlines()
    assert len(examples) == 2
    for example in examples:
        program, *words = shlex.split(example)
        assert (program, *words[: len(names)]) == ("voxtile", *names)
        with found(names).make_context("voxtile", words[len(names) :]) as context:
            assert context.params


def test_the_help_groups_the_commands_by_task() -> None:
    headings = re.findall(r"^(\S.*):$", help_of(), re.MULTILINE)
    assert headings == [
        "Options",
        "Segment scans",
        "Score and use masks",
        "Prepare scans",
        "Make a model",
        "Look at this machine",
    ]
    options = re.findall(r"^(\S.*):$", help_of("run"), re.MULTILINE)
    assert options == ["Arguments", "Options", "The network", "Many cases", "Examples"]


def test_completion_is_installed_by_one_command_and_completes_in_bash(tmp_path: Path) -> None:
    program = tmp_path / "bin/voxtile"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom voxtile.cli import main\nmain()\n")
    program.chmod(0o755)
    words = {"HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    script = f"""
        voxtile --install-completion bash > /dev/null
        . {tmp_path}/.bashrc
        COMP_WORDS=(voxtile manifest ch) COMP_CWORD=2
        $(complete -p voxtile | sed 's/.*-F \\([^ ]*\\).*/\\1/') voxtile
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, **words},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "check", done.stderr
