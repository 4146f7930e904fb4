"""The examples for clusters and containers: they run, or at least use commands that exist."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import write_bundle
from phantoms import ball
from typer.main import get_command

from voxtile.batch.cluster import JobSettings
from voxtile.cli import app
from voxtile.writing.nifti import write_volume

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
ROOT = EXAMPLES.parents[1]


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_each_command_and_option_of_an_example_exists(path: Path) -> None:
    commands = get_command(app).commands
    text = re.sub(r'\\\n|"\n\s*"', " ", path.read_text())
    used = re.findall(r"voxtile (run|merge|status)\b([^\n]*)", text)
    assert used or path.name in ("Dockerfile", "voxtile.def")
    for name, rest in used:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, rest


@pytest.fixture
def here(tmp_path: Path, network: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three cases, a model, and the command as it would be installed."""
    image, _ = ball()
    write_volume(tmp_path / "a.nii.gz", image)
    write_bundle(tmp_path / "model", network)
    (tmp_path / "cases.csv").write_text(
        "case_id,image\n" + "".join(f"c{n},a.nii.gz\n" for n in "abc")
    )
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "voxtile"
    program.write_text(f"#!{sys.executable}\nfrom voxtile.cli import main\nmain()\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def call(folder: Path, *words: str | Path, **environment: str) -> str:
    """Run a program in the folder, and return what it printed."""
    done = subprocess.run(
        [*map(str, words)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(name: str, *trial: str) -> str:
    """The path of a program that is installed beside Python or elsewhere; skip if it fails."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if path is None or subprocess.run([path, *trial], capture_output=True, check=False).returncode:
        pytest.skip(f"{name} is not installed (scripts/install workflows); CI runs this test")
    return path


def test_the_slurm_array_does_all_cases_in_two_tasks(here: Path) -> None:
    array = dict(zip(("MIN", "MAX", "COUNT"), "122", strict=True))
    array = {f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()}
    for task in ("1", "2"):
        words = ("sh", EXAMPLES / "slurm-array.sh", "cases.csv", "model", "out")
        call(here, *words, **array, SLURM_ARRAY_TASK_ID=task)
    assert "3 done, 0 failed, 0 missing of 3" in call(here, "voxtile", "merge", "out")


@pytest.mark.slow
def test_the_snakemake_workflow_does_all_cases(here: Path) -> None:
    words = (
        program("snakemake", "--version"),
        "--snakefile",
        EXAMPLES / "Snakefile",
        "--cores",
        "1",
    )
    config = ("--config", "manifest=cases.csv", "model=model", "out=out", "shards=2")
    call(here, *words, *config)
    assert "3 done" in call(here, "voxtile", "status", "out")
    assert len((here / "out/report.csv").read_text().splitlines()) == 4


@pytest.mark.slow
def test_the_nextflow_workflow_does_all_cases(here: Path) -> None:
    words = (
        program("nextflow", "-version"),
        "run",
        EXAMPLES / "main.nf",
        "--manifest",
        "cases.csv",
    )
    model = ("--model", here / "model")  # each process of Nextflow has a folder of its own
    call(here, *words, *model, "--out", "out", "--shards", "2", "--cpus", "1")
    assert "3 done" in call(here, "voxtile", "status", "out")
    assert len((here / "out/report.csv").read_text().splitlines()) == 4


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel_of_jupyter() -> None:
    nbclient = pytest.importorskip(
        "nbclient", reason="CI runs this test (scripts/install workflows)"
    )
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    ran = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert [
        output for cell in ran.cells for output in cell.get("outputs", ()) if "ename" in output
    ] == []


def test_each_file_that_a_container_copies_exists() -> None:
    for line in (EXAMPLES / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
    definition = (EXAMPLES / "voxtile.def").read_text()
    for source in re.findall(r"^    (\S+) /opt/voxtile/$", definition, re.MULTILINE):
        assert (ROOT / source).exists(), source


def test_the_cluster_settings_can_be_read() -> None:
    settings = JobSettings.read(EXAMPLES / "cluster.toml")
    assert (settings.queue, settings.gpus, settings.maximum) == ("gpu", 1, 8)
