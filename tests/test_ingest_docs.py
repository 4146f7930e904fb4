"""The tables of docs/ingest.md have exactly the codes of errors and notices that the code uses."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# All but reference.py and scan.py, whose codes are those of masks.
READERS = ("reading/[!rs]*.py", "reading/stream.py", "reading/dicom/*.py")
# What notes that a run had to do something in another way than planned.
FALLBACKS = ("engines/*.py", "batch/case_loop.py")


def used(kind: str, files: tuple[str, ...] = READERS) -> set[str]:
    """Codes with which the given files construct an error or a notice."""
    codes = set()
    for pattern in files:
        for path in (ROOT / "pipeline").glob(pattern):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == kind:
                    codes |= set().union(*map(constants, node.args[:1]))
    return codes


def constants(argument: ast.expr) -> set[str]:
    """Codes that an argument may be: a string, or one of two strings."""
    if isinstance(argument, ast.Constant):
        return {argument.value}
    if isinstance(argument, ast.IfExp):
        return constants(argument.body) | constants(argument.orelse)
    return set()  # a variable: its code is constructed elsewhere


@pytest.mark.parametrize(("kind", "heading"), [("CaseError", "error"), ("Notice", "notice")])
def test_the_table_names_every_code(kind: str, heading: str) -> None:
    text = (ROOT / "docs" / "ingest.md").read_text()
    table = text.split(f"| {heading} | when |\n", 1)[1].split("\n\n", 1)[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert documented == sorted(documented)
    assert set(documented) == used(kind)


def test_the_notices_of_fallbacks_are_documented() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    table = text.split("| warning | meaning |\n", 1)[1].split("\n\n", 1)[0]
    # `unexpected` replaces a missing reason; it is never a warning.
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == used("Notice", FALLBACKS) - {
        "unexpected"
    }
