"""Use an installed voxtile as a new user does, to find files that the wheel lacks.

`scripts/wheel` runs this in an environment that has only the wheel and its dependencies.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

import voxtile


def voxtile_command(*words: object) -> str:
    """Return what `python -m voxtile` prints; stop if it fails."""
    command = [sys.executable, "-m", "voxtile", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def write_scan(path: Path) -> tuple[int, int, int]:
    """Write a bright ball in noise, of the size of a hippocampus crop, and return its shape."""
    shape = (36, 50, 38)
    distance = np.linalg.norm(np.indices(shape).T - (18, 25, 19), axis=-1).T
    noise = np.random.default_rng(0).normal(0, 20, shape)
    voxels = np.where(distance < 9, 300, 100) + noise
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), np.eye(4)), path)
    return shape


def main() -> None:
    """Try the version, the public names, the shipped model, a run and its page."""
    script = Path(sys.executable).with_name("voxtile")
    version = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert voxtile.__version__ in version.stdout, version.stdout
    assert voxtile.__version__ in voxtile_command("--version")
    for name in voxtile.__all__:
        assert getattr(voxtile, name).__doc__, name
    assert "hippocampus" in voxtile_command("models", "list")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = write_scan(folder / "scan.nii.gz")
        with (folder / "cases.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("case_id", "image"), ("c1", "scan.nii.gz")])
        out = folder / "out"
        voxtile_command("run", folder / "cases.csv", "hippocampus", "--out", out)
        assert nibabel.load(out / "masks" / "c1.nii.gz").shape == shape
        assert "c1" in (out / "report.csv").read_text()
        assert "<script" in (out / "report.html").read_text()
        assert (out / "report_files" / "niivue.umd.js").stat().st_size > 1_000_000
    print(f"voxtile {voxtile.__version__} works on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
