"""The whole line with an exact model that costs nothing: from a manifest to masks and CSV."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from phantoms import ball, make_spec, threshold_model
from runs import add_case, run, write_manifest

import voxtile.run.case
from voxtile.errors import EnvironmentFault
from voxtile.inference.infer import infer
from voxtile.models.spec import Label, Network
from voxtile.phantoms.dicom import write_series
from voxtile.preparation.plan import PlanWish, make_plan
from voxtile.reading.nifti import read_nifti
from voxtile.reading.scan import ReadPolicy
from voxtile.report.tables import write_reports
from voxtile.run.job import RunSettings
from voxtile.run_folder.case_report import read_case_report
from voxtile.volume import Volume, canonical
from voxtile.writing.nifti import write_mask, write_volume

GRIDS = {
    "plain": {},
    "lps": {"axes": "LPS"},
    "pir": {"axes": "PIR", "shape": (12, 24, 20)},
    "oblique": {"tilt_degrees": 25},
    "oblique_ail": {"axes": "AIL", "tilt_degrees": -40, "shape": (15, 21, 30)},
    "thin": {"shape": (7, 33, 5), "spacing_mm": (4.0, 0.8, 5.0)},
    "one_slice": {"shape": (30, 30, 1)},
}


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_an_exact_model_gives_the_exact_mask_on_the_scans_own_grid(grid, view) -> None:
    image, truth = ball(**grid)
    spec = make_spec(networks=(Network(file="n.keras", sha256="0" * 64, views=(view,)),))
    mask = infer(image, spec, [threshold_model], make_plan(spec, PlanWish(overlap=0.3)))
    np.testing.assert_array_equal(mask.array, truth.array)
    np.testing.assert_array_equal(mask.affine, image.affine)


def test_a_ball_keeps_its_place_with_several_views_context_and_resampling() -> None:
    image, truth = ball(shape=(40, 36, 30), spacing_mm=(1.0, 1.0, 1.3), axes="PLI")
    networks = tuple(
        Network(file=f"{view}.keras", sha256="0" * 64, views=(view,))
        for view in ("axial", "coronal", "sagittal")
    )
    spec = make_spec(networks=networks, context_slices=3, spacing_mm=(0.7, 0.7, 0.7))
    mask = infer(image, spec, [threshold_model] * 3, make_plan(spec))
    inside, expected = mask.array > 0, truth.array > 0
    dice = 2 * (inside & expected).sum() / (inside.sum() + expected.sum())
    assert dice > 0.97  # the edge is interpolated, the ball stays in its place


def test_resampling_in_plane_keeps_the_middle_of_mass() -> None:
    image, truth = ball(shape=(60, 50, 9), spacing_mm=(0.6, 0.9, 3.0), tilt_degrees=20)
    spec = make_spec(spacing_mm=(1.0, 1.0, 1.0))
    mask = infer(image, spec, [threshold_model], make_plan(spec))
    centres = [
        (v.affine @ np.append(np.argwhere(v.array > 0).mean(axis=0), 1))[:3] for v in (mask, truth)
    ]
    assert np.linalg.norm(centres[0] - centres[1]) < 0.1


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_the_number_of_tiles_at_once_changes_nothing(batch) -> None:
    image, _ = ball(shape=(40, 40, 7))
    spec = make_spec(context_slices=3)

    def model(tiles: np.ndarray) -> np.ndarray:
        odds = np.clip(tiles.mean(axis=-1) / 100 + tiles[..., 0] / 300, 0, 1)
        return np.stack([1 - odds, odds], axis=-1)

    one = infer(image, spec, [model], make_plan(spec, PlanWish(batch=3)))
    other = infer(image, spec, [model], make_plan(spec, PlanWish(batch=batch)))
    np.testing.assert_array_equal(one.array, other.array)


def test_overlapping_regions_are_written_in_order_and_scored_as_unions(tmp_path: Path) -> None:
    labels = (
        Label(value=2, name="whole", color="#00ff00", region=(1, 2)),
        Label(value=1, name="core", color="#ff0000"),
    )

    def model(tiles: np.ndarray) -> np.ndarray:
        return np.stack([tiles[..., 0] > 20, tiles[..., 0] > 60], axis=-1).astype(np.float32)

    image = np.zeros((20, 20, 4), np.int16)
    image[2:18, 2:18] = 40
    image[8:12, 8:12] = 100
    truth = np.zeros(image.shape, np.uint8)
    truth[image >= 40] = 2
    truth[image >= 100] = 1
    write_volume(tmp_path / "a.nii.gz", Volume(image, np.eye(4)))
    write_mask(tmp_path / "l.nii.gz", Volume(truth, np.eye(4)))
    manifest = write_manifest(
        tmp_path, [{"case_id": "a", "image": "a.nii.gz", "label": "l.nii.gz"}]
    )
    result = run(manifest, tmp_path / "out", model, labels=labels, activation="sigmoid")
    whole, core = result.reports[0].labels
    assert (whole.dice, core.dice) == (1, 1)
    assert whole.voxels_ref == 16 * 16 * 4
    mask = read_nifti(tmp_path / "out/masks/a.nii.gz").volume.array
    np.testing.assert_array_equal(mask, truth)


def test_a_batch_with_good_bad_and_unlabelled_cases(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, name, **grid) for name, grid in GRIDS.items()]
    rows.append(add_case(tmp_path, "unlabelled", label=False))
    bad = add_case(tmp_path, "corrupt")
    content = bytearray((tmp_path / bad["image"]).read_bytes())
    content[-6] ^= 1
    (tmp_path / bad["image"]).write_bytes(content)
    rows.append(bad)
    for row in rows:
        row["site"] = "=cmd()"
    result = run(write_manifest(tmp_path, rows), tmp_path / "out")

    assert [report.case_id for report in result.failed] == ["corrupt"]
    assert not (tmp_path / "out/masks/corrupt.nii.gz").exists()
    table = pd.read_csv(tmp_path / "out/report.csv").set_index("case_id")
    assert list(table.reset_index().columns[:16]) == [
        "case_id",
        "label",
        "label_name",
        "status",
        "dice",
        "iou",
        "tp",
        "fp",
        "fn",
        "voxels_pred",
        "voxels_ref",
        "volume_ml_pred",
        "volume_ml_ref",
        "seconds",
        "reason",
        "warnings",
    ]
    assert list(table.columns)[-1] == "site"
    assert set(table["site"]) == {"'=cmd()"}
    assert (table.loc[list(GRIDS), "dice"] == 1).all()
    assert (table.loc[list(GRIDS), "status"] == "ok").all()
    assert table.loc["unlabelled", "status"] == "no_reference"
    assert np.isnan(table.loc["unlabelled", "dice"])
    assert table.loc["unlabelled", "volume_ml_pred"] == pytest.approx(
        4 / 3 * np.pi * 0.9**3, rel=0.1
    )
    assert table.loc["corrupt", "status"] == "failed"
    assert "corrupt" in table.loc["corrupt", "reason"]

    summary = pd.read_csv(tmp_path / "out/summary.csv").set_index("metric").loc["dice"]
    assert (summary["n"], summary["n_used"], summary["n_failed"]) == (9, 7, 1)
    assert summary["mean"] == 1
    case = json.loads((tmp_path / "out/cases/oblique.json").read_text())
    assert case["geometry"]["check"]["voxels_equal"] is True
    assert case["status"] == "done"
    assert len(case["fingerprint"]) == 64
    assert case["peak_memory_mb"] > 0
    assert {"read", "infer", "write", "verify", "score"} <= set(case["timings_s"])
    facts = json.loads((tmp_path / "out/run.json").read_text())
    assert (facts["done"], facts["failed"]) == (8, 1)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_simpleitk_places_the_mask_on_the_image(tmp_path: Path, grid) -> None:
    run(write_manifest(tmp_path, [add_case(tmp_path, "a", **grid)]), tmp_path / "out")
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    mask = sitk.ReadImage(str(tmp_path / "out/masks/a.nii.gz"))
    assert mask.GetSize() == image.GetSize()
    for index in [(0, 0, 0), tuple(size - 1 for size in image.GetSize())]:
        np.testing.assert_allclose(
            mask.TransformIndexToPhysicalPoint(index),
            image.TransformIndexToPhysicalPoint(index),
            atol=1e-3,
        )
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(mask) > 0, sitk.GetArrayFromImage(image) > 50
    )


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (0, 1), (1, 0), (0, 0), (4, 4)])
def test_the_mask_keeps_the_orientation_codes_of_its_source(tmp_path: Path, codes) -> None:
    image, _ = ball()
    header = nibabel.Nifti1Header()
    source = nibabel.Nifti1Image(image.array, None, header)
    source.set_sform(image.affine if codes[0] else None, codes[0])
    source.set_qform(image.affine if codes[1] else None, codes[1])
    nibabel.save(source, tmp_path / "a.nii.gz")
    manifest = write_manifest(tmp_path, [{"case_id": "a", "image": "a.nii.gz"}])
    run(manifest, tmp_path / "out")
    written = nibabel.load(tmp_path / "out/masks/a.nii.gz")
    got = int(written.header["sform_code"]), int(written.header["qform_code"])
    assert got == tuple(code or max(codes) for code in codes)
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)
    assert written.header.get_intent()[0] == "label"
    assert written.header.get_xyzt_units()[0] == "mm"


def test_the_mask_of_a_dicom_series_overlays_its_slices(tmp_path: Path) -> None:
    pytest.importorskip("voxtile.reading.dicom")
    image, truth = ball(axes="LPS", tilt_degrees=15)
    write_series(tmp_path / "series", image)
    write_mask(tmp_path / "truth.nii.gz", truth)
    row = {"case_id": "a", "image": "series", "label": "truth.nii.gz"}
    result = run(write_manifest(tmp_path, [row]), tmp_path / "out")
    assert result.reports[0].reason is None
    assert result.reports[0].labels[0].dice == 1
    names = [str(tmp_path / "series" / f"slice{n:04d}.dcm") for n in range(1, 13)]
    series = sitk.ReadImage(names)
    mask = sitk.ReadImage(str(tmp_path / "out/masks/a.nii.gz"))
    on_series = sitk.Resample(mask, series, sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(on_series) > 0, sitk.GetArrayFromImage(series) > 50
    )


def test_rows_do_not_depend_on_order_or_on_other_cases(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, name, **grid) for name, grid in list(GRIDS.items())[:4]]
    rows[0]["label"] = "lps_label.nii.gz"  # stored otherwise, on one grid: reoriented
    rows[1]["label"] = "oblique_label.nii.gz"  # on another grid: fails

    def table(name: str, chosen) -> dict[str, dict[str, object]]:
        run(write_manifest(tmp_path, chosen), tmp_path / name)
        frame = pd.read_csv(tmp_path / name / "report.csv", dtype=str, keep_default_na=False)
        # A rank is among the others of a run, by its nature.
        return frame.drop(columns=["seconds", "qc_rank"]).set_index("case_id").to_dict("index")

    whole = table("whole", rows)
    assert table("reversed", rows[::-1]) == whole
    for row in rows:
        assert table(f"only_{row['case_id']}", [row]) == {row["case_id"]: whole[row["case_id"]]}
    one, other = (pd.read_csv(tmp_path / n / "summary.csv") for n in ("whole", "reversed"))
    pd.testing.assert_frame_equal(one, other)


def test_reports_are_made_again_from_the_cases(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, "a"), add_case(tmp_path, "b", label=False)]
    out = tmp_path / "out"
    result = run(write_manifest(tmp_path, rows), out)
    before = (out / "report.csv").read_bytes(), (out / "summary.csv").read_bytes()
    again = [read_case_report(out / f"cases/{name}.json") for name in ("a", "b")]
    assert again[0] == result.reports[0]
    write_reports(out, again)
    assert before == ((out / "report.csv").read_bytes(), (out / "summary.csv").read_bytes())


def test_an_empty_prediction_and_an_empty_reference_have_different_statuses(tmp_path: Path) -> None:
    image, truth = ball()
    empty = Volume(np.zeros_like(image.array), image.affine)
    write_volume(tmp_path / "full.nii.gz", image)
    write_volume(tmp_path / "flat.nii.gz", empty)
    write_mask(tmp_path / "truth.nii.gz", truth)
    write_mask(tmp_path / "none.nii.gz", Volume(np.zeros_like(truth.array), truth.affine))
    rows = [
        {"case_id": f"{image}_{label}", "image": f"{image}.nii.gz", "label": f"{label}.nii.gz"}
        for image in ("full", "flat")
        for label in ("truth", "none")
    ]
    run(write_manifest(tmp_path, rows), tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/report.csv").set_index("case_id")
    assert table["status"].to_dict() == {
        "full_truth": "ok",
        "full_none": "ref_empty",
        "flat_truth": "pred_empty",
        "flat_none": "both_empty",
    }
    assert (
        table.loc[["full_none", "flat_truth"], ["dice", "iou"]].to_numpy().tolist() == [[0, 0]] * 2
    )
    assert np.isnan(table.loc["flat_none", "dice"])
    summary = pd.read_csv(tmp_path / "out/summary.csv").set_index("metric").loc["dice"]
    assert (summary["n_used"], summary["worst_case"]) == (3, "flat_truth")


def failure(tmp_path: Path, rows, settings=None, model=threshold_model, **spec) -> str:
    result = run(write_manifest(tmp_path, rows), tmp_path / "out", model, settings, **spec)
    assert result.reports[0].reason is not None
    assert not list((tmp_path / "out").glob("masks/*"))
    return str(result.reports[0].reason)


def test_nan_is_refused_unless_filled(tmp_path: Path) -> None:
    image, _ = ball()
    array = image.array.astype(np.float32) - 7
    array[0, 0, 0], array[1, 1, 1] = np.nan, np.inf
    write_volume(tmp_path / "a.nii", image.with_array(array))
    rows = [{"case_id": "a", "image": "a.nii"}]
    assert "not_finite: 2 NaN or infinite voxels" in failure(tmp_path, rows)
    settings = RunSettings(policy=ReadPolicy(nan="fill"))
    result = run(write_manifest(tmp_path, rows), tmp_path / "filled", settings=settings)
    assert [notice.code for notice in result.reports[0].warnings] == ["nan_filled"]
    assert "minimum, -7" in result.reports[0].warnings[0].sentence


def test_a_constant_channel_is_a_warning_in_the_record(tmp_path: Path) -> None:
    image, _ = ball()
    for name, array in (("t1", image.array), ("t2", np.full(image.shape, 1e-9, np.float32))):
        write_volume(tmp_path / f"{name}.nii", image.with_array(array))
    rows = [{"case_id": "a", "image_t1": "t1.nii", "image_t2": "t2.nii"}]
    manifest = write_manifest(tmp_path, rows)
    (report,) = run(manifest, tmp_path / "out", channels=("t1", "t2")).reports
    (warning,) = report.warnings
    assert str(warning).startswith("constant: every voxel of channel t2 is 1e-09")


def test_a_model_that_gives_nan_fails_the_case(tmp_path: Path) -> None:
    def model(tiles: np.ndarray) -> np.ndarray:
        return np.full((*tiles.shape[:3], 2), np.nan, np.float32)

    assert "not_finite_output" in failure(tmp_path, [add_case(tmp_path, "a")], model=model)


def test_an_unexpected_error_fails_its_case_with_type_and_place_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decide(*_: object, **__: object) -> None:
        raise KeyError("Doe^John")

    monkeypatch.setattr("voxtile.inference.infer.decide", decide)
    reason = failure(tmp_path, [add_case(tmp_path, "a")])
    assert "unexpected: KeyError in stage infer (" in reason
    assert "Doe" not in reason


def test_what_a_function_of_the_user_raises_is_not_called_a_bug_of_voxtile(tmp_path: Path) -> None:
    def model(tiles: np.ndarray) -> np.ndarray:
        raise RuntimeError("layer 3 has no weights")

    reason = failure(tmp_path, [add_case(tmp_path, "a")], model=model)
    assert "network_failed: the network raised RuntimeError: layer 3 has no weights" in reason
    assert "bug in voxtile" not in reason


def test_channels_must_exist_and_share_a_grid(tmp_path: Path) -> None:
    add_case(tmp_path, "a")
    add_case(tmp_path, "b", axes="LPS")
    spec = {"channels": ("t1", "t2")}
    rows = [{"case_id": "x", "image": "a.nii.gz"}]
    assert "add column image_t1, image_t2" in failure(tmp_path, rows, **spec)
    rows = [{"case_id": "x", "image_t1": "a.nii.gz"}]
    assert "missing_channel" in failure(tmp_path, rows, channels=("flair",))
    rows = [{"case_id": "x", "image_t1": "a.nii.gz", "image_t2": "b.nii.gz"}]
    assert "channel_grid: channel t2" in failure(tmp_path, rows, **spec)
    rows = [{"case_id": "x", "image_t2": "a.nii.gz", "image_t1": "a.nii.gz"}]
    result = run(write_manifest(tmp_path, rows), tmp_path / "ok", **spec)
    assert result.reports[0].status == "done"


def test_a_row_chooses_its_volume_of_a_4d_scan(tmp_path: Path) -> None:
    image, truth = ball()
    both = np.stack([np.zeros_like(image.array), image.array], axis=-1)
    nibabel.save(nibabel.Nifti1Image(both, image.affine), tmp_path / "a.nii.gz")
    write_mask(tmp_path / "l.nii.gz", truth)
    row = {"case_id": "a", "image": "a.nii.gz", "label": "l.nii.gz"}
    assert "several_volumes" in failure(tmp_path, [row])
    result = run(write_manifest(tmp_path, [{**row, "volume": "1"}]), tmp_path / "picked")
    assert result.reports[0].labels[0].dice == 1
    result = run(write_manifest(tmp_path, [{**row, "volume": "0"}]), tmp_path / "other")
    assert result.reports[0].labels[0].status == "pred_empty"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_stops_the_run(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, "a")]
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        run(write_manifest(tmp_path, rows), out)


def test_a_folder_that_cannot_be_created_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    rows = [add_case(tmp_path, "a")]
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        run(write_manifest(tmp_path, rows), tmp_path / "file" / "out")


def test_canonical_input_reaches_the_model_in_ras_order() -> None:
    image, _ = ball(axes="PIL", shape=(10, 12, 14))
    seen = []

    def model(tiles: np.ndarray) -> np.ndarray:
        seen.append(tiles.copy())
        return threshold_model(tiles)

    spec = make_spec(tile=(16, 16))
    infer(image, spec, [model], make_plan(spec, PlanWish(batch=12)))
    ras = canonical(image)
    assert ras.shape == (14, 10, 12)
    np.testing.assert_array_equal(seen[0][3, 1:15, 3:13, 0], ras.array[:, :, 3])


def test_a_regridded_scan_gets_an_image_on_the_grid_of_its_mask(tmp_path: Path) -> None:
    image, truth = ball(axes="LPS")
    write_series(tmp_path / "series", image)
    (tmp_path / "series" / "slice0005.dcm").unlink()
    settings = RunSettings(policy=ReadPolicy(missing_slices="interpolate"))
    manifest = write_manifest(tmp_path, [{"case_id": "a", "image": "series"}])
    run(manifest, tmp_path / "out", settings=settings)
    mask = read_nifti(tmp_path / "out/masks/a.nii.gz").volume
    written = read_nifti(tmp_path / "out/images/a.nii.gz").volume
    assert mask.shape == written.shape == image.shape
    np.testing.assert_allclose(mask.affine, written.affine)
    np.testing.assert_array_equal(mask.array, (written.array > 50).astype(np.uint8))
    assert (mask.array != truth.array).sum() < 60  # only the slice that was made up differs


@pytest.mark.parametrize("changed", ["a.nii.gz", "a_label.nii.gz"])
def test_a_scan_or_label_that_is_swapped_while_it_is_read_gives_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    manifest, out = write_manifest(tmp_path, [add_case(tmp_path, "a")]), tmp_path / "out"
    path, read = tmp_path / changed, voxtile.run.case.read_reference

    def read_while_swapped(*inputs):
        path.rename(tmp_path / "kept")
        path.write_bytes((tmp_path / "kept").read_bytes())
        found = read(*inputs)
        (tmp_path / "kept").rename(path)
        return found

    monkeypatch.setattr(voxtile.run.case, "read_reference", read_while_swapped)
    (report,) = run(manifest, out).reports
    assert report.reason is not None
    assert (report.reason.code, report.fingerprint) == ("input_changed", "")
    assert not list(out.glob("masks/*"))
    monkeypatch.undo()
    assert run(manifest, out).failed == ()
