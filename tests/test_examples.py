"""The examples for clusters and containers: they run, or at least use commands that exist."""

import os
import re
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


def test_the_slurm_array_does_all_cases_in_two_tasks(tmp_path: Path, network: bytes) -> None:
    image, _ = ball()
    write_volume(tmp_path / "a.nii.gz", image)
    write_bundle(tmp_path / "model", network)
    (tmp_path / "cases.csv").write_text(
        "case_id,image\n" + "".join(f"c{n},a.nii.gz\n" for n in "abc")
    )
    # The command as it would be installed.
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "voxtile"
    program.write_text(f"#!{sys.executable}\nfrom voxtile.cli import main\nmain()\n")
    program.chmod(0o755)
    array = {
        "SLURM_ARRAY_TASK_MIN": "1",
        "SLURM_ARRAY_TASK_MAX": "2",
        "SLURM_ARRAY_TASK_COUNT": "2",
    }
    for task in ("1", "2"):
        environment = {
            **os.environ,
            **array,
            "SLURM_ARRAY_TASK_ID": task,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        }
        words = ["sh", str(EXAMPLES / "slurm-array.sh"), "cases.csv", "model", "out"]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    merged = subprocess.run(
        [program, "merge", "out"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "3 done, 0 failed, 0 missing of 3" in merged.stdout


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
