"""What the documents mention exists: commands, options, files, names."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from dicoms import voxels, write_series
from phantoms import ball
from test_floors import FLOORS
from typer.main import get_command

import voxtile
from voxtile.cli import app
from voxtile.models.spec import ModelSpec
from voxtile.report import comparison, qc, summary
from voxtile.scoring.columns import COLUMNS
from voxtile.scoring.score import Measures
from voxtile.writing.nifti import write_volume

ROOT = Path(__file__).resolve().parents[1]
# Not the changelog: it may name what a later version no longer has.
DOCUMENTS = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")}
    - {ROOT / "CHANGELOG.md"}
)


def shown_commands(text: str) -> list[str]:
    """Each `voxtile ...` in a code block or in code quotes."""
    blocks = re.findall(r"```(?:sh|text|console)?\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", text)
    return [line.strip() for line in lines if line.strip().startswith("voxtile ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_command_and_option_shown_exists(document: Path) -> None:
    commands = get_command(app).commands
    for line in shown_commands(document.read_text()):
        words = line.split("#")[0].split()
        if words[1].startswith("-"):
            continue
        assert words[1] in commands, line
        command = commands[words[1]]
        if hasattr(command, "commands"):  # such as `voxtile manifest check`
            assert len(words) > 2 and words[2] in command.commands, line
            command = command.commands[words[2]]
        known = {name for option in command.params for name in option.opts + option.secondary_opts}
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= known | {"--help"}, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_file_linked_exists(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_readme_names_every_command_and_script() -> None:
    text = (ROOT / "README.md").read_text()
    for name, command in get_command(app).commands.items():
        for inner in getattr(command, "commands", None) or [""]:
            assert f"`voxtile {name} {inner}".rstrip() in text
    for script in ("demo", "test"):
        assert f"./scripts/{script}" in text
        assert (ROOT / "scripts" / script).stat().st_mode & 0o111


def test_the_floors_drawn_are_the_floors_tested() -> None:
    drawing = (ROOT / "docs/architecture.md").read_text().split("```text\n")[2].split("```")[0]
    drawn: dict[int, set[str]] = {}
    floor = -1
    for number, room in re.findall(r"^([ \d]{2})  (\w+) ", drawing, re.MULTILINE):
        floor = int(number) if number.strip() else floor
        drawn.setdefault(floor, set()).add(room)
    assert drawn == {number: set(rooms) for number, rooms in enumerate(FLOORS)}


def test_the_stages_drawn_are_rooms() -> None:
    for page in ("README.md", "docs/architecture.md"):
        drawing = (ROOT / page).read_text().partition("```text\nmanifest.csv")[2].split("```")[0]
        stages = re.findall(r"(\w+)/", drawing)
        assert {"reading", "preparation", "inference", "writing", "scoring", "report"} < {*stages}
        assert [room for room in stages if not (ROOT / "pipeline" / room).is_dir()] == []


def test_the_map_of_the_documentation_names_every_page() -> None:
    text = (ROOT / "docs/README.md").read_text()
    pages = {*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.ipynb")}
    named = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\(([^)]+)\)", text)}
    assert pages - {ROOT / "docs/README.md"} <= named


def test_each_key_of_a_spec_is_described() -> None:
    text = (ROOT / "docs/model-bundle.md").read_text().partition("## spec.json")[2]
    table = text.partition("\n## ")[0]
    assert [name for name in ModelSpec.model_fields if f"`{name}`" not in table] == []


def test_the_readmes_python_runs(tmp_path: Path, data_dir: Path, monkeypatch, capsys) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    folder = data_dir / "hippocampus"
    for name, kind in (("scan", "images"), ("reference", "labels")):
        source = folder / kind / "hippocampus_007.nii.gz"
        (tmp_path / f"{name}.nii.gz").write_bytes(source.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert re.search(r"anterior hippocampus 0\.9\d+ 1\.0 0\.9\d+", said)
    assert (tmp_path / "mask.nii.gz").exists()


def test_the_python_of_the_page_about_reading_runs(tmp_path: Path, monkeypatch) -> None:
    text = (ROOT / "docs/ingest.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    image, _ = ball(shape=(20, 20, 12))
    write_volume(tmp_path / "scan.nii.gz", image)
    write_series(tmp_path / "dicom/p002", voxels(20, 20, 20), SeriesDescription="T1 axial")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "ingest.md", "exec"), names)
    assert names["scan"].shape == names["mask"].shape == (20, 20, 20)


def test_the_python_of_the_page_about_own_networks_runs(tmp_path: Path, monkeypatch) -> None:
    text = (ROOT / "docs/own-network.md").read_text()
    code, _ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    image, truth = ball()
    write_volume(tmp_path / "scan.nii.gz", image)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "own-network.md", "exec"), names)
    assert (names["mask"].array == truth.array).all()


def test_the_public_names_exist_and_are_documented() -> None:
    for name in voxtile.__all__:
        assert getattr(voxtile, name).__doc__, name
        if inspect.isfunction(getattr(voxtile, name)):
            assert "Parameters\n    ----------" in getattr(voxtile, name).__doc__, name
    assert {*voxtile.__all__} < {*dir(voxtile)}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        voxtile.nothing  # noqa: B018


def test_every_column_of_a_table_is_explained() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    explained = set(re.findall(r"`([^`]+)`", text))
    columns = (
        *(column.name for column in COLUMNS),
        *Measures().columns,
        *summary.COLUMNS,
        *comparison.COLUMNS,
    )
    assert [column for column in columns if column not in explained] == []
    assert [flag for flag in qc.CODES if flag not in explained] == []
    assert ROOT.joinpath("README.md").read_text().count("docs/metrics.md")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md"])
def test_each_module_that_a_page_for_developers_names_exists(page: str) -> None:
    for name in re.findall(r"`([\w/]+\.py)`", (ROOT / page).read_text()):
        assert (ROOT / name).is_file() or (ROOT / "pipeline" / name).is_file(), name
