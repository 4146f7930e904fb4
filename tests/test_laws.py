"""What must hold for any input: tiling, orientation, resampling, overlaps, rows, masks on disk."""

from itertools import pairwise, permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxtile.preparation.planes import from_planes, neighbours, to_planes
from voxtile.preparation.resampling import resamplers
from voxtile.preparation.tiling import Padding, TileGrid, cut, stitch, tile_weight
from voxtile.reading.nifti import read_nifti
from voxtile.scoring.overlap import Overlap, count_overlaps
from voxtile.volume import Axes, Volume, canonical, grid_difference, reorient
from voxtile.writing.nifti import write_mask

ALL_AXES = [
    Axes(order, flips)
    for order in permutations(range(3))
    for flips in product((False, True), repeat=3)
]


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    """Any grid that the constructor accepts, over a small plane."""
    plane = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    tile = draw(st.tuples(*[st.integers(1, size) for size in plane]))
    overlap = draw(st.tuples(*[st.integers(0, size - 1) for size in tile]))
    return TileGrid(plane, tile, overlap)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any affine of a rotated, anisotropic, flipped grid somewhere in the world."""
    angles = draw(st.tuples(*[st.floats(-np.pi, np.pi)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    mirror = draw(st.sampled_from((1, -1)))
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        others = [other for other in range(3) if other != axis]
        turn[np.ix_(others, others)] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
        rotation = turn @ rotation
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(np.array(spacing) * (mirror, 1, 1))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return affine


shapes = st.tuples(*[st.integers(1, 6)] * 3)


# Tiling


@given(grids())
def test_tiles_cover_every_pixel(grid: TileGrid) -> None:
    seen = np.zeros(grid.plane, bool)
    for window in grid.windows():
        seen[window] = True
    assert seen.all()


@given(grids())
def test_neighbouring_tiles_share_at_least_the_overlap(grid: TileGrid) -> None:
    for axis in (0, 1):
        starts = sorted({origin[axis] for origin in grid.origins})
        step = grid.tile[axis] - grid.overlap[axis]
        assert all(after - before <= step for before, after in pairwise(starts))


@given(grids(), st.integers(0, 2**32 - 1))
def test_stitching_what_was_cut_returns_the_plane(grid: TileGrid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plane = rng.random((*grid.plane, 3), np.float32)
    weight = rng.uniform(0.1, 1, grid.tile)
    np.testing.assert_allclose(stitch(cut(plane, grid), grid, weight), plane, rtol=1e-5)


@given(grids(), st.sampled_from(("gaussian", "constant")))
def test_stitched_probabilities_still_sum_to_one(grid: TileGrid, weighting) -> None:
    rng = np.random.default_rng(len(grid))
    tiles = rng.dirichlet((1, 1, 1), (len(grid), *grid.tile)).astype(np.float32)
    stitched = stitch(tiles, grid, tile_weight(grid.tile, weighting))
    np.testing.assert_allclose(stitched.sum(axis=-1), 1, rtol=1e-5)


@given(*[st.tuples(st.integers(1, 30), st.integers(1, 30))] * 2)
def test_padding_is_undone_exactly(plane, least) -> None:
    padding = Padding(plane, least)
    array = np.random.default_rng(0).random((*plane, 2))
    padded = padding.apply(array)
    assert padded.shape[:2] == padding.padded
    assert all(size >= low for size, low in zip(padded.shape, least, strict=False))
    np.testing.assert_array_equal(padding.undo(padded), array)


# Orientation


@given(affines(), shapes)
@settings(max_examples=30)
def test_reorientation_there_and_back_is_the_identity_for_all_48(affine, shape) -> None:
    volume = Volume(np.arange(np.prod(shape)).reshape(shape), affine)
    for axes in ALL_AXES:
        there = reorient(volume, axes)
        np.testing.assert_array_equal(axes.undo(there.array), volume.array)
        # Every voxel keeps its place in the world.
        for index in product(*[(0, size - 1) for size in there.shape]):
            value = there.array[index]
            source = np.argwhere(volume.array == value)[0]
            np.testing.assert_allclose(
                there.affine @ (*index, 1), volume.affine @ (*source, 1), atol=1e-9 * 5000
            )


@given(affines(), shapes)
def test_canonical_is_the_same_from_all_48_storage_orders(affine, shape) -> None:
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    scores = sorted(
        np.abs(cosines[range(3), list(order)]).sum() for order in permutations(range(3))
    )
    if scores[-1] - scores[-2] < 1e-6:
        return  # as near to one axis as to another: either answer is right
    volume = Volume(np.arange(np.prod(shape)).reshape(shape), affine)
    expected = canonical(volume)
    for axes in ALL_AXES:
        got = canonical(reorient(volume, axes))
        np.testing.assert_array_equal(got.array, expected.array)
        np.testing.assert_allclose(got.affine, expected.affine, atol=1e-9)


@given(affines())
def test_canonical_axes_agree_with_nibabel(affine) -> None:
    cosines = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    if (np.sort(cosines, axis=0)[2] - np.sort(cosines, axis=0)[1]).min() < 1e-3:
        return
    if sorted(cosines.argmax(axis=0)) != [0, 1, 2]:
        return  # two axes lean the same way: nibabel and we may break the tie differently
    ours = Volume(np.zeros((1, 1, 1)), affine).orientation
    assert ours == "".join(nibabel.aff2axcodes(affine))


@given(hnp.arrays(np.uint8, shapes), st.sampled_from(("axial", "coronal", "sagittal")))
def test_planes_put_back_are_the_volume(array, view) -> None:
    out = np.zeros_like(array)
    from_planes(to_planes(array, view), view, out)
    np.testing.assert_array_equal(out, array)


@given(st.integers(1, 9), st.sampled_from((1, 3, 5, 7)))
def test_the_judged_plane_is_in_the_middle_of_its_neighbours(count, context) -> None:
    for index in range(count):
        around = neighbours(index, count, context)
        assert len(around) == context
        assert around[context // 2] == index
        assert around == sorted(around)


# Resampling

spacings = st.tuples(st.floats(0.3, 4), st.floats(0.3, 4))
planes = st.tuples(st.integers(1, 20), st.integers(1, 20))


@given(planes, spacings, spacings)
def test_resampling_keeps_a_constant_and_returns_to_the_shape(shape, old, new) -> None:
    there, back = resamplers(shape, old, new)
    plane = np.full((*shape, 2), 7, np.float32)
    np.testing.assert_allclose(there.apply(plane), 7, rtol=1e-5)
    returned = back.apply(there.apply(plane))
    assert returned.shape == plane.shape
    np.testing.assert_allclose(returned, 7, rtol=1e-5)


@given(planes, spacings, spacings)
def test_resampling_commutes_with_a_flip(shape, old, new) -> None:
    there, _ = resamplers(shape, old, new)
    plane = np.random.default_rng(0).random((*shape, 1), np.float32)
    flipped = there.apply(np.ascontiguousarray(plane[::-1, ::-1]))
    np.testing.assert_allclose(flipped, there.apply(plane)[::-1, ::-1], atol=1e-5)


@given(planes, spacings, spacings)
def test_resampled_values_stay_within_the_range(shape, old, new) -> None:
    there, back = resamplers(shape, old, new)
    plane = np.random.default_rng(1).random((*shape, 1), np.float32)
    for result in (there.apply(plane), back.apply(there.apply(plane))):
        assert result.min() >= plane.min() - 1e-5
        assert result.max() <= plane.max() + 1e-5


@given(st.integers(4, 20), st.floats(0.3, 3))
def test_a_linear_ramp_is_read_at_world_positions(size, spacing) -> None:
    # Position in mm from the middle of the plane is the value itself.
    ramp = ((np.arange(size) - (size - 1) / 2) * 1.0).astype(np.float32).reshape(size, 1, 1)
    there, _ = resamplers((size, 1), (1.0, 1.0), (spacing, 1.0))
    got = there.apply(ramp).ravel()
    expected = (np.arange(len(got)) - (len(got) - 1) / 2) * spacing
    inside = np.abs(expected) <= (size - 1) / 2 - 1 - spacing  # clear of the level edge
    np.testing.assert_allclose(got[inside], expected[inside], atol=1e-4)


# Overlaps

masks = hnp.arrays(np.uint8, (4, 5, 3), elements=st.integers(0, 3))


@given(masks, masks)
def test_iou_follows_from_dice_and_swapping_keeps_both(one, other) -> None:
    for value in (1, 2, 3):
        (there,) = count_overlaps(one, other, [[value]])
        (back,) = count_overlaps(other, one, [[value]])
        if there.status == "both_empty":
            assert np.isnan(there.dice)
            assert np.isnan(there.iou)
            continue
        assert there.iou == pytest.approx(there.dice / (2 - there.dice))
        assert (there.dice, there.iou) == (back.dice, back.iou)
        assert there.voxels_pred == np.count_nonzero(one == value)


@given(masks, masks, st.sets(st.integers(1, 5), min_size=1))
def test_counting_a_region_is_counting_its_union(one, other, region) -> None:
    inside = [np.isin(mask, list(region)) for mask in (one, other)]
    expected = Overlap(
        tp=int((inside[0] & inside[1]).sum()),
        fp=int((inside[0] & ~inside[1]).sum()),
        fn=int((~inside[0] & inside[1]).sum()),
    )
    fortran = np.asfortranarray(other)  # memory order must not matter
    assert count_overlaps(one, fortran, [sorted(region)]) == (expected,)


# Masks on disk


@given(
    affines(),
    hnp.arrays(st.sampled_from((np.uint8, np.uint16)), shapes),
    st.sampled_from(((1, 1), (2, 1), (0, 0), (4, 4))),
    st.sampled_from((".nii", ".nii.gz")),
)
@settings(max_examples=60)
def test_a_mask_written_and_read_back_is_equal(
    tmp_path_factory, affine, array, codes, ending
) -> None:
    affine = affine.astype(np.float32).astype(float)  # what NIfTI-1 can hold
    path = tmp_path_factory.mktemp("mask") / f"m{ending}"
    mask = Volume(array, affine, codes)
    write_mask(path, mask)
    scan = read_nifti(path)
    np.testing.assert_array_equal(scan.volume.array, array)
    assert scan.volume.array.dtype == array.dtype
    assert scan.volume.codes == codes
    if codes != (0, 0):
        np.testing.assert_array_equal(scan.volume.affine, affine)
        assert not scan.notices
        header = nibabel.load(path).header
        # Near half a turn its float32 say it less well (w is the root of a difference to 1).
        limit = 0.01 if header.get_qform_quaternion()[0] > 0.01 else 0.1
        assert not grid_difference(mask.shape, header.get_qform(), mask.affine).position_mm > limit


def test_equal_masks_are_equal_files(tmp_path: Path) -> None:
    mask = Volume(np.ones((3, 4, 5), np.uint8), np.eye(4))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_mask(tmp_path / name, mask)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
