"""Overlap by hand, and reference values on real pairs."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from voxtile.reading.nifti import read_nifti
from voxtile.scoring.overlap import Overlap, count_overlaps, plain_labels
from voxtile.scoring.score import score
from voxtile.volume import Volume


def test_dice_and_iou_by_hand() -> None:
    overlap = Overlap(tp=3, fp=1, fn=2)
    assert overlap.dice == pytest.approx(6 / 9)
    assert overlap.iou == pytest.approx(3 / 6)
    assert (overlap.voxels_pred, overlap.voxels_ref, overlap.status) == (4, 5, "ok")


@pytest.mark.parametrize(
    ("overlap", "status", "dice"),
    [
        (Overlap(0, 0, 0), "both_empty", math.nan),
        (Overlap(0, 0, 5), "pred_empty", 0),
        (Overlap(0, 5, 0), "ref_empty", 0),
    ],
)
def test_empty_masks_have_a_status_and_a_decided_dice(overlap, status, dice) -> None:
    assert overlap.status == status
    assert overlap.dice == pytest.approx(dice, nan_ok=True)
    assert overlap.iou == pytest.approx(dice, nan_ok=True)


def test_masks_on_different_grids_are_refused() -> None:
    one = Volume(np.ones((2, 2, 2), np.uint8), np.eye(4))
    with pytest.raises(ValueError, match="must be on one grid; resample one"):
        score(one, Volume(one.array, np.diag([1, 1, 2, 1])))
    assert score(one, Volume(one.array, np.diag([1, 1, 1.05, 1])))[0].overlap.dice == 1
    with pytest.raises(ValueError, match="differ"):
        count_overlaps(np.ones((2, 2, 2), int), np.ones((2, 2, 3), int), [[1]])


def test_real_pairs_have_the_published_overlaps(data_dir: Path) -> None:
    folder = data_dir / "metrics_reference"
    rows = list(csv.DictReader((folder / "reference.csv").read_text().splitlines()))
    assert len(rows) > 50
    for case in sorted({row["case"] for row in rows}):
        pred, ref = (
            read_nifti(folder / case / f"{name}.nii.gz").volume for name in ("pred", "ref")
        )
        of_case = [row for row in rows if row["case"] == case]
        labels = plain_labels({int(row["label"]): row["label"] for row in of_case})
        overlaps = count_overlaps(pred.array, ref.array, [label.values for label in labels])
        for row, overlap in zip(of_case, overlaps, strict=True):
            assert [overlap.tp, overlap.fp, overlap.fn] == [int(row[k]) for k in ("tp", "fp", "fn")]
            assert overlap.dice == pytest.approx(float(row["dice"]), abs=1e-6)
            assert overlap.iou == pytest.approx(float(row["iou"]), abs=1e-6)
