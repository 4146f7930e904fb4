"""The help of commands: options under headings, examples, and names that are never cut."""

import inspect
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from .options import with_options

_EXAMPLES = "Examples\n--------\n"


class HelpfulCommand(TyperCommand):
    """A command with options under headings, and the examples of its docstring at the end."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for one in self.get_params(ctx):
            if record := one.get_help_record(ctx):
                panel = getattr(one, "rich_help_panel", None) or "Options"
                heading = "Arguments" if one.param_type_name == "argument" else panel
                sections.setdefault(heading, []).append(record)
        _write(sections, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, each on its line."""
        formatter.write(f"\nExamples:\n{self.epilog}\n")


class HelpfulGroup(TyperGroup):
    """A group of commands under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by task."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None) or "Commands"
            sections.setdefault(heading, []).append((name, command.get_short_help_str(300)))
        _write(sections, formatter)


def add_command(
    app: typer.Typer,
    command: Callable[..., None],
    name: str,
    task: str = "",
    *,
    cls: type[HelpfulCommand] = HelpfulCommand,
) -> None:
    """Add a command to an application; its docstring holds the help and two examples."""
    about, _, examples = (inspect.getdoc(command) or "").partition(_EXAMPLES)
    app.command(
        name,
        cls=cls,
        help=about.strip(),
        epilog="\n".join(f"  {line}" for line in examples.splitlines()),
        rich_help_panel=task or None,
    )(with_options(command))


def _write(sections: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    """Write lists of names with their explanations under headings."""
    for heading, rows in sections.items():
        with formatter.section(heading):
            formatter.write_dl(rows)
