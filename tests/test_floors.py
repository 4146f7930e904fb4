"""The walls between the rooms: imports go down, never up and never round.

docs/architecture.md draws the floors. Every import counts, also those inside
functions and those for type checkers alone.
"""

import ast
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up. Rooms on one floor do not import each other.
FLOORS = (
    ("errors", "volume", "case", "label_values", "version", "models"),
    ("machine", "scoring"),
    ("reading", "preparation", "library"),
    ("engines", "writing", "run_folder"),
    ("inference",),
    ("manifest",),
    ("report", "export"),
    ("run",),
    ("batch", "training"),
    ("phantoms", "importing"),
    ("measuring",),
    ("cli",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Modules of the ground floor that others there may use.
GROUND = {"errors", "volume", "case", "label_values", "version"}
# The package itself and `python -m voxtile` stand above all floors.
FACADE = {"voxtile", "voxtile.__main__"}


def _modules() -> dict[str, Path]:
    """Every module of the package, with its file."""
    homes = {"voxtile": ROOT / "pipeline", "voxtile.models": ROOT / "models"}
    found = {}
    for package, folder in homes.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


MODULES = _modules()


def _imports(module: str) -> Iterator[str]:
    """Yield every module of voxtile that a module imports, anywhere in its text."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("voxtile"))
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            if source.partition(".")[0] != "voxtile":
                continue
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in MODULES else source


def _room(module: str) -> str:
    """The room of a module: the first name after `voxtile`."""
    return module.split(".")[1]


def test_every_room_has_a_floor() -> None:
    assert {_room(module) for module in MODULES.keys() - FACADE} == FLOOR_OF.keys()


def test_every_import_of_the_package_is_of_a_module_that_exists() -> None:
    for module in MODULES:
        assert [name for name in _imports(module) if name not in MODULES] == [], module


@pytest.mark.parametrize("module", sorted(MODULES.keys() - FACADE))
def test_imports_go_down(module: str) -> None:
    room = _room(module)
    for target in _imports(module):
        assert target not in FACADE, f"{module} imports the whole package"
        other = _room(target)
        if other == room:
            continue
        both_on_the_ground = room in GROUND and other in GROUND
        assert (
            both_on_the_ground
            or FLOOR_OF[other] < FLOOR_OF[room]
            or (room == "models" and other == "errors")
        ), f"{module} imports {target}, which is not on a floor below"


def test_models_import_the_errors_alone() -> None:
    for module in MODULES:
        if _room(f"{module}.") == "models":
            outside = {_room(name) for name in _imports(module)} - {"models"}
            assert outside <= {"errors"}, module


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {}
    for module in MODULES.keys() - FACADE:
        needed = set()
        for target in _imports(module):
            # Importing a.b.c runs a and a.b first; a module is always below its own packages.
            while target != "voxtile":
                if not module.startswith(f"{target}.") or target in _imports(module):
                    needed.add(target)
                target = target.rpartition(".")[0]
        graph[module] = needed - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports go round: {' -> '.join(error.args[1])}")


def test_pyproject_lists_every_package_and_no_other() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {name: path.parent for name, path in MODULES.items() if path.name == "__init__.py"}
    assert set(setuptools["packages"]) == packages.keys()
    folders = {name: ROOT / folder for name, folder in setuptools["package-dir"].items()}
    assert folders == packages
