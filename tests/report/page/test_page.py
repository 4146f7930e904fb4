"""What the page is made of: pictures, sections, the order of cases, side files."""

import json
import re
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from commands import invoke
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import BALL, LABELS, ball, make_bundle, threshold_model
from runs import add_case, write_manifest

from voxtile.batch.drive import run_manifest
from voxtile.case import Case
from voxtile.engines import Engine
from voxtile.errors import CaseError, ManifestError
from voxtile.models.spec import Label
from voxtile.phantoms.ellipsoids import centred_affine, draw
from voxtile.reading.scan import ReadPolicy
from voxtile.report.page import parse_cases, write_page
from voxtile.report.page.cohort import cohort_data, worst_first
from voxtile.report.page.page import json_text
from voxtile.report.page.pictures import make_picture, read_picture
from voxtile.report.page.sections import make_sections
from voxtile.report.tables import report_table, write_reports
from voxtile.run.evaluation import evaluate
from voxtile.run_folder.case_report import read_case_reports
from voxtile.volume import Volume, canonical
from voxtile.writing.nifti import write_mask, write_volume


def centre_mm(volume: Volume, chosen: np.ndarray) -> np.ndarray:
    return (volume.affine @ np.append(np.argwhere(chosen).mean(axis=0), 1))[:3]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run of three cases, the last one worst, beside its manifest."""
    rows = [add_case(tmp_path, f"c{number}") for number in range(3)]
    _, truth = ball()
    astray = truth.with_array(np.roll(truth.array, 4, axis=0))
    write_mask(tmp_path / "c2_label.nii.gz", astray)
    manifest = write_manifest(tmp_path, rows)
    run_manifest(manifest, make_bundle(), tmp_path / "out", models=[threshold_model])
    return tmp_path


def write(folder: Path, **choices):
    return write_page(folder / "out", read_case_reports(folder / "out"), **choices)


@given(
    st.tuples(st.integers(5, 30), st.integers(5, 30), st.integers(1, 20)),
    st.sampled_from(["RAS", "LPS", "PIR"]),
    st.integers(40, 4000),
)
def test_a_thinned_picture_keeps_its_place_and_its_labels(shape, axes, most) -> None:
    affine = centred_affine(shape, (1.0, 1.5, 2.0), axes=axes, tilt_degrees=10)
    image, truth = map(canonical, draw(shape, affine, [BALL]))
    picture = make_picture(image, truth, None, most_voxels=most)
    assert picture.image.array.size <= most
    assert picture.image.shape == picture.prediction.shape
    assert set(np.unique(picture.prediction.array)) <= {0, 1}
    np.testing.assert_array_equal(picture.image.affine, picture.prediction.affine)
    # Cut edges aside, the middle of the grid stays where it was.
    moved = centre_mm(image, np.ones(image.shape)) - centre_mm(
        picture.image, np.ones(picture.image.shape)
    )
    assert np.linalg.norm(moved) <= np.linalg.norm(np.multiply(picture.image.spacing_mm, 1.0))


def test_a_large_scan_is_cropped_to_its_masks_in_place() -> None:
    affine = centred_affine((150, 140, 60), (1.0, 1.0, 2.0))
    image, truth = draw((150, 140, 60), affine, [BALL])
    picture = make_picture(image, truth, None, most_voxels=400_000)
    assert picture.notes == ("cropped to 25 mm around the masks",)
    assert picture.prediction.array.sum() == truth.array.sum()
    np.testing.assert_allclose(
        centre_mm(picture.prediction, picture.prediction.array > 0),
        centre_mm(truth, truth.array > 0),
        atol=1e-9,
    )


def test_intensities_are_windowed_where_the_masks_are() -> None:
    image, truth = ball()
    bright = np.array(image.array, np.float32)
    bright[0, 0, 0] = 1e6  # one bright voxel must not make the rest black
    picture = make_picture(image.with_array(bright), truth, None)
    assert picture.window == (0, 100)
    assert set(np.unique(picture.image.array)) == {0, 255}


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "AIL"])
def test_masks_become_positions_on_the_grid_of_the_scan(tmp_path: Path, axes: str) -> None:
    image, truth = ball(axes=axes)
    write_volume(tmp_path / "i.nii.gz", image)
    write_mask(tmp_path / "m.nii.gz", canonical(truth.with_array(truth.array * np.uint8(7))))
    write_mask(tmp_path / "l.nii.gz", truth.with_array(truth.array * np.uint8(9)))
    labels = (Label(value=3, name="a", color="#000000"), Label(value=7, name="b", color="#ffffff"))
    case = Case("c", (("image", tmp_path / "i.nii.gz"),), label=tmp_path / "l.nii.gz")
    picture = read_picture(case, tmp_path / "m.nii.gz", labels, label_map={9: 7})
    expected = canonical(truth).array * 2
    np.testing.assert_array_equal(picture.prediction.array, expected)
    assert picture.reference is not None
    np.testing.assert_array_equal(picture.reference.array, expected)
    assert picture.image.orientation == "RAS"


def test_a_reference_that_cannot_be_shown_is_said(tmp_path: Path) -> None:
    image, truth = ball()
    write_volume(tmp_path / "i.nii.gz", image)
    write_mask(tmp_path / "m.nii.gz", truth)
    write_mask(tmp_path / "l.nii.gz", ball(shape=(9, 9, 9))[1])
    case = Case("c", (("image", tmp_path / "i.nii.gz"),), label=tmp_path / "l.nii.gz")
    picture = read_picture(case, tmp_path / "m.nii.gz", LABELS)
    assert picture.reference is None
    assert "resample the reference" in picture.notes[0]
    with pytest.raises(CaseError, match=r"there is no mask x\.nii\.gz"):
        read_picture(case, tmp_path / "x.nii.gz", LABELS)


def test_a_picture_is_of_the_volume_that_the_row_of_the_case_names(tmp_path: Path) -> None:
    image, truth = ball()
    both = np.stack([np.zeros_like(image.array), image.array], axis=-1)
    nibabel.Nifti1Image(both, image.affine).to_filename(tmp_path / "i.nii.gz")
    write_mask(tmp_path / "m.nii.gz", truth)
    case = Case("c", (("image", tmp_path / "i.nii.gz"),), volume=1)
    for policy in (None, ReadPolicy(volume=0)):
        picture = read_picture(case, tmp_path / "m.nii.gz", LABELS, policy=policy)
        np.testing.assert_array_equal(picture.image.array > 0, canonical(image).array > 0)


def test_a_picture_is_of_the_models_first_channel(tmp_path: Path) -> None:
    image, truth = ball()
    write_volume(tmp_path / "pet.nii.gz", image.with_array(np.zeros_like(image.array)))
    write_volume(tmp_path / "ct.nii.gz", image)
    write_mask(tmp_path / "m.nii.gz", truth)
    case = Case("c", (("pet", tmp_path / "pet.nii.gz"), ("ct", tmp_path / "ct.nii.gz")))
    picture = read_picture(case, tmp_path / "m.nii.gz", LABELS, channels=("ct",))
    np.testing.assert_array_equal(picture.image.array > 0, canonical(image).array > 0)
    assert picture.notes[0] == "channel ct of 2"
    assert read_picture(case, tmp_path / "m.nii.gz", LABELS).notes[0] == "channel pet of 2"


def test_the_page_of_a_run_shows_what_its_model_saw(tmp_path: Path) -> None:
    image = ball()[0]
    write_volume(tmp_path / "pet.nii.gz", image.with_array(np.zeros_like(image.array)))
    write_volume(tmp_path / "ct.nii.gz", image)
    manifest = tmp_path / "cases.csv"
    manifest.write_text("case_id,image_pet,image_ct\nc,pet.nii.gz,ct.nii.gz\n")
    bundle = make_bundle(channels=("ct",))
    run_manifest(manifest, bundle, tmp_path / "out", models=[threshold_model])
    assert write(tmp_path, manifest=manifest).pictured == ("c",)
    volumes = (tmp_path / "out/report_files/volumes/c.js").read_text()
    assert "channel ct of 2" in volumes


def test_a_section_shows_the_outline_in_mm_with_the_right_on_the_left() -> None:
    shape, spacing_mm = (20, 30, 10), (2.0, 1.0, 3.0)
    array = np.zeros(shape, np.uint8)
    array[15:19, 4:9, 5] = 1  # to the patient's right, posterior
    image = Volume(array * np.uint8(200), centred_affine(shape, spacing_mm))
    axial, coronal, sagittal = make_sections(make_picture(image, image.with_array(array), None))
    assert (axial["view"], axial["slice"], axial["of"]) == ("axial", 6, 10)
    assert (axial["width_mm"], axial["height_mm"]) == (40, 30)
    ((position, path),) = axial["prediction"]
    numbers = np.array(re.findall(r"[\d.]+", path), float).reshape(-1, 2)
    assert position == 1
    # Columns run from right (index 19) to left, rows from anterior (29) to posterior.
    np.testing.assert_allclose(numbers.min(axis=0), [2, 21])
    np.testing.assert_allclose(numbers.max(axis=0), [10, 26])
    assert axial["reference"] is None
    assert (coronal["left"], sagittal["left"]) == ("R", "A")


def test_sections_are_taken_where_the_masks_differ_most() -> None:
    _, truth = ball()
    other = np.array(truth.array)
    other[:, :, 9:] = 0
    sections = make_sections(make_picture(truth, truth, truth.with_array(other)))
    assert sections[0]["slice"] > 9
    assert sections[0]["why"] == "prediction and reference differ most"
    empty = truth.with_array(np.zeros_like(truth.array))
    assert make_sections(make_picture(truth, empty, None))[0]["slice"] == 7


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (
            Engine("openvino", "bfloat16", versions=(("openvino", "1.2"),)),
            "openvino 1.2 bfloat16 on cpu",
        ),
        (
            Engine("onnx", device="gpu:1", versions=(("onnxruntime", "3"),)),
            "onnx 3 float32 on gpu:1",
        ),
        (None, ""),
    ],
)
def test_the_page_says_what_ran_the_networks(tmp_path: Path, engine: Engine | None, words) -> None:
    facts = {} if engine is None else {"engine": engine.facts()}
    assert cohort_data(tmp_path, [], (), facts)["run"]["engine"] == words


def test_failed_cases_come_first_then_the_lowest_dice(run_folder: Path) -> None:
    reports = list(read_case_reports(run_folder / "out"))
    failed = replace(reports[0], case_id="x", status="failed", labels=())
    assert [one.case_id for one in worst_first(reports, report_table(reports))] == [
        "c2",
        "c0",
        "c1",
    ]
    assert worst_first([*reports, failed], report_table(reports))[0] is failed


def test_ids_and_groups_of_the_summary_stay_words_though_they_look_like_numbers(
    tmp_path: Path, run_folder: Path
) -> None:
    done = read_case_reports(run_folder / "out")
    reports = [replace(done[0], case_id="007", extras={"site": "1e5"})]
    write_reports(tmp_path / "new", reports, by=["site"])
    summary = cohort_data(tmp_path / "new", reports, LABELS, {})["summary"]
    rows = [dict(zip(summary["header"], row, strict=True)) for row in summary["rows"]]
    dice = [row for row in rows if row["metric"] == "dice"]
    assert [(row["worst_case"], row["by_value"]) for row in dice] == [("007", None), ("007", "1e5")]
    assert [row["n"] for row in dice] == [1, 1]


def test_pictures_are_made_kept_replaced_and_removed(run_folder: Path) -> None:
    manifest = run_folder / "cases.csv"
    assert write(run_folder).pictured == ()
    assert write(run_folder, manifest=manifest, cases="worst:2").pictured == ("c2", "c0")
    volumes = run_folder / "out/report_files/volumes"
    made = (volumes / "c2.js").stat().st_mtime_ns
    assert write(run_folder, manifest=manifest, cases="all").pictured == ("c2", "c0", "c1")
    assert (volumes / "c2.js").stat().st_mtime_ns == made
    (run_folder / "c0.nii.gz").unlink()
    assert len(write(run_folder).pictured) == 3
    case = run_folder / "out/cases/c2.json"
    case.write_text(case.read_text().replace('"fingerprint": "', '"fingerprint": "other'))
    assert write(run_folder).pictured == ("c0", "c1")
    assert not (volumes / "c2.js").exists()
    assert write(run_folder, cases="none").pictured == ()
    assert not (run_folder / "out/report_files").exists()


def test_a_case_that_cannot_be_shown_is_named_and_the_others_go_on(run_folder: Path) -> None:
    (run_folder / "c2.nii.gz").write_bytes(b"nonsense")
    facts = write(run_folder, manifest=run_folder / "cases.csv")
    assert facts.pictured == ("c0", "c1")
    assert [case_id for case_id, _ in facts.problems] == ["c2"]


def test_the_page_uses_the_pictures_that_the_run_drew(run_folder: Path) -> None:
    write(run_folder, manifest=run_folder / "cases.csv", cases="worst:1")
    text = (run_folder / "out/report.html").read_text()
    data = re.search(r'id="report-data">(.*?)</script>', text)
    assert data is not None
    cases = json.loads(data[1])["cases"]
    assert [(case["id"], case["pictures"]) for case in cases][:2] == [("c2", True), ("c0", False)]
    assert all(case["montage"] == f"qc/{case['id']}.png" for case in cases)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"run\.json cannot be read"):
        write_page(tmp_path, [])


@pytest.mark.parametrize(("text", "count"), [("all", None), ("none", 0), ("worst:7", 7)])
def test_words_that_choose_cases(text, count) -> None:
    assert parse_cases(text) == count


@pytest.mark.parametrize("text", ["worst", "worst:", "worst:-1", "best:3", "worst:1e3", ""])
def test_other_words_are_refused(text) -> None:
    with pytest.raises(ValueError, match="must be worst:N, such as worst:20, or all, or none"):
        parse_cases(text)


@settings(max_examples=30)
@given(st.recursive(st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_json_in_the_page_is_the_same_and_ends_no_element(value) -> None:
    text = json_text({"value": value})
    assert json.loads(text) == {"value": value}
    assert "<" not in text


def test_evaluate_writes_the_page_from_where_the_masks_are(cohort: Path) -> None:
    (cohort / "masks").mkdir()
    (cohort / "masks/a.nii.gz").write_bytes((cohort / "l.nii.gz").read_bytes())
    words = ("--predictions", cohort / "masks", "--out", cohort / "out")
    code, said = invoke("evaluate", cohort / "good.csv", *words)
    assert (code, "1 cases with pictures" in said) == (0, True)


def test_pictures_of_an_evaluation_are_of_the_masks_and_scans_that_are_there(
    run_folder: Path,
) -> None:
    manifest, masks, out = run_folder / "cases.csv", run_folder / "out/masks", run_folder / "scored"

    def pictured(given: bool = True, cases: str = "all") -> list[str]:
        reports = read_case_reports(out)
        told = {"manifest": manifest, "predictions": masks} if given else {}
        return sorted(write_page(out, reports, cases=cases, **told).pictured)

    evaluate(manifest, masks, out)
    assert pictured() == ["c0", "c1", "c2"]
    made = {path: path.read_bytes() for path in (out / "report_files/volumes").iterdir()}
    times = {path: path.stat().st_mtime_ns for path in made}
    assert pictured() == ["c0", "c1", "c2"]
    assert {path: path.stat().st_mtime_ns for path in made} == times

    # Another prediction of a case, scored: its picture goes, though nobody asks for a new one.
    _, truth = ball()
    write_mask(masks / "c1.nii.gz", truth.with_array(np.roll(truth.array, 2, axis=0)))
    evaluate(manifest, masks, out)
    assert pictured(given=False) == ["c0", "c2"]
    assert pictured() == ["c0", "c1", "c2"]
    # Another reference.
    write_mask(run_folder / "c1_label.nii.gz", truth.with_array(np.roll(truth.array, 3, axis=0)))
    evaluate(manifest, masks, out)
    assert pictured(given=False) == ["c0", "c2"]
    # Another scan, which only a manifest can tell.
    image, _ = ball()
    write_volume(run_folder / "c0.nii.gz", image.with_array(image.array[::-1]))
    assert pictured(given=False) == ["c0", "c2"]
    assert pictured(cases="worst:1") == ["c2"]
    # A mask that was changed after it was scored is not shown as the one that was.
    write_mask(masks / "c0.nii.gz", truth.with_array(np.roll(truth.array, 1, axis=0)))
    facts = write_page(
        out, read_case_reports(out), manifest=manifest, predictions=masks, cases="all"
    )
    assert dict(facts.problems).keys() == {"c0"}
    assert "c0.nii.gz is not the mask that was scored" in dict(facts.problems)["c0"]


def test_commands_write_the_page(cohort: Path) -> None:
    out = cohort / "out"
    words = ("run", cohort / "good.csv", cohort / "model", "--out", out)
    assert invoke(*words, "--no-html")[0] == 0
    assert not (out / "report.html").exists()
    code, said = invoke(*words)
    assert code == 0
    assert "1 cases with pictures: patient data" in said
    assert (out / "report_files/volumes/a.js").exists()
    code, said = invoke("report", out, "--cases", "none")
    assert (code, (out / "report_files").exists()) == (0, False)
    code, said = invoke("report", out, "--manifest", cohort / "good.csv", "--single-file")
    assert code == 0
    assert (out / "report.html").stat().st_size > 3e6
    assert not (out / "report_files").exists()
    assert invoke("report", out, "--cases", "best")[0] == 2
