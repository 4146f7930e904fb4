"""Exports: what is written reads back as the mask, with names and colours, in the same place."""

import json
import os
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import ball, make_bundle, make_spec, threshold_model
from runs import add_case, write_manifest
from typer.testing import CliRunner

from voxtile.batch.drive import run_manifest
from voxtile.batch.settings import BatchSettings
from voxtile.cli import app
from voxtile.engines import CALLABLE
from voxtile.errors import CaseError, ManifestError
from voxtile.export import FORMATS, Finished, check_formats, export_run, keeping_probabilities
from voxtile.export.bids import bids_entities, write_bids
from voxtile.export.finished import finished_cases
from voxtile.export.mesh import surface
from voxtile.export.slicer import write_seg_nrrd
from voxtile.export.surfaces import glb, stl
from voxtile.inference.infer import Member
from voxtile.inference.segmenter import Segmenter
from voxtile.machine.json_objects import sealed
from voxtile.machine.memory import resident_memory_mb
from voxtile.manifest.rows import read_manifest
from voxtile.models.spec import Concept, Label, Network
from voxtile.preparation.plan import PlanWish, make_plan
from voxtile.preparation.planes import slice_axis, to_planes
from voxtile.reading.nifti import read_nifti
from voxtile.run.case import run_case
from voxtile.run.job import Job, RunSettings
from voxtile.run.journal import Journal, peak_memory_mb
from voxtile.run_folder.fingerprint import InputWatch
from voxtile.volume import Volume

LIVER = Concept(value="10200004", scheme="SCT", meaning="Liver")
LABELS = (
    Label(value=1, name="left lung", color="#e6194b", concept=LIVER),
    Label(value=300, name="Leber, groß", color="#3cb44b"),
    Label(value=4, name="nowhere", color="#4363d8"),
)
REGIONS = (
    Label(value=2, name="whole", color="#00ff00", region=(1, 2)),
    Label(value=1, name="core", color="#ff0000"),
)
runner = CliRunner()


TABLES = ("slicer.ctbl", "itksnap_labels.txt", "itksnap.sh")


def two_labels(**grid) -> Volume:
    """A ball, half of it with another value."""
    _, truth = ball(**grid)
    array = truth.array.astype(np.uint16)
    array[: array.shape[0] // 2] *= 300
    return truth.with_array(array)


def finished(tmp_path: Path, labels=LABELS, **changes) -> Finished:
    return Finished("p1", tmp_path, labels, "threshold", **changes)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run of two good cases and a broken one."""
    rows = [add_case(tmp_path, "a"), add_case(tmp_path, "b-2", axes="LPS", tilt_degrees=20)]
    (tmp_path / "c.nii.gz").write_bytes(b"")
    rows.append({"case_id": "c", "image": "c.nii.gz", "label": ""})
    manifest = write_manifest(tmp_path, rows)
    run_manifest(manifest, make_bundle(), tmp_path / "out", models=[threshold_model])
    return tmp_path / "out"


@pytest.mark.parametrize("grid", [{}, {"axes": "LPS"}, {"axes": "AIL", "tilt_degrees": 30}])
def test_slicer_reads_names_colours_terminology_and_voxels(tmp_path: Path, grid) -> None:
    mask = two_labels(**grid)
    write_seg_nrrd(finished(tmp_path), mask)
    found = slicerio.read_segmentation(str(tmp_path / "exports/seg.nrrd/p1.seg.nrrd"))
    np.testing.assert_array_equal(found["voxels"], mask.array)
    lps = np.diag([-1, -1, 1, 1]) @ mask.affine
    np.testing.assert_array_equal(found["ijkToLPS"], lps)
    assert [segment["labelValue"] for segment in found["segments"]] == [1, 300, 4]
    first, second, _ = found["segments"]
    assert first["name"] == "left lung"
    np.testing.assert_allclose(first["color"], np.array([230, 25, 75]) / 255, atol=1e-5)
    assert first["terminology"]["type"] == ["SCT", "10200004", "Liver"]
    assert first["terminology"]["category"] == ["SCT", "123037004", "Anatomical Structure"]
    assert second["terminology"]["type"] == ["SCT", "85756007", "Tissue"]


def test_itk_puts_a_seg_nrrd_where_the_nifti_mask_is(tmp_path: Path) -> None:
    mask = two_labels(axes="PIR", tilt_degrees=25)
    write_seg_nrrd(finished(tmp_path), mask)
    image = sitk.ReadImage(str(tmp_path / "exports/seg.nrrd/p1.seg.nrrd"))
    for index in [(0, 0, 0), (5, 2, 7)]:
        ras = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose(ras, (mask.affine @ (*index, 1))[:3], atol=1e-4)


def test_regions_that_overlap_are_layers_of_a_seg_nrrd(tmp_path: Path) -> None:
    mask = ball()[1]
    array = mask.array * 2
    array[12:] //= 2
    write_seg_nrrd(finished(tmp_path, REGIONS), mask.with_array(array))
    voxels, header = nrrd.read(str(tmp_path / "exports/seg.nrrd/p1.seg.nrrd"))
    assert [header[f"Segment{index}_Layer"] for index in (0, 1)] == ["0", "1"]
    np.testing.assert_array_equal(voxels[0] == 2, array > 0)
    np.testing.assert_array_equal(voxels[1] == 1, array == 1)


def test_equal_masks_are_equal_seg_nrrd_files(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_seg_nrrd(finished(tmp_path / name), two_labels())
    one, other = (tmp_path / name / "exports/seg.nrrd/p1.seg.nrrd" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_a_run_writes_all_formats_to_their_folders(run_folder: Path) -> None:
    formats = [name for name in FORMATS if not name.startswith("dicom") and name != "png"]
    results = export_run(run_folder, formats)
    assert [result.reason for result in results] == [None] * 2 * len(formats)
    found = sorted(
        str(path.relative_to(run_folder))
        for folder in ("exports", "masks")
        for path in (run_folder / folder).rglob("*")
        if path.is_file()
    )
    assert found == [
        "exports/bids/README.md",
        "exports/bids/dataset_description.json",
        "exports/bids/desc-threshold_dseg.tsv",
        "exports/bids/sub-a/anat/sub-a_desc-threshold_dseg.json",
        "exports/bids/sub-a/anat/sub-a_desc-threshold_dseg.nii.gz",
        "exports/bids/sub-b2/anat/sub-b2_desc-threshold_dseg.json",
        "exports/bids/sub-b2/anat/sub-b2_desc-threshold_dseg.nii.gz",
        "exports/binary/a/1_ball.nii.gz",
        "exports/binary/b-2/1_ball.nii.gz",
        "exports/glb/a.glb",
        "exports/glb/b-2.glb",
        "exports/seg.nrrd/a.seg.nrrd",
        "exports/seg.nrrd/b-2.seg.nrrd",
        "exports/stl/a/1_ball.stl",
        "exports/stl/b-2/1_ball.stl",
        "masks/a.nii.gz",
        "masks/b-2.nii.gz",
        "masks/itksnap.sh",
        "masks/itksnap_labels.txt",
        "masks/slicer.ctbl",
    ]
    mask = read_nifti(run_folder / "masks/b-2.nii.gz").volume
    for other in ("binary/b-2/1_ball.nii.gz", "bids/sub-b2/anat/sub-b2_desc-threshold_dseg.nii.gz"):
        copy = read_nifti(run_folder / "exports" / other).volume
        np.testing.assert_array_equal(copy.array, mask.array)
        np.testing.assert_array_equal(copy.affine, mask.affine)


def test_a_mask_has_the_same_position_in_nibabel_and_simpleitk(run_folder: Path) -> None:
    path = run_folder / "masks/b-2.nii.gz"
    affine = nibabel.load(path).affine
    image = sitk.ReadImage(str(path))
    for index in [(0, 0, 0), (23, 19, 11), (3, 8, 1)]:
        ras = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose(ras, (affine @ (*index, 1))[:3], atol=1e-4)


def test_the_launch_script_names_mask_and_labels(run_folder: Path, tmp_path: Path) -> None:
    export_run(run_folder, ["tables"])
    fake = tmp_path / "bin" / "itksnap"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    script = run_folder / "masks/itksnap.sh"
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [script, "a", "my scan.nii.gz"],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    folder = script.parent
    assert done.stdout.splitlines() == [
        *("-g", "my scan.nii.gz", "-s", f"{folder}/a.nii.gz"),
        *("-l", f"{folder}/itksnap_labels.txt"),
    ]
    assert subprocess.run([script], capture_output=True, check=False).returncode == 2


def test_cases_that_would_have_one_name_in_bids_are_refused(tmp_path: Path) -> None:
    assert bids_entities("sub-01_ses-2_desc-x_T1w") == ["sub-01", "ses-2"]
    mask = two_labels()
    for case_id in ("a-1", "a-1", "a_1"):
        case = Finished(case_id, tmp_path, LABELS, "m")
        case.mask_path.parent.mkdir(exist_ok=True)
        case.mask_path.write_bytes(b"")
        if case_id == "a_1":
            with pytest.raises(CaseError, match="belongs to another case"):
                write_bids(case, mask)
        else:
            write_bids(case, mask)
    with pytest.raises(CaseError, match="no letter or digit"):
        bids_entities("--")


@settings(deadline=None, max_examples=12)
@given(
    axes=st.sampled_from(["RAS", "LPS", "PIR", "AIL", "SRA"]),
    tilt=st.floats(-40, 40),
    spacing=st.tuples(*[st.floats(0.8, 2)] * 3),
)
def test_a_surface_is_closed_turned_outward_and_in_position(axes, tilt, spacing) -> None:
    _, truth = ball(shape=(40, 40, 40), spacing_mm=spacing, axes=axes, tilt_degrees=tilt)
    mesh = surface(truth.with_array(truth.array > 0))
    assert mesh is not None
    edges = np.sort(
        np.concatenate([mesh.triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))]), axis=1
    )
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    expected = 4 / 3 * np.pi * 9**3 / 1000
    assert mesh.volume_ml == pytest.approx(expected, rel=0.06)
    np.testing.assert_allclose(mesh.corners.mean(axis=0), (2, -1, 1), atol=0.4)
    # Smoothed: the surface of the ball, and no steps of voxels.
    radius = np.linalg.norm(mesh.corners - (2, -1, 1), axis=1)
    assert np.abs(radius - 9).max() < max(spacing)


def test_an_empty_label_has_no_surface() -> None:
    _, truth = ball()
    assert surface(truth.with_array(np.zeros(truth.shape, bool))) is None


def test_stl_and_glb_hold_the_mesh() -> None:
    mask = two_labels()
    mesh = surface(mask.with_array(mask.array == 1))
    assert mesh is not None
    content = stl(mesh)
    assert len(content) == 84 + 50 * len(mesh.triangles)
    assert not content.startswith(b"solid")
    first = struct.unpack_from("<12f", content, 84)
    np.testing.assert_array_equal(first[3:], mesh.corners[mesh.triangles[0]].ravel())
    np.testing.assert_allclose(np.linalg.norm(first[:3]), 1, atol=1e-6)

    binary = glb([(LABELS[0], mesh)])
    magic, version, length = struct.unpack_from("<4sII", binary)
    assert (magic, version, length) == (b"glTF", 2, len(binary))
    size, kind = struct.unpack_from("<I4s", binary, 12)
    tree = json.loads(binary[20 : 20 + size])
    assert kind == b"JSON"
    start = 20 + size + 8
    corners = np.frombuffer(binary, "<f4", mesh.corners.size, start).reshape(-1, 3)
    np.testing.assert_array_equal(corners, mesh.corners)
    assert tree["accessors"][1]["count"] == mesh.triangles.size
    assert tree["nodes"][1]["name"] == "left lung"
    # One metre up is a thousand millimetres to superior.
    matrix = np.array(tree["nodes"][0]["matrix"]).reshape(4, 4, order="F")
    np.testing.assert_allclose(matrix @ (0, 0, 1000, 1), (0, 1, 0, 1))
    assert json.loads(glb([])[20:])["nodes"][0]["name"] == "RAS+ millimetres"


@pytest.mark.parametrize("views", [("axial",), ("coronal",), ("axial", "sagittal")])
@pytest.mark.parametrize(("name", "top"), [("probabilities", 255), ("probabilities16", 65535)])
def test_probabilities_decide_as_the_mask_does(tmp_path: Path, views, name, top) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "a", axes="PIL", tilt_degrees=15)])
    labels = (*make_spec().labels, Label(value=5, name="second", color="#3cb44b"))

    def model(tiles: np.ndarray) -> np.ndarray:
        odds = tiles[..., 0] / 100 * 0.8
        return np.stack([1 - odds, odds * 0.7, odds * 0.3], axis=-1)

    networks = tuple(
        Network(file=f"{view}.keras", sha256="0" * 64, views=(view,)) for view in views
    )
    result = run_manifest(
        manifest,
        make_bundle(labels=labels, networks=networks),
        tmp_path / "out",
        models=[model] * len(views),
        settings=RunSettings(exports=(name, "binary")),
    )
    assert not result.failed
    mask = read_nifti(tmp_path / "out/masks/a.nii.gz").volume
    folder = tmp_path / "out/exports" / name / "a"
    first, second = (
        read_nifti(folder / file).volume for file in ("1_ball.nii.gz", "5_second.nii.gz")
    )
    np.testing.assert_array_equal(first.affine, mask.affine)
    inside = mask.array == 1
    assert inside.any()
    np.testing.assert_allclose(first.array[inside], 0.56, atol=0.6 / top)
    np.testing.assert_allclose(second.array[inside], 0.24, atol=0.6 / top)
    assert not first.array[~inside].any()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith("tmp")]
    assert (tmp_path / "out/exports/binary/a/1_ball.nii.gz").exists()


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_memory_does_not_grow_with_the_probabilities(tmp_path: Path, view) -> None:
    shape, count = (256, 256, 64), 8
    labels = tuple(Label(value=n, name=f"l{n}", color="#3cb44b") for n in range(1, count + 1))
    spec = make_spec(labels=labels)
    nothing = Volume(np.broadcast_to(np.uint8(0), shape), np.eye(4))
    plane = np.zeros((*to_planes(nothing.array, view).shape[1:], count + 1), np.float32)
    kinds = ("probabilities16",)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): forget the peak so far
    except OSError:
        pytest.skip("the peak of memory cannot be reset here")
    before = resident_memory_mb()
    with keeping_probabilities(finished(tmp_path, labels), nothing, spec, view, kinds) as keep:
        for _ in keep(plane for _ in range(shape[slice_axis(view)])):
            pass
    files = count * np.prod(shape) * 2 / 1e6
    assert peak_memory_mb() - before < files / 3


def test_an_export_that_fails_gives_a_notice_and_keeps_the_mask(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "a")])
    result = run_manifest(
        manifest,
        make_bundle(),
        tmp_path / "out",
        models=[threshold_model],
        settings=RunSettings(exports=("dicom-seg",)),
    )
    (report,) = result.reports
    assert report.status == "done"
    (notice,) = report.warnings
    assert notice.code == "export_failed"
    assert "the scan is a NIfTI file" in notice.sentence


def test_formats_of_a_run_may_be_named_with_blanks_and_twice(tmp_path: Path) -> None:
    settings = RunSettings(exports=("binary", " tables", "binary"))
    assert settings.exports == ("binary", "tables")
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "a")])
    out = tmp_path / "out"
    result = run_manifest(manifest, make_bundle(), out, models=[threshold_model], settings=settings)
    assert result.reports[0].warnings == ()
    assert all((out / "masks" / name).is_file() for name in TABLES)


def test_the_scan_of_a_finished_case_is_the_first_channel_of_the_model(tmp_path: Path) -> None:
    add_case(tmp_path, "a")
    row = {"case_id": "x", "image_pet": "a_pet.nii.gz", "image_ct": "a.nii.gz"}
    (tmp_path / "a_pet.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes())
    manifest, out = write_manifest(tmp_path, [row]), tmp_path / "out"
    run_manifest(manifest, make_bundle(channels=("ct",)), out, models=[threshold_model])
    (case,) = finished_cases(out, read_manifest(manifest))
    assert case.image == tmp_path / "a.nii.gz"
    facts = json.loads((out / "run.json").read_bytes())
    del facts["model"]["channels"]  # as earlier versions wrote it
    (out / "run.json").write_text(json.dumps(sealed(facts)))
    (case,) = finished_cases(out, read_manifest(manifest))
    assert case.image == tmp_path / "a_pet.nii.gz"
    facts["model"]["channels"] = ["t1"]
    (out / "run.json").write_text(json.dumps(sealed(facts)))
    with pytest.raises(ManifestError, match="case x: the model needs channels t1"):
        finished_cases(out, read_manifest(manifest))


def test_a_mask_that_was_changed_is_not_exported(run_folder: Path) -> None:
    path = run_folder / "masks/a.nii.gz"
    path.write_bytes(path.read_bytes()[:-1])
    one, other = export_run(run_folder, ["binary"])
    assert one.reason is not None
    assert one.reason.code == "mask_changed"
    assert other.reason is None


def test_a_mask_that_was_only_scored_is_not_exported(run_folder: Path) -> None:
    record = run_folder / "cases/a.json"
    content = json.loads(record.read_text().replace('"masks/a.nii.gz"', '"a.nii.gz"'))
    record.write_text(json.dumps(sealed(content)))
    one, _ = export_run(run_folder, ["binary"])
    assert one.reason is not None
    assert one.reason.code == "mask_changed"


def test_unknown_formats_and_folders_are_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'obj' is not one of seg\.nrrd"):
        check_formats(["obj"])
    with pytest.raises(ValueError, match="only while a model runs"):
        check_formats(["probabilities"])
    assert check_formats(["stl", "probabilities", "stl"], running=True) == ("stl", "probabilities")
    with pytest.raises(ManifestError, match="name the folder of a run"):
        export_run(tmp_path, ["stl"])
    with pytest.raises(ManifestError, match="no finished case c"):
        export_run(run_folder, ["stl"], cases=["c"])


def test_the_command_reports_the_result_of_each_case(run_folder: Path) -> None:
    done = runner.invoke(app, ["export", str(run_folder), "--to", "stl,dicom-seg", "--cases", "a"])
    assert done.exit_code == 3
    assert "a  stl  done" in done.output
    assert "a  dicom-seg  failed  no_source: a DICOM SEG refers to its series" in done.output
    assert runner.invoke(app, ["export", str(run_folder), "--to", "x"]).exit_code == 2
    assert runner.invoke(app, ["export", "nowhere", "--to", "stl"]).exit_code == 4


def test_exports_of_an_earlier_run_are_removed_with_their_mask(
    tmp_path: Path,
) -> None:
    def files(case_id: str) -> list[str]:
        """What there is of a case beside the mask and its record."""
        found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        names = [str(path.relative_to(tmp_path / "out")) for path in found]
        return [name for name in names if case_id in name and name.startswith("exports")]

    manifest = write_manifest(tmp_path, [add_case(tmp_path, name) for name in ("p1", "q1")])
    everything = tuple(name for name in FORMATS if not name.startswith("dicom"))
    first = RunSettings(exports=(*everything, "probabilities"))
    out = tmp_path / "out"
    run_manifest(manifest, make_bundle(), out, models=[threshold_model], settings=first)
    # seg.nrrd, two of BIDS, binary, STL, GLB, probabilities; label tables are of all cases.
    assert len(files("p1")) == len(files("q1")) == 7
    kept = files("q1")
    alone = write_manifest(tmp_path, [{"case_id": "p1", "image": "p1.nii.gz", "label": ""}])
    other = RunSettings(plan=PlanWish(overlap=0.1), exports=("binary",))
    fresh = BatchSettings(fresh=True)
    run_manifest(alone, make_bundle(), out, models=[threshold_model], settings=other, batch=fresh)
    assert files("p1") == ["exports/binary/p1/1_ball.nii.gz"]
    (tmp_path / "p1.nii.gz").write_bytes(b"no scan")
    run_manifest(alone, make_bundle(), out, models=[threshold_model], settings=other)
    assert files("p1") == []
    assert files("q1") == kept


def test_label_tables_are_removed_when_masks_get_other_labels(tmp_path: Path) -> None:
    tables = [tmp_path / "out/masks" / name for name in TABLES]
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "p1")])

    def run(name: str, **choices) -> None:
        bundle = make_bundle(labels=(LABELS[0].model_copy(update={"name": name}),))
        settings = RunSettings(**choices)
        run_manifest(
            manifest,
            bundle,
            tmp_path / "out",
            models=[threshold_model],
            settings=settings,
            batch=BatchSettings(fresh=True),
        )

    run("ball", exports=("tables",))
    run("ball", plan=PlanWish(overlap=0.1))  # the case is done again, with the same labels
    assert all(path.is_file() for path in tables)
    run("lung")
    assert not any(path.exists() for path in tables)


def test_exports_of_a_run_name_every_model_of_an_ensemble(tmp_path: Path) -> None:
    one, other = make_bundle(name="one"), make_bundle(name="other", overlap=0.25)
    both = replace(one, others=(other,))
    plans = tuple(make_plan(member.spec) for member in both.members)
    job = Job(both, plans, RunSettings(exports=("bids",)), tmp_path / "out", CALLABLE)
    (case,) = read_manifest(write_manifest(tmp_path, [add_case(tmp_path, "p1")]))
    members = [Member(one.spec, (threshold_model,), plan) for plan in plans]
    run_case(case, job, Segmenter(tuple(members)), Journal(), InputWatch.of_case(case))
    (sidecar,) = (tmp_path / "out/exports/bids").rglob("*_dseg.json")
    assert "Segmentation by the model one,other of" in sidecar.read_text()
