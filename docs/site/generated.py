"""Pages that are made from the code: the commands with their options, and the rooms."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command

from voxtile.cli import app

ROOT = Path(__file__).resolve().parents[2]


def commands() -> Iterator[tuple[str, Any]]:
    """Yield the words that call each command, and the command."""
    for name, command in get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        for word, one in inner.items() if inner else [("", command)]:
            yield f"voxtile {name} {word}".rstrip(), one


def commands_page() -> Iterator[str]:
    """Yield the lines of a page (reStructuredText) about every command."""
    for called, command in commands():
        context = click.Context(command, info_name=called)
        yield from (called, "-" * len(called), "", *command.help.splitlines(), "")
        yield from ("::", "", *indented(" ".join(command.get_usage(context).split()[1:])), "")
        for panel in dict.fromkeys(["Arguments", *map(panel_of, command.params)]):
            records = [
                one.get_help_record(context) for one in command.params if panel_of(one) == panel
            ]
            if any(records):
                yield from (f".. rubric:: {panel}", "")
            for name, words in filter(None, records):
                yield from (f"``{name}``", *indented(escaped(words) or "\\ "), "")
        yield from (".. rubric:: Examples", "", ".. code-block:: sh", "")
        yield from indented(inspect.cleandoc(command.epilog))
        yield ""


def rooms_page() -> Iterator[str]:
    """Yield the lines of a page (reStructuredText) about every room."""
    for path in sorted((ROOT / "pipeline").glob("*/__init__.py")):
        room = path.parent.name
        yield from (room, "-" * len(room), "", ".. code-block:: text", "")
        yield from indented(inspect.cleandoc(import_module(f"voxtile.{room}").__doc__ or ""))
        yield ""


def panel_of(option: Any) -> str:
    """Return the heading of an argument or option in the help."""
    argument = option.param_type_name == "argument"
    return "Arguments" if argument else getattr(option, "rich_help_panel", None) or "Options"


def indented(text: str) -> list[str]:
    """Return the lines of a text, indented."""
    return [f"   {line}".rstrip() for line in text.splitlines()]


def escaped(text: str) -> str:
    """Return a text whose stars, backslashes and quotes stay as they are."""
    for mark in "\\*`_|":
        text = text.replace(mark, f"\\{mark}")
    return text


class Generated(SphinxDirective):
    """`.. generated:: commands` and `.. generated:: rooms`."""

    required_arguments = 1

    def run(self) -> list[Any]:
        """Return the content of the page."""
        lines = {"commands": commands_page, "rooms": rooms_page}[self.arguments[0]]()
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Any) -> dict[str, bool]:
    """Give the directive to Sphinx."""
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True}
