"""All metrics of label maps: empty masks, regions, real pairs, and what other tools measure."""

import csv
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given
from hypothesis import strategies as st
from mask_pairs import metrics, pairs
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from voxtile.errors import UsageError
from voxtile.reading.nifti import read_nifti
from voxtile.scoring.overlap import plain_labels
from voxtile.scoring.rows import scored_row
from voxtile.scoring.score import Measures, score
from voxtile.scoring.surface import SurfaceDistances
from voxtile.volume import Volume


def phantom(seed: int) -> tuple[Volume, Volume]:
    """Two label maps with two labels each, lumpy and a little apart, anisotropic."""
    random = np.random.default_rng(seed)
    affine = np.diag([0.7, 1.1, 2.5, 1])
    # Clear of the border, which SimpleITK does not take for an outside.
    grid = np.stack(np.meshgrid(*map(np.arange, (36, 30, 20)), indexing="ij"), axis=-1)
    masks = []
    for shift in (0.0, 1.5):
        array = np.zeros(grid.shape[:3], np.uint8)
        for value, middle in ((1, (10, 12, 6)), (2, (21, 13, 8))):
            radii = np.array((6, 7, 4)) + random.uniform(-1, 1, 3)
            array[(((grid - middle - shift) / radii) ** 2).sum(axis=-1) < 1] = value
        masks.append(Volume(array, affine))
    return masks[0], masks[1]


def to_itk(volume: Volume, value: int) -> sitk.Image:
    image = sitk.GetImageFromArray((volume.array == value).astype(np.uint8).T)
    image.SetSpacing(volume.spacing_mm)
    return image


@pytest.mark.parametrize("seed", range(3))
def test_simpleitk_agrees_where_its_definitions_do(seed) -> None:
    pred, ref = phantom(seed)
    for result in score(pred, ref):
        masks = [to_itk(volume, result.label) for volume in (pred, ref)]
        overlaps = sitk.LabelOverlapMeasuresImageFilter()
        overlaps.Execute(masks[1], masks[0])
        assert result.overlap.dice == pytest.approx(overlaps.GetDiceCoefficient())
        assert result.overlap.iou == pytest.approx(overlaps.GetJaccardCoefficient())
        # Distances between surfaces: the largest, and the mean over both pooled.
        distances = []
        surfaces = [sitk.LabelContour(mask, fullyConnected=False) for mask in masks]
        for here, there in (surfaces, surfaces[::-1]):
            field = sitk.SignedMaurerDistanceMap(
                there, squaredDistance=False, useImageSpacing=True, insideIsPositive=False
            )
            away = np.maximum(sitk.GetArrayFromImage(field), 0)
            distances.append(away[sitk.GetArrayFromImage(here) > 0])
        assert result.surface.hd_mm == pytest.approx(max(map(np.max, distances)), abs=1e-4)
        assert result.surface.assd_mm == pytest.approx(np.concatenate(distances).mean(), abs=1e-4)
        parts = sitk.ConnectedComponentImageFilter()
        parts.FullyConnectedOn()
        parts.Execute(masks[0])
        assert result.components_pred == parts.GetObjectCount()


@pytest.mark.parametrize(
    ("pred", "ref", "status", "nsd"),
    [(0, 0, "both_empty", math.nan), (1, 0, "ref_empty", 0), (0, 1, "pred_empty", 0)],
)
def test_empty_masks_have_no_distance(pred, ref, status, nsd) -> None:
    masks = [Volume(np.full((3, 3, 3), value, np.uint8), np.eye(4)) for value in (pred, ref)]
    result = score(*masks, plain_labels({1: "one"}), measures=Measures(lesions=True))[0]
    assert result.overlap.status == status
    assert all(map(math.isnan, metrics(result.surface)[:3]))
    assert result.surface.nsd(1) == pytest.approx(nsd, nan_ok=True)
    assert (result.components_pred, result.components_ref) == (pred, ref)
    assert math.isnan(result.volume_difference_rel) == (not ref)
    assert result.overlap.precision == pytest.approx(0 if pred else math.nan, nan_ok=True)
    assert result.overlap.sensitivity == pytest.approx(0 if ref else math.nan, nan_ok=True)
    assert result.lesions is not None
    assert result.lesions.f1 == pytest.approx(nsd, nan_ok=True)


def test_tolerances_are_different_numbers_of_at_least_zero() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Measures(nsd_mm=(1.0, math.nan))
    with pytest.raises(ValueError, match="must differ"):
        Measures(nsd_mm=(1.0, 1.0))


def test_real_pairs_have_the_published_distances(data_dir: Path) -> None:
    folder = data_dir / "metrics_reference"
    rows = list(csv.DictReader((folder / "reference.csv").read_text().splitlines()))
    compared = 0
    for case in sorted({row["case"] for row in rows}):
        pred, ref = (
            read_nifti(folder / case / f"{name}.nii.gz").volume for name in ("pred", "ref")
        )
        of_case = [row for row in rows if row["case"] == case]
        labels = plain_labels({int(row["label"]): row["label"] for row in of_case})
        for row, result in zip(of_case, score(pred, ref, labels), strict=True):
            assert result.overlap.dice == pytest.approx(float(row["dice"]), abs=1e-6)
            assert result.overlap.iou == pytest.approx(float(row["iou"]), abs=1e-6)
            for column, value in (
                ("hd100_edge", result.surface.hd_mm),
                ("hd95_edge_max_of_directed", result.surface.hd95_mm),
                ("assd_edge_pooled", result.surface.assd_mm),
            ):
                expected = float(row[column]) if row[column] else math.nan
                assert value == pytest.approx(expected, abs=1e-3, nan_ok=True), (row, column)
                compared += not math.isnan(expected)
    assert compared > 100


def outline(mask: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """World positions of the voxels with an outside neighbour along an axis of several voxels."""
    axes = [axis for axis, size in enumerate(mask.shape) if size > 1] or [0]
    inner = mask.reshape([mask.shape[axis] for axis in axes])
    return np.argwhere(inner & ~binary_erosion(inner)) @ linear[:, axes].T


@given(pairs(), st.sets(st.integers(0, 2)), st.sampled_from("CF"))
def test_axes_of_a_single_voxel_have_no_surface(pair, flat, order) -> None:
    masks = [mask[tuple(slice(1 if axis in flat else None) for axis in range(3))] for mask in pair]
    assume(all(mask.any() for mask in masks))
    affine = np.array([[2, 0.3, 0, 0], [0, 1, 0.7, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    volumes = [Volume(np.array(mask, np.uint8, order=order), affine) for mask in masks]
    between = cdist(*(outline(mask, affine[:3, :3]) for mask in masks))
    expected = SurfaceDistances(between.min(axis=1), between.min(axis=0))
    assert metrics(score(*volumes)[0].surface) == pytest.approx(metrics(expected), abs=1e-9)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize(
    ("pred", "ref", "hd_mm", "assd_mm"),
    [
        # A ring of 8 voxels around one, 2 mm apart: the voxel inside is no surface.
        (np.ones((3, 3)), np.pad([[1]], 1), 2 * math.sqrt(2), (10 + 8 * math.sqrt(2)) / 9),
        # A line of 5 voxels has two ends; one of them is the reference.
        (np.ones((1, 5)), np.eye(1, 5), 8, 8 / 3),
        (np.ones((1, 1)), np.ones((1, 1)), 0, 0),
    ],
)
def test_a_plane_a_line_and_a_voxel_by_hand(axis, pred, ref, hd_mm, assd_mm) -> None:
    grid = np.diag([2, 2, 2, 1])
    masks = [Volume(np.expand_dims(np.asarray(mask, np.uint8), axis), grid) for mask in (pred, ref)]
    surface = score(*masks)[0].surface
    assert (surface.hd_mm, surface.assd_mm) == pytest.approx((hd_mm, assd_mm))


def test_a_label_in_one_plane_of_several_is_its_own_surface() -> None:
    array = np.zeros((5, 5, 3), np.uint8)
    array[..., 1] = 1
    ring = array.copy()
    ring[1:4, 1:4, 1] = 0
    result = score(Volume(array, np.eye(4)), Volume(ring, np.eye(4)))[0]
    assert (len(result.surface.pred_to_ref), result.surface.hd_mm) == (25, 2)


def test_a_plane_has_the_distances_of_monai(data_dir: Path) -> None:
    folder = data_dir / "field/training_and_scores/flat2d_surface"
    masks = [read_nifti(folder / name).volume for name in ("pred/disc.nii.gz", "ref.nii.gz")]
    surface = score(*masks)[0].surface
    assert [surface.hd95_mm, surface.assd_mm] == pytest.approx([5.10, 4.89], abs=0.005)
    assert (surface.nsd(1), surface.nsd(2)) == (0, 0)


def test_regions_are_scored_as_unions_in_any_memory_order() -> None:
    pred, ref = phantom(7)
    labels = [
        label.model_copy(update={"region": (1, 2)}) if label.value == 1 else label
        for label in plain_labels({1: "whole", 2: "part"})
    ]
    whole = Volume((ref.array > 0).astype(np.uint8), ref.affine)
    union = Volume((pred.array > 0).astype(np.uint8), ref.affine)
    expected = score(union, whole, plain_labels({1: "whole"}))[0]
    for order in ("C", "F"):
        copies = [v.with_array(np.array(v.array, order=order)) for v in (pred, ref)]
        result = score(copies[0], copies[1].with_array(ref.array), labels)[0]
        assert result.overlap == expected.overlap
        assert metrics(result.surface) == pytest.approx(metrics(expected.surface))


@pytest.mark.slow
def test_a_large_pair_is_measured_in_the_memory_of_twice_the_pair() -> None:
    grid = np.ogrid[:256, :256, :150]
    masks = []
    for shift in (0, 1):
        array = np.zeros((256, 256, 150), np.uint8, order="F")
        for value, radius in ((1, 60), (2, 40), (3, 20)):
            away = sum(
                (axis - n // 2 - shift) ** 2 for axis, n in zip(grid, array.shape, strict=True)
            )
            array[away < radius**2] = value
        masks.append(Volume(array, np.diag([0.8, 0.8, 1.5, 1])))
    tracemalloc.start()
    try:
        assert len(score(*masks)) == 3
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * sum(mask.array.nbytes for mask in masks), peak


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_ignored_voxels_of_the_reference_may_hold_anything(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    shape, measures = (5, 4, 3), Measures(lesions=True, ignore=255)
    pred, ref = (rng.integers(0, 3, shape).astype(np.uint8) for _ in range(2))
    hidden = rng.random(shape) < share
    other = np.where(hidden, rng.integers(0, 256, shape), pred).astype(np.uint8)
    labels = plain_labels({1: "one", 2: "two"})
    found = [
        score(
            Volume(mask, np.eye(4)),
            Volume(np.where(hidden, 255, ref).astype(np.uint8), np.eye(4)),
            labels,
            measures=measures,
        )
        for mask in (pred, other)
    ]
    blank = [Volume(np.where(hidden, 0, mask), np.eye(4)) for mask in (pred, ref)]
    found.append(score(*blank, labels, measures=replace(measures, ignore=None)))
    rows = [[repr(scored_row(one, measures)) for one in scores] for scores in found]
    assert rows[0] == rows[1] == rows[2]


def test_without_labels_the_ignored_value_is_no_label() -> None:
    pred = Volume(np.array([[[1, 1, 7]]]), np.eye(4))
    ref = Volume(np.array([[[1, 0, 255]]]), np.eye(4))
    (only,) = score(pred, ref, measures=Measures(ignore=255))
    assert (only.label, only.overlap.dice) == (1, pytest.approx(2 / 3))


def test_the_background_cannot_be_ignored() -> None:
    with pytest.raises(UsageError, match="ignored value is 0, but must be 1 to 65535"):
        Measures(ignore=0)
