"""The command line, called in this process."""

from typer.testing import CliRunner

from voxtile.cli import app

runner = CliRunner()


def invoke(*words) -> tuple[int, str]:
    result = runner.invoke(app, [str(word) for word in words])
    return result.exit_code, result.output
