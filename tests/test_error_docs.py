"""docs/errors.md has exactly the codes of errors and warnings that the code uses."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {path: ast.parse(path.read_text()) for path in (ROOT / "pipeline").rglob("*.py")}
# Sentences for a person, with the codes of other findings; `unexpected` and `out_of_memory` also
# replace the reason of a failed case.
NOT_WARNINGS = {"scan", "scored", "unexpected", "out_of_memory", "worker_died"}


def used(kind: str) -> set[str]:
    """Codes with which errors or notices are constructed."""
    return {
        code
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == kind and node.args
        for code in constants(node.args[0])
    }


def constants(argument: ast.expr) -> set[str]:
    """Codes that an argument may be: a string, or one of two strings."""
    if isinstance(argument, ast.Constant):
        return {argument.value}
    if isinstance(argument, ast.IfExp):
        return constants(argument.body) | constants(argument.orelse)
    if isinstance(argument, ast.JoinedStr) and isinstance(argument.values[-1], ast.Constant):
        return {"label" + argument.values[-1].value}  # f"{what}_grid": the table is of labels
    return set()  # a variable: its code is constructed elsewhere


def documented(kind: str) -> set[str]:
    """Codes in the tables of the page, each table in alphabetical order."""
    text = (ROOT / "docs/errors.md").read_text()
    tables = re.findall(rf"^\| {kind} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    codes = [re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE) for table in tables]
    assert codes and codes == [sorted(one) for one in codes]
    return {code for one in codes for row in one for code in row.split("`, `")}


@pytest.mark.parametrize(
    ("kind", "name", "besides"),
    [("CaseError", "error", set()), ("Notice", "warning", NOT_WARNINGS)],
)
def test_the_page_has_every_code(kind: str, name: str, besides: set[str]) -> None:
    assert used(kind) - besides - documented(name) == set()


@pytest.mark.parametrize("name", ["error", "warning"])
def test_the_page_has_no_code_that_nothing_uses(name: str) -> None:
    strings = {
        node.value
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    made = used("CaseError") | used("Notice") | {f"domain_{one}" for one in strings}
    assert documented(name) - made - strings == set()


def test_the_notices_of_fallbacks_are_explained_where_their_faults_are() -> None:
    text = (ROOT / "docs/reliability.md").read_text()
    table = text.split("| warning | meaning |\n", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {
        "batch_halved",
        "moved_to_cpu",
        "retried",
    }
