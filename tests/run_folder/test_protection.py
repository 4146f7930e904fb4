"""No input is changed, replaced or removed, whatever its path looks like."""

import os
import shutil
from pathlib import Path

import pytest
from phantoms import ball, make_bundle, threshold_model
from runs import add_case, run, write_manifest
from typer.testing import CliRunner

from voxtile.batch.drive import run_manifest
from voxtile.cli import app
from voxtile.errors import ManifestError
from voxtile.run.evaluation import evaluate
from voxtile.run_folder.protection import Input, protect
from voxtile.training.drive import train
from voxtile.training.folds.cross_validation import cross_validate
from voxtile.writing.nifti import write_mask, write_volume


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, also hidden ones, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def data_set(folder: Path, image: str = "images/c1.nii.gz", label: str = "masks/c1.nii.gz") -> Path:
    """Write a scan and its reference at two places of a folder, and their manifest."""
    volume, truth = ball()
    write_volume(folder / image, volume)
    write_mask(folder / label, truth)
    return write_manifest(folder, [{"case_id": "c1", "image": image, "label": label}])


def test_a_run_into_the_folder_of_the_data_is_refused(tmp_path: Path) -> None:
    manifest = data_set(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ManifestError) as refused:
        run(manifest, tmp_path)
    assert "case c1: label" in str(refused.value)
    assert "name another folder with --out" in str(refused.value)
    assert str(tmp_path / "masks/c1.nii.gz") in str(refused.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("image", ["cases/deep/er/c1.nii.gz", "c1.nii.gz", ".hidden/c1.nii.gz"])
def test_an_image_anywhere_in_the_output_folder_is_refused(tmp_path: Path, image: str) -> None:
    data_set(tmp_path / "out", image)
    (tmp_path / "out/cases.csv").rename(tmp_path / "cases.csv")
    before = contents(tmp_path)
    with pytest.raises(ManifestError, match="is inside the output folder"):
        run_manifest(
            tmp_path / "cases.csv",
            make_bundle(),
            tmp_path / "out",
            root=tmp_path / "out",
            models=[threshold_model],
        )
    assert contents(tmp_path) == before


def finished_run(folder: Path) -> tuple[Path, Path]:
    """Run a case, and return manifest and run folder."""
    folder.mkdir(exist_ok=True)
    manifest = write_manifest(folder, [add_case(folder, "c1")])
    run(manifest, folder / "out")
    return manifest, folder / "out"


@pytest.mark.parametrize("place", ["masks/c2.nii.gz", "images/c2.nii.gz", "exports/x/c2.nii.gz"])
@pytest.mark.parametrize("kind", ["hard link", "link", "link to the output", "linked folder"])
def test_links_do_not_hide_an_input(tmp_path: Path, place: str, kind: str) -> None:
    _, out = finished_run(tmp_path / "first")
    data = tmp_path / "data"
    data.mkdir()
    row = add_case(data, "c2")
    inside, outside = out / place, data / row["image"]
    inside.parent.mkdir(parents=True, exist_ok=True)
    if kind == "hard link":
        os.link(outside, inside)
    elif kind == "link":
        inside.symlink_to(outside)
    elif kind == "link to the output":
        outside.rename(inside)
        outside.symlink_to(inside)
    else:
        (data / "folder").symlink_to(inside.parent)
        outside.rename(inside)
        row["image"] = "folder/c2.nii.gz"
    manifest = write_manifest(data, [row])
    before = contents(tmp_path)
    with pytest.raises(ManifestError, match=r"case c2: image .* the output"):
        run(manifest, out)
    assert contents(tmp_path) == before


def test_a_part_of_the_output_that_is_a_link_to_the_data_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    manifest = data_set(data, "c1.nii.gz", "labels/c1.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/masks").symlink_to(data / "labels")
    before = contents(tmp_path)
    with pytest.raises(ManifestError, match="is inside the output folder"):
        run(manifest, tmp_path / "out")
    assert contents(tmp_path) == before


def test_an_output_folder_inside_a_series_is_refused(tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").touch()
    manifest = write_manifest(tmp_path, [{"case_id": "c1", "image": "series"}])
    for out in (series, series / "out", series / "deep/er"):
        with pytest.raises(ManifestError, match=r"series (contains|is inside) the output"):
            run(manifest, out)
    assert [path.name for path in series.iterdir()] == ["1.dcm"]


def test_the_manifest_and_the_model_are_inputs_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    row = add_case(tmp_path, "c1")
    manifest = write_manifest(tmp_path, [row]).rename(out / "cases.csv")
    with pytest.raises(ManifestError, match=r"the manifest .* is inside the output folder"):
        run_manifest(manifest, make_bundle(), out, root=tmp_path, models=[threshold_model])


def test_a_neighbour_of_the_data_is_not_refused(tmp_path: Path) -> None:
    manifest = data_set(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    result = run(manifest, tmp_path / "link" / "images-out")
    assert [report.status for report in result.reports] == ["done"]
    run(manifest, tmp_path / "images" / ".." / "images-out")


def test_a_folder_with_files_that_no_run_wrote_is_refused(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "c1")])
    for name, content in (
        ("report.csv", "my,own"),
        (".x.tmp", "mine"),
        ("masks/other.nii.gz", "mine"),
        ("run.json", "{}"),
        ("run.json", '{"voxtile": 1'),
        (".lock", "mine"),
        (".probe", "mine"),
    ):
        out = tmp_path / "somebody"
        path = out / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
        with pytest.raises(ManifestError, match="holds files") as refused:
            run(manifest, out)
        assert path.name in str(refused.value)
        assert contents(out) == {name: content.encode()}
        path.unlink()
        for folder in (path.parent, out):
            if folder.exists():
                folder.rmdir()


def test_what_a_killed_start_leaves_does_not_count(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "c1")])
    out = tmp_path / "out"
    (out / "masks").mkdir(parents=True)
    (out / ".lock").touch()
    (out / "masks/.probe").touch()
    (out / ".run.json.abcd1234.tmp").write_text("{")
    assert len(run(manifest, out).reports) == 1


def test_files_of_a_case_that_no_run_here_had_are_not_replaced(tmp_path: Path) -> None:
    _, out = finished_run(tmp_path)
    manifest = write_manifest(tmp_path, [add_case(tmp_path, name) for name in ("c1", "c9")])
    for name in (
        "masks/c9.nii.gz",
        "qc/c9.png",
        "exports/binary/c9/mine.nii.gz",
        "exports/glb/c9.glb",
        "cases/c9.json",
    ):
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        with pytest.raises(ManifestError, match=r"no record of a run here names this file"):
            run(manifest, out)
        assert path.read_text() == "mine"
        path.unlink()
    assert len(run(manifest, out).reports) == 2
    assert len(run(manifest, out).reports) == 2


def test_somebodys_table_and_temporary_file_stay(tmp_path: Path) -> None:
    manifest, out = finished_run(tmp_path)
    (out / ".x.tmp").write_text("mine")
    (out / "masks/.notes.tmp").write_text("mine")
    (out / "masks/.notes.txt.abcd1234.tmp").write_text("mine")
    run(manifest, out)
    assert len([path for path in out.rglob(".*.tmp") if path.read_text() == "mine"]) == 3
    (out / "report.csv").write_text("patient,opinion\nA,good\n")
    with pytest.raises(ManifestError, match=r"report.csv would be replaced, but it is not"):
        run(manifest, out)
    assert (out / "report.csv").read_text() == "patient,opinion\nA,good\n"


@pytest.mark.parametrize("name", [".lock", ".lock.json", ".probe", "masks/.probe"])
def test_a_file_under_the_name_of_a_lock_or_probe_stays(tmp_path: Path, name: str) -> None:
    manifest, out = finished_run(tmp_path)
    for link in (False, True):
        (out / name).unlink(missing_ok=True)
        if link:
            (tmp_path / "mine").write_text("mine")
            os.link(tmp_path / "mine", out / name)
        else:
            (out / name).write_text("mine")
        with pytest.raises(ManifestError, match="move it away"):
            run(manifest, out)
        assert (out / name).read_text() == "mine"


def test_an_evaluation_does_not_write_among_its_inputs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    manifest = data_set(data)
    before = contents(data)
    predictions = tmp_path / "predictions"
    write_mask(predictions / "c1.nii.gz", ball()[1])
    for out in (data, predictions, data / "masks", tmp_path):
        with pytest.raises(ManifestError, match="the output folder"):
            evaluate(manifest, predictions, out)
    assert contents(data) == before
    assert [path.name for path in predictions.iterdir()] == ["c1.nii.gz"]
    evaluate(manifest, predictions, predictions / "scores")
    evaluate(manifest, predictions, predictions / "scores")


def test_inputs_are_asked_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand series of three thousand files cost a few calls for each series."""
    inputs = []
    for number in range(50):
        folder = tmp_path / f"data/case{number}"
        folder.mkdir(parents=True)
        for slices in range(20):
            (folder / f"{slices}.dcm").touch()
        inputs.append(Input(f"case {number}", folder))
    calls = 0
    stat = os.stat

    def counting(*given, **named):
        nonlocal calls
        calls += 1
        return stat(*given, **named)

    monkeypatch.setattr(os, "stat", counting)
    protect(inputs, tmp_path / "out")
    assert calls < 50 * 12


def test_a_training_does_not_write_among_its_inputs(tmp_path: Path) -> None:
    place = tmp_path / "out.training/.data"
    rows = []
    for name, split in (("c1", "train"), ("c2", "val")):
        volume, truth = ball()
        write_volume(place / f"{name}.nii.gz", volume)
        write_mask(place / f"{name}_label.nii.gz", truth)
        rows.append(
            {
                "case_id": name,
                "image": f"out.training/.data/{name}.nii.gz",
                "label": f"out.training/.data/{name}_label.nii.gz",
                "split": split,
            }
        )
    manifest = write_manifest(tmp_path, rows)
    before = contents(tmp_path)
    for out in (tmp_path / "out", tmp_path):
        with pytest.raises(ManifestError, match="is inside the output folder"):
            train(manifest, out, progress=False)
        assert contents(tmp_path) == before
    with pytest.raises(ManifestError, match="is inside the output folder"):
        cross_validate(manifest, tmp_path, 2)
    (tmp_path / "cv").mkdir()
    (tmp_path / "cv/thesis.docx").touch()
    with pytest.raises(ManifestError, match=r"thesis.docx, but no cross-validation"):
        cross_validate(manifest, tmp_path / "cv", 2)


def test_a_report_and_an_export_leave_other_files(tmp_path: Path) -> None:
    manifest, out = finished_run(tmp_path)
    (out / "report_files/sections").mkdir(parents=True)
    (out / "report_files/sections/mine.js").write_text("// mine")
    (out / "report_files/notes.txt").write_text("mine")
    (out / "masks/itksnap_labels.txt").write_text("my colours")
    assert invoke("report", out, "--manifest", manifest)[0] == 0
    assert invoke("report", out, "--cases", "none")[0] == 0
    assert sorted(contents(out / "report_files")) == ["notes.txt", "sections/mine.js"]
    code, said = invoke("export", out, "--to", "tables")
    assert (code, "itksnap_labels.txt in masks is not from voxtile" in said) == (3, True)
    assert (out / "masks/itksnap_labels.txt").read_text() == "my colours"
    (out / "report.html").write_text("<p>mine</p>")
    code, said = invoke("report", out)
    assert (code, "report.html would be replaced" in said) == (4, True)
    assert (out / "report.html").read_text() == "<p>mine</p>"


def test_somebodys_file_in_the_exports_of_a_case_stays(tmp_path: Path) -> None:
    manifest, out = finished_run(tmp_path)
    assert invoke("export", out, "--to", "binary")[0] == 0
    (out / "exports/binary/c1/mine.nii.gz").write_text("mine")
    (out / "masks/c1.nii.gz").unlink()
    run(manifest, out)
    assert sorted(contents(out / "exports")) == ["binary/c1/mine.nii.gz"]


@pytest.mark.parametrize("name", ["README.md", "dataset_description.json"])
def test_somebodys_file_of_a_bids_folder_stays(tmp_path: Path, name: str) -> None:
    _, out = finished_run(tmp_path)
    path = out / "exports/bids" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    code, said = invoke("export", out, "--to", "bids")
    assert (code, f"the derivatives have another {name}" in said) == (3, True)
    assert path.read_text() == "mine"
    path.unlink()
    assert [invoke("export", out, "--to", "bids")[0] for _ in range(2)] == [0, 0]


def test_a_comparison_is_not_written_among_other_files(tmp_path: Path) -> None:
    _, out = finished_run(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    before = contents(tmp_path)
    for folder in (tmp_path, out, copy / "masks"):
        assert invoke("compare", out, copy, "--out", folder)[0] == 4
    assert contents(tmp_path) == before
    assert invoke("compare", out, copy, "--out", tmp_path / "new")[0] == 0
    assert invoke("compare", out, copy, "--out", tmp_path / "new")[0] == 0


def test_figures_of_a_benchmark_do_not_replace_an_input(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "c1")])
    before = contents(tmp_path)
    for path in (manifest, tmp_path / "c1.nii.gz"):
        code, said = invoke("bench", "hippocampus", manifest, "--json", path)
        assert (code, "would be replaced; name another file with --json" in said) == (4, True)
    assert contents(tmp_path) == before


def test_a_new_file_does_not_replace_a_link_to_nothing(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "c1")])
    link = tmp_path / "link.csv"
    link.symlink_to("gone.csv")
    code, said = invoke("manifest", "split", manifest, "--folds", 2, "--out", link)
    assert (code, "exists; name another" in said, link.is_symlink()) == (4, True, True)
    arguments = ("manifest", "build", tmp_path, "--from", "nifti", "--out")
    assert invoke(*arguments, link)[0] == 4
    assert link.is_symlink()
