"""A manifest of pictures from end to end: checked, segmented, scored, exported, shown."""

from pathlib import Path

import numpy as np
import pytest
from commands import invoke
from phantoms import make_bundle
from pictures import saved
from PIL import Image
from runs import run, write_manifest

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.export import export_run
from voxtile.manifest.check import CheckSettings, check_manifest
from voxtile.manifest.rows import read_manifest
from voxtile.models.spec import Label
from voxtile.reading.nifti import read_nifti
from voxtile.report.page.pictures import read_picture
from voxtile.run.convert import convert
from voxtile.run.evaluation import evaluate
from voxtile.training.data.stored_cases import channel_names, describe_cases

COLOURS = ("red", "green", "blue")
LABELS = (Label(value=255, name="disc", color="#e6194b"),)


def redness(tiles: np.ndarray) -> np.ndarray:
    """Label where red is above 100 and green is below."""
    inside = (tiles[..., 0] > 100) & (tiles[..., 1] < 100)
    return np.stack([~inside, inside], axis=-1).astype(np.float32)


def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of 20 rows and 30 columns with a red disc, and its mask."""
    rows, columns = np.mgrid[:20, :30]
    truth = (rows - 8) ** 2 + (columns - 10 - number) ** 2 < 30
    picture = np.random.default_rng(number).integers(0, 99, (20, 30, 3), np.uint8)
    picture[truth, 0] = 200
    return picture, truth * np.uint8(255)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """The manifest of two pictures with masks."""
    rows = []
    for number, pixel_mm in enumerate(("0.5", "0.25x0.5"), start=1):
        picture, truth = drawn(number)
        saved(tmp_path / f"c{number}.png", picture)
        saved(tmp_path / f"c{number}_mask.png", truth)
        row = {"case_id": f"c{number}", "image": f"c{number}.png", "label": f"c{number}_mask.png"}
        rows.append({**row, "pixel_mm": pixel_mm, "split": "train"})
    return write_manifest(tmp_path, rows)


def test_pictures_are_checked_segmented_scored_exported_and_shown(cohort, tmp_path) -> None:
    assert not check_manifest(cohort, settings=CheckSettings(deep=True)).findings
    out = tmp_path / "out"
    spec = {"channels": COLOURS, "labels": LABELS}
    reports = run(cohort, out, redness, **spec).reports
    for number, report in enumerate(reports, start=1):
        _, truth = drawn(number)
        assert report.status == "done"
        assert not report.warnings
        assert report.labels[0].dice == 1
        volume = read_nifti(out / f"masks/c{number}.nii.gz").volume
        np.testing.assert_array_equal(volume.array[..., 0].T, truth)
        assert volume.spacing_mm == ((0.5, 0.5, 1), (0.25, 0.5, 1))[number - 1]
        with Image.open(out / f"exports/png/c{number}.png") as written:
            assert written.mode == "L"
            np.testing.assert_array_equal(np.asarray(written), truth)
        (case,) = [case for case in read_manifest(cohort) if case.case_id == f"c{number}"]
        mask = out / f"masks/c{number}.nii.gz"
        shown = read_picture(case, mask, LABELS, channels=COLOURS)
        assert shown.notes == ("channel red of 3",)
        assert shown.reference is not None
    for predictions in (out / "exports/png", out / "masks"):
        scored = evaluate(cohort, predictions, tmp_path / f"scores_{predictions.name}")
        assert [row.dice for report in scored for row in report.labels] == [1, 1]
    (out / "exports/png/c1.png").unlink()
    assert [one.reason for one in export_run(out, ["png"])] == [None, None]
    np.testing.assert_array_equal(np.asarray(Image.open(out / "exports/png/c1.png")), drawn(1)[1])


def test_masks_above_255_have_16_bits(tmp_path: Path) -> None:
    saved(tmp_path / "c1.png", drawn(1)[0])
    manifest = write_manifest(tmp_path, [{"case_id": "c1", "image": "c1.png", "label": ""}])
    labels = (Label(value=300, name="disc", color="#e6194b"),)
    run(manifest, tmp_path / "out", redness, channels=COLOURS, labels=labels)
    with Image.open(tmp_path / "out/exports/png/c1.png") as written:
        assert sorted(np.unique(np.asarray(written)).tolist()) == [0, 300]


def test_a_volume_has_no_png(tmp_path: Path) -> None:
    from runs import add_case

    manifest = write_manifest(tmp_path, [add_case(tmp_path, "c1")])
    run(manifest, tmp_path / "out")
    assert not (tmp_path / "out/exports").exists()
    (result,) = export_run(tmp_path / "out", ["png"])
    assert result.reason is not None
    assert result.reason.code == "not_a_picture"


def test_training_takes_colours_if_any_picture_has_them(cohort: Path, tmp_path: Path) -> None:
    cases = read_manifest(cohort)
    grey = Case("g", (("image", saved(tmp_path / "g.png", drawn(1)[0][..., 0])),), cases[0].label)
    assert channel_names([grey]) == ("image",)
    assert channel_names([grey, *cases]) == COLOURS
    facts = describe_cases([grey, *cases], labels=(), manifest=cohort)
    assert [one.values for one in facts] == [(255,)] * 3
    assert [len(one.channels) for one in facts] == [3] * 3


def test_commands_for_one_file(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="channels red, green, blue"):
        convert(tmp_path / "c1.png", tmp_path / "out.nii.gz")
    grey = saved(tmp_path / "g.png", drawn(1)[0][..., 0])
    assert invoke("convert", grey, tmp_path / "out.nii.gz")[0] == 0
    np.testing.assert_array_equal(
        read_nifti(tmp_path / "out.nii.gz").volume.array[..., 0].T, drawn(1)[0][..., 0]
    )


def test_a_folder_of_pictures_makes_a_manifest_but_not_beside_volumes(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
        saved(tmp_path / "set" / name / "c1.png", drawn(1)[name == "labels"])
    found = tmp_path / "m.csv"
    labels = ("--labels", tmp_path / "set/labels")
    code, said = invoke("manifest", "build", tmp_path / "set", "--out", found, *labels)
    assert code == 0, said
    (case,) = read_manifest(found)
    assert case.images[0][1].samefile(tmp_path / "set/images/c1.png")
    assert case.label is not None
    assert case.label.samefile(tmp_path / "set/labels/c1.png")
    run(found, tmp_path / "out", redness, channels=COLOURS, labels=LABELS)
    (tmp_path / "out/masks/c1.nii.gz").rename(tmp_path / "set/images/scan.nii.gz")
    other = tmp_path / "other.csv"
    assert invoke("manifest", "build", tmp_path / "set/images", "--out", other)[0] == 0
    assert [case.case_id for case in read_manifest(other)] == ["scan"]


def test_a_bundle_of_one_channel_refuses_colours(cohort: Path, tmp_path: Path) -> None:
    reports = run(cohort, tmp_path / "out", redness).reports
    assert {report.reason.code for report in reports if report.reason} == {"colour"}
    assert make_bundle().spec.channels == ("image",)
