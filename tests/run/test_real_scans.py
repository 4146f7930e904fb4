"""Real scans of many kinds go through the whole line; geometry must be right whatever the mask."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
from phantoms import make_bundle

from voxtile.batch.drive import run_manifest
from voxtile.reading.nifti import read_nifti
from voxtile.scoring.overlap import plain_labels

SCANS = {
    "ct_spleen": "real_labelled/ct_spleen/image.nii.gz",
    "mr_cord_t2": "real_labelled/mr_cord_t2/image.nii.gz",
    "mr_cord_t2s": "real_labelled/mr_cord_greymatter_t2s/image.nii.gz",
    "mr_brain": "real_labelled/mr_brain1_lesion/image.nii.gz",
    "ct_small": "totalsegmentator/ct_sm/ct_sm.nii.gz",
    "mr_small": "totalsegmentator/mr_sm/mr_sm.nii.gz",
}


def above_mean(tiles: np.ndarray) -> np.ndarray:
    """Say label 1 where the z-scored middle plane is above 0."""
    middle = tiles[..., tiles.shape[-1] // 2]
    return np.stack([middle <= 0, middle > 0], axis=-1).astype(np.float32)


def run_on(tmp_path: Path, rows: list[dict[str, str]], **spec):
    with (tmp_path / "m.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    bundle = make_bundle(intensity={"method": "zscore"}, tile=(64, 64), **spec)
    result = run_manifest(tmp_path / "m.csv", bundle, tmp_path / "out", models=[above_mean])
    assert [str(report.reason) for report in result.failed] == []
    return result


def test_masks_of_nifti_scans_have_the_grids_of_the_scans(tmp_path: Path, data_dir: Path) -> None:
    rows = [{"case_id": name, "image": str(data_dir / path)} for name, path in SCANS.items()]
    run_on(tmp_path, rows)
    for name, path in SCANS.items():
        image = nibabel.load(data_dir / path)
        mask = nibabel.load(tmp_path / f"out/masks/{name}.nii.gz")
        assert mask.shape == image.shape[:3]
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        voxels = np.asanyarray(image.dataobj).astype(float)
        np.testing.assert_array_equal(np.asanyarray(mask.dataobj) > 0, voxels > voxels.mean())


def test_a_dicom_series_gets_its_mask_on_the_grid_of_its_published_segmentation(
    tmp_path: Path, data_dir: Path
) -> None:
    folder = data_dir / "totalsegmentator/ct_dicom"
    seg = nibabel.load(folder / "seg.nii.gz")
    values = np.unique(np.asanyarray(seg.dataobj))
    labels = plain_labels({int(value): f"organ {value}" for value in values if value})
    row = {"case_id": "ct", "image": str(folder / "dicom"), "label": str(folder / "seg.nii.gz")}

    def model(tiles: np.ndarray) -> np.ndarray:
        return np.eye(len(labels) + 1, dtype=np.float32)[(tiles[..., 0] > 0).astype(int)]

    (tmp_path / "m.csv").write_text("case_id,image,label\n" + ",".join(row.values()) + "\n")
    bundle = make_bundle(labels=labels, intensity={"method": "zscore"}, tile=(256, 256))
    result = run_manifest(tmp_path / "m.csv", bundle, tmp_path / "out", models=[model])
    # The label is accepted: it lies on the grid that was read, to 1e-3 mm.
    assert result.reports[0].reason is None
    mask = nibabel.load(tmp_path / "out/masks/ct.nii.gz")
    assert nibabel.as_closest_canonical(mask).shape == nibabel.as_closest_canonical(seg).shape
    np.testing.assert_allclose(
        nibabel.as_closest_canonical(mask).affine,
        nibabel.as_closest_canonical(seg).affine,
        atol=1e-3,
    )


def test_edge_cases_load_warn_or_fail_as_expected(tmp_path: Path, data_dir: Path) -> None:
    folder = data_dir / "edge_cases/derived"
    expected = {}
    rows = []
    for row in csv.DictReader((folder / "expected.csv").read_text().splitlines()):
        path = row["path"]
        if path.startswith(("label_", "base_label")) or path.endswith("_label.nii.gz"):
            continue
        name = f"c{len(rows)}"
        label = {
            "base_image.nii.gz": "base_label.nii.gz",
            **{
                f"reoriented_{axes}_image.nii.gz": f"reoriented_{axes}_label.nii.gz"
                for axes in ("LPS", "PIR", "ASL", "IRP")
            },
        }.get(path)
        rows.append(
            {
                "case_id": name,
                "image": str(folder / path),
                "label": str(folder / label) if label else "",
            }
        )
        expected[name] = row
    with (tmp_path / "m.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    bundle = make_bundle(
        intensity={"method": "zscore"},
        tile=(32, 32),
        labels=plain_labels({1: "a", 2: "b"}),
    )

    def model(tiles: np.ndarray) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[(tiles[..., 0] > 0).astype(int)]

    result = run_manifest(tmp_path / "m.csv", bundle, tmp_path / "out", models=[model])
    for report in result.reports:
        row = expected[report.case_id]
        # A constant scan is read; the warning is about what a network can make of it.
        warned = {notice.code for notice in report.warnings} - {"constant"}
        outcome = "reject" if report.reason else "warn" if warned else "load"
        allowed = row["expected"].replace("report two series", "reject")
        assert outcome in allowed, (row, str(report.reason), report.warnings)
        if report.reason:
            assert report.reason.code != "unexpected", (row, report.reason.sentence)
            assert not (tmp_path / f"out/masks/{report.case_id}.nii.gz").exists()
    # The same anatomy in five storage orders gives the same numbers.
    same = [
        [(x.dice, x.tp, x.fp, x.fn) for x in report.labels]
        for report in result.reports
        if "reoriented" in expected[report.case_id]["path"]
        or expected[report.case_id]["path"] == "base_image.nii.gz"
    ]
    assert len(same) == 5
    assert all(scores == same[0] for scores in same)


LABEL_FILES = {
    "label_shape_mismatch.nii.gz": "label_grid",
    "label_affine_shift10mm.nii.gz": "label_grid",
    "label_unknown_class.nii.gz": "label_values",
    "label_float32.nii.gz": None,
    "label_float_noise.nii.gz": None,
    "label_empty.nii.gz": None,
}


@pytest.mark.parametrize(("name", "code"), LABEL_FILES.items())
def test_edge_case_labels_are_used_or_refused(tmp_path: Path, data_dir: Path, name, code) -> None:
    folder = data_dir / "edge_cases/derived"
    (tmp_path / "m.csv").write_text(
        f"case_id,image,label\na,{folder / 'base_image.nii.gz'},{folder / name}\n"
    )
    truth = read_nifti(folder / "base_label.nii.gz").volume.array
    bundle = make_bundle(labels=plain_labels({1: "a", 2: "b"}), tile=(64, 64))

    def model(tiles: np.ndarray) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[(tiles[..., 0] > 60).astype(int)]

    result = run_manifest(tmp_path / "m.csv", bundle, tmp_path / "out", models=[model])
    reason = result.reports[0].reason
    assert (None if reason is None else reason.code) == code
    if code is None and name != "label_empty.nii.gz":
        counted_cases = [row.voxels_ref for row in result.reports[0].labels]
        assert counted_cases == [int((truth == 1).sum()), int((truth == 2).sum())]
    if name == "label_empty.nii.gz":
        assert {row.status for row in result.reports[0].labels} == {"ref_empty", "both_empty"}
