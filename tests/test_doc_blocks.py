"""Every block of code of the documentation runs, here or in the test that is named."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import ROOT, Block, blocks, review, write_scene
from phantoms import make_spec
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.manifest.rows import KNOWN
from voxtile.models.spec import ModelSpec

BLOCKS = blocks()
# What begins like this runs in another test, ...
ELSEWHERE = {
    "./scripts/phantom_cohort": "tests/scripts/test_phantom_cohorts.py",
    "./scripts/get_hippocampus": "tests/scripts/test_get_hippocampus.py",
    "scripts/site": "tests/test_site.py",
    "voxtile compare out_2025": "tests/report/page/test_comparison_page.py",
    "voxtile compare scores_a": "tests/report/page/test_comparison_page.py",
    "voxtile doctor": "tests/cli/test_cli.py",
    "voxtile models export": "tests/engines/test_exchange.py",
    "voxtile models import net.onnx": "tests/engines/test_exchange.py",
    "voxtile models import nnUNet_results": "tests/importing/test_nnunet.py",
    "voxtile models get ADDRESS": "tests/library/test_get.py",
    "voxtile models verify": "tests/measuring/test_engines.py",
    "voxtile train manifest.csv --folds 5 --fold": "tests/training/folds/test_cross_validation.py",
    "voxtile train manifest.csv --folds 5 --out models/liver-cv --resume": (
        "tests/training/folds/test_cross_validation.py"
    ),
    "voxtile train manifest.csv --folds 5 --join": "tests/training/folds/test_cross_validation.py",
    "voxtile train manifests/mine.csv --out models/mine --resume": "tests/training/test_resume.py",
    "voxtile run cases.csv hippocampus --out out --scheduler": "tests/batch/test_cluster.py",
    "job=$(sbatch": "tests/test_examples.py",
    "sbatch": "tests/test_examples.py",
    "snakemake": "tests/test_examples.py",
    "nextflow": "tests/test_examples.py",
}
# ... or in no test, for this reason.
NOWHERE = {
    "./scripts/demo": "installs; `voxtile demo` runs in tests/phantoms/test_demo.py",
    "scripts/demo": "installs; `voxtile demo` runs in tests/phantoms/test_demo.py",
    ".venv/bin/voxtile demo": "runs in tests/phantoms/test_demo.py",
    "./scripts/test": "is what runs this test",
    "scripts/test": "is what runs this test",
    "scripts/check": "CI runs it",
    "scripts/install": "scripts/test calls it",
    "python3 -m venv": "scripts/wheel installs into an empty environment in CI",
    ". venv/bin/activate": "scripts/wheel installs into an empty environment in CI",
    "pip install": "scripts/wheel installs into an empty environment in CI",
    "pip uninstall": "needs an environment for itself",
    "git clone": "needs an address",
    "cd voxtile": "needs the clone",
    "voxtile run manifests/hippocampus.csv": "needs the real data; test_docs.py segments one case",
    "voxtile train manifests/hippocampus.csv": "trains for 55 minutes",
    "voxtile run cases.csv liver": "needs a GPU, or runs with other models for other pages",
    "voxtile train cases.csv --out models/mine --device": "needs a GPU",
    "voxtile run cases.csv hippocampus --out out --cluster": "needs a queue of jobs",
    "./scripts/bench": "takes hours; tests/scripts/test_benchmarks.py has its instruments",
    "scripts/container": "CI builds and runs the images",
    "docker": "CI builds and runs the image",
    "apptainer": "CI builds and runs the image",
}
# Exit codes other than 0.
ENDS = {
    "voxtile export out --to dicom-seg": 3,  # the scans are NIfTI files
}
PYTHON = {
    "README.md": ["tests/test_docs.py"],
    "docs/ingest.md": ["tests/test_docs.py"],
    "docs/own-network.md": ["tests/test_docs.py", "tests/importing/test_pytorch_networks.py"],
    "docs/engines.md": ["tests/engines/test_exchange.py"],
    "CONTRIBUTING.md": ["no code to run: lines to add, each in its file"] * 4,
}


def listed(command: str, table: dict[str, Any]) -> str | None:
    """The longest beginning of a command that a table has."""
    return max((key for key in table if command.startswith(key)), key=len, default=None)


def of_pages(language: str) -> dict[str, list[Block]]:
    """The blocks of a language, by page."""
    found: dict[str, list[Block]] = {}
    for block in BLOCKS:
        if block.language == language:
            found.setdefault(block.page, []).append(block)
    return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, network: bytes) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene"), network)


@pytest.mark.parametrize("page", of_pages("sh"))
def test_the_commands_of_a_page_run(page: str, scene: Path, tmp_path: Path, monkeypatch) -> None:
    folder = Path(shutil.copytree(scene, tmp_path / "here"))
    monkeypatch.chdir(folder)
    for name, value in {"ID": "1", "MIN": "1", "MAX": "1", "COUNT": "1"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)  # for --shard auto
    for block in of_pages("sh")[page]:
        if block.commands[0].startswith("voxtile run"):
            shutil.rmtree(folder / "out", ignore_errors=True)  # of an earlier block
        for command in block.commands:
            if listed(command, ELSEWHERE | NOWHERE) is None:
                assert command.startswith("voxtile "), f"neither run nor listed: {command}"
                run(command, folder)


def run(command: str, folder: Path) -> None:
    """Run a command in the scene, after what a person does before it."""
    command, _, to = command.partition(" > ")
    words = shlex.split(command)[1:]
    out = folder / words[words.index("--out") + 1] if "--out" in words else None
    if "--review" in words:
        review(folder)
    if "--bids" in words:
        shutil.rmtree(folder / "DATA")
        shutil.copytree(folder / "bids", folder / "DATA")
    if words[0] == "manifest" and out is not None:
        out.unlink(missing_ok=True)
    if words[0] in ("report", "export") and not (folder / "out").exists():
        call("run", "cases.csv", "hippocampus", "--out", "out")
    if "--shard" in words and words[-1] in ("auto", "1/2"):
        shutil.rmtree(folder / "out", ignore_errors=True)
    if words[0] == "train" and "--dry-run" not in words:  # the model is in the scene already
        words[words.index("--out") + 1] += "_new"
        words.append("--dry-run")
    said = call(*words)
    if to:
        assert json.loads(said)


def call(*words: str) -> str:
    """Call voxtile; return what it printed."""
    result = CliRunner().invoke(app, words)
    expected = ENDS.get(listed(" ".join(("voxtile", *words)), ENDS) or "", 0)
    assert result.exit_code == expected, f"{words}: {result.output[-2000:]}"
    return result.stdout


@pytest.mark.parametrize("command", [*ELSEWHERE, *NOWHERE])
def test_the_tables_of_exceptions_have_nothing_superfluous(command: str) -> None:
    commands = [one for page in of_pages("sh").values() for block in page for one in block.commands]
    assert any(listed(one, ELSEWHERE | NOWHERE) == command for one in commands)
    assert (ROOT / ELSEWHERE.get(command, "README.md")).is_file()


def test_every_block_of_python_is_run_by_a_test() -> None:
    assert {page: len(found) for page, found in of_pages("python").items()} == {
        page: len(tests) for page, tests in PYTHON.items()
    }
    for page, tests in PYTHON.items():
        for test in tests:
            if test.endswith(".py"):
                assert Path(page).name in (ROOT / test).read_text(), (page, test)


def test_every_block_of_json_is_a_part_of_a_spec() -> None:
    for block in [one for one in BLOCKS if one.language == "json"]:
        part = json.loads(f"{{{block.text}}}")
        spec = json.loads(make_spec().dump()) | part
        if "networks" in part:
            spec["networks"] = [{"file": "n.keras", "sha256": "0" * 64} | part["networks"][0]]
        if len(spec["labels"]) < 2:
            spec["labels"] = [{"value": n, "name": str(n), "color": "#00ff00"} for n in (1, 2)]
        if any("region" in label for label in spec["labels"]):
            spec["activation"] = "sigmoid"
        ModelSpec.model_validate(spec)


def test_every_block_of_csv_is_a_manifest() -> None:
    for block in [one for one in BLOCKS if one.language == "csv"]:
        header, *rows = block.text.splitlines()
        assert {*header.split(",")} - {"site"} <= {*KNOWN, "case_id", "image"}
        assert {len(row.split(",")) for row in rows} == {len(header.split(","))}


def test_no_block_is_of_another_language() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python", "json", "csv", "text"}
