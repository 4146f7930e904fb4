"""Surface distances: laws for any pair of masks, numbers by hand, real pairs, and other tools."""

import csv
import math
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtile.reading.nifti import read_nifti
from voxtile.scoring.components import component_count, count_lesions, find_components
from voxtile.scoring.overlap import plain_labels
from voxtile.scoring.score import Measures, score
from voxtile.scoring.surface import SurfaceDistances, measure_surfaces, surface_voxels
from voxtile.volume import Volume

SHEARED = np.array([[2, 0.3, 0, 0], [0, 1, 0.7, 0], [0, 0, 3, 0], [0, 0, 0, 1]])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two small masks of one shape, dense or sparse, neither empty."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = random.random((2, *shape)) < draw(st.sampled_from((0.05, 0.3, 0.9)))
    masks[:, 0, 0, 0] |= ~masks.any(axis=(1, 2, 3))
    return masks[0], masks[1]


affines = st.one_of(
    st.tuples(*[st.floats(0.2, 5)] * 3).map(lambda spacing: np.diag([*spacing, 1])),
    st.just(SHEARED),
)


def brute(one: np.ndarray, other: np.ndarray, affine: np.ndarray) -> SurfaceDistances:
    """Every distance between every pair of surface voxels, and no shortcut."""
    places = []
    for mask in (one, other):
        padded = np.pad(mask, 1)
        surface = [
            index
            for index in np.argwhere(mask)
            if not all(
                padded[tuple(index + 1 + step)]
                for step in [*np.eye(3, dtype=int), *-np.eye(3, dtype=int)]
            )
        ]
        places.append(np.array(surface) @ affine[:3, :3].T)
    between = np.linalg.norm(places[0][:, None] - places[1][None], axis=-1)
    return SurfaceDistances(between.min(axis=1), between.min(axis=0))


def numbers(distances: SurfaceDistances) -> list[float]:
    tolerances = (0, 0.5, 1, 2, 5)
    return [
        distances.hd_mm,
        distances.hd95_mm,
        distances.assd_mm,
        *map(distances.nsd, tolerances),
    ]


@given(pairs(), affines)
def test_distances_are_those_of_every_pair_of_surface_voxels(pair, affine) -> None:
    measured, expected = measure_surfaces(*pair, affine), brute(*pair, affine)
    np.testing.assert_allclose(measured.pred_to_ref, expected.pred_to_ref, atol=1e-9)
    np.testing.assert_allclose(measured.ref_to_pred, expected.ref_to_pred, atol=1e-9)


@given(pairs(), affines)
def test_swapping_the_masks_changes_nothing(pair, affine) -> None:
    one, other = pair
    np.testing.assert_allclose(
        numbers(measure_surfaces(one, other, affine)),
        numbers(measure_surfaces(other, one, affine)),
        rtol=1e-12,
    )


@given(pairs(), affines, st.tuples(*[st.integers(0, 3)] * 6))
def test_where_the_masks_lie_in_the_image_changes_nothing(pair, affine, margins) -> None:
    widths = np.array(margins).reshape(3, 2)
    moved = [np.pad(mask, widths) for mask in pair]
    np.testing.assert_allclose(
        numbers(measure_surfaces(*moved, affine)),
        numbers(measure_surfaces(*pair, affine)),
        atol=1e-9,
    )


@given(pairs(), affines, st.floats(0.5, 4))
def test_distances_grow_with_the_spacing(pair, affine, factor) -> None:
    larger = affine.copy()
    larger[:3, :3] *= factor
    before, after = (numbers(measure_surfaces(*pair, grid))[:3] for grid in (affine, larger))
    np.testing.assert_allclose(after, factor * np.array(before), atol=1e-9)


@given(pairs(), affines)
def test_equal_masks_are_at_distance_zero(pair, affine) -> None:
    assert numbers(measure_surfaces(pair[0], pair[0], affine)) == [0, 0, 0, 1, 1, 1, 1, 1]


@given(pairs(), affines)
def test_the_metrics_are_ordered(pair, affine) -> None:
    distances = measure_surfaces(*pair, affine)
    assert 0 <= distances.assd_mm <= distances.hd_mm
    assert 0 <= distances.hd95_mm <= distances.hd_mm
    shares = [distances.nsd(tolerance) for tolerance in np.linspace(0, 20, 30)]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1
    assert distances.nsd(distances.hd_mm) == 1


@given(pairs(), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
@settings(max_examples=40)
def test_storage_order_changes_nothing(pair, order, flips) -> None:
    turn = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    spacing = np.array([0.7, 1.5, 4.0])
    plain = measure_surfaces(*pair, np.diag([*spacing, 1]))
    turned = [mask.transpose(order)[turn] for mask in pair]
    other = measure_surfaces(*turned, np.diag([*spacing[list(order)], 1]))
    np.testing.assert_allclose(numbers(other), numbers(plain), atol=1e-9)


def slab(stop: int, shape=(100, 20, 20)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[:stop] = True
    return mask


def test_two_voxels_by_hand() -> None:
    one, other = np.zeros((2, 5, 5, 5), bool)
    one[1, 1, 1] = other[3, 1, 1] = True
    distances = measure_surfaces(one, other, np.diag([3, 2, 1, 1]))
    assert numbers(distances)[:3] == [6, 6, 6]
    assert (distances.nsd(5.9), distances.nsd(6)) == (0, 1)


def test_two_slabs_by_hand() -> None:
    # The far ends differ by one voxel of 2 mm; every other surface voxel is shared.
    distances = measure_surfaces(slab(50), slab(51), np.diag([2, 1, 1, 1]))
    assert (distances.hd_mm, distances.nsd(2), distances.nsd(1.5) < 1) == (2, 1, True)
    face, ring = 18 * 18, 4 * 19  # inner voxels of an end, and its rim
    # The end of the longer slab is one step from the shorter; the end of the shorter lies 2 mm
    # from the end of the longer, but at its rim the longer has surface too.
    total = (face + ring) * 2 + sum(
        min(2, row, 19 - row, column, 19 - column) for row in range(20) for column in range(20)
    )
    voxels = sum(len(surface_voxels(slab(stop))) for stop in (50, 51))
    assert distances.assd_mm == pytest.approx(total / voxels)


def test_percentiles_are_directed() -> None:
    distances = SurfaceDistances(np.arange(101.0), np.zeros(1000))
    assert distances.hd95_mm == 95  # pooled it would be 45
    assert distances.assd_mm == pytest.approx(5050 / 1101)


def test_the_border_of_the_image_is_outside() -> None:
    assert len(surface_voxels(np.ones((3, 3, 3), bool))) == 26
    assert len(surface_voxels(np.ones((4, 4, 1), bool))) == 16


def test_a_tolerance_of_one_voxel_is_met_in_spite_of_single_precision() -> None:
    one, other = np.zeros((2, 3, 1, 1), bool)
    one[0] = other[1] = True
    affine = np.diag([np.float32(0.8), 1, 1, 1])
    assert float(affine[0, 0]) > 0.8
    assert measure_surfaces(one, other, affine).nsd(0.8) == 1


@pytest.mark.parametrize(
    ("pred", "ref", "status", "nsd"),
    [(0, 0, "both_empty", math.nan), (1, 0, "ref_empty", 0), (0, 1, "pred_empty", 0)],
)
def test_empty_masks_have_no_distance(pred, ref, status, nsd) -> None:
    masks = [Volume(np.full((3, 3, 3), value, np.uint8), np.eye(4)) for value in (pred, ref)]
    result = score(*masks, plain_labels({1: "one"}), measures=Measures(lesions=True))[0]
    assert result.overlap.status == status
    assert all(map(math.isnan, numbers(result.surface)[:3]))
    assert result.surface.nsd(1) == pytest.approx(nsd, nan_ok=True)
    assert (result.components_pred, result.components_ref) == (pred, ref)
    assert math.isnan(result.volume_difference_rel) == (not ref)
    assert result.overlap.precision == pytest.approx(0 if pred else math.nan, nan_ok=True)
    assert result.overlap.sensitivity == pytest.approx(0 if ref else math.nan, nan_ok=True)
    assert result.lesions is not None
    assert result.lesions.f1 == pytest.approx(nsd, nan_ok=True)


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance -1 mm must be at least 0"):
        SurfaceDistances(np.zeros(1), np.zeros(1)).nsd(-1)
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


@given(pairs())
def test_components_are_those_of_a_label_image(pair) -> None:
    from scipy import ndimage

    everywhere = np.ones((3, 3, 3))
    images = [ndimage.label(mask, everywhere) for mask in pair]
    found = [find_components(mask) for mask in pair]
    for (image, count), components in zip(images, found, strict=True):
        assert components.count == count
        assert sorted(components.voxels) == sorted(np.bincount(image.ravel())[1:])
    counts = count_lesions(*found)
    hit = set(images[1][0][pair[0]].tolist()) - {0}
    true = set(images[0][0][pair[1]].tolist()) - {0}
    assert (counts.detected, counts.missed) == (len(hit), images[1][1] - len(hit))
    assert (counts.true, counts.false) == (len(true), images[0][1] - len(true))


def test_lesions_by_hand() -> None:
    pred, ref = np.zeros((2, 1, 1, 20), np.uint8)
    ref[..., [1, 2, 5, 9]] = 1  # three lesions
    pred[..., [2, 3, 12]] = 1  # one found, one false
    result = score(
        Volume(pred, np.eye(4)), Volume(ref, np.eye(4)), measures=Measures(lesions=True)
    )[0]
    assert result.lesions is not None
    counts = result.lesions
    assert (counts.detected, counts.missed, counts.false) == (1, 2, 1)
    assert counts.f1 == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))


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
        assert numbers(result.surface) == pytest.approx(numbers(expected.surface))


@pytest.mark.slow
def test_a_large_pair_is_measured_quickly() -> None:
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
    begin = time.process_time()
    assert len(score(*masks)) == 3
    assert time.process_time() - begin < 5  # 0.7 s on a quiet core


@given(pairs(), st.integers(1, 100))
def test_slabs_count_the_components_of_the_whole(pair, voxels: int) -> None:
    with mock.patch("voxtile.scoring.components._SLAB_VOXELS", voxels):
        for mask in pair:
            assert component_count(mask) == find_components(mask).count
