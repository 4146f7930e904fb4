"""The tools for manifests tell nothing of a patient, but for the key that is asked for."""

import gzip
from pathlib import Path

import pytest
from patients import MARKER, mark
from phantoms import ball
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.phantoms.dicom import write_series


@pytest.mark.parametrize("damage", ["none", "cut", "text"])
def test_a_planted_marker_appears_in_nothing_but_the_key(tmp_path: Path, capfd, damage) -> None:
    image, _ = ball(axes="LPS")
    for name in ("a", "b"):
        write_series(tmp_path / "tree" / name, image)
        mark(tmp_path / "tree" / name)
    first = sorted((tmp_path / "tree/a").iterdir())[3]
    if damage == "cut":
        first.write_bytes(first.read_bytes()[:-100])
    if damage == "text":
        first.write_bytes(MARKER.encode() * 100)
    out = tmp_path / "out"
    manifest = str(out / "m.csv")
    said = []
    for words in (
        ["manifest", "build", str(tmp_path / "tree"), "--out", manifest],
        ["manifest", "check", manifest],
        ["manifest", "check", manifest, "--json", "--deep"],
        ["manifest", "split", manifest, "--by=case_id", "--folds=2", f"--out={out}/s.csv"],
        ["manifest", "export", manifest, "--to", "monai", "--out", str(out / "monai")],
        ["convert", str(tmp_path / "tree/a"), str(out / "a.nii.gz")],
        ["convert", str(tmp_path / "tree"), str(out / "all.nii.gz")],
    ):
        said.append(CliRunner().invoke(app, words).output)
    captured = capfd.readouterr()
    everything = [captured.out, captured.err, *said]
    for path in sorted(out.rglob("*")):
        everything.append(str(path.relative_to(out)))
        if path.is_file():
            content = path.read_bytes()
            plain = gzip.decompress(content) if path.name.endswith(".gz") else content
            everything.append(plain[:100_000].decode("latin-1"))
    assert (out / "m.csv").exists()
    for text in everything:
        assert MARKER.lower() not in text.lower()
    key = tmp_path / "key.csv"
    words = ["manifest", "build", str(tmp_path / "tree"), "--out", str(tmp_path / "n.csv")]
    done = CliRunner().invoke(app, [*words, "--key", str(key)])
    assert done.exit_code == 0, done.output
    assert "warning" in done.output
    assert MARKER in key.read_text()
    assert MARKER not in done.output
