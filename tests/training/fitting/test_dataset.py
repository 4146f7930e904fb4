"""Laws of the stream of training batches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.models.spec import Label, View
from voxtile.preparation.intensity import Scaling
from voxtile.preparation.prepared import prepare_planes
from voxtile.preparation.tiling import Padding
from voxtile.scoring.overlap import plain_labels
from voxtile.training.data.plane_stacks import PlaneStack
from voxtile.training.fitting.augmentation import Augmentation
from voxtile.training.fitting.dataset import Sampling, TileBatches, _dropped, targets

LABELS = plain_labels({1: "one", 2: "two"})


def stack(
    folder: Path,
    shape: tuple[int, int, int] = (6, 12, 10),
    *,
    view: View = "sagittal",
    seed: int = 0,
) -> PlaneStack:
    """Planes of noise with a block of each label on some."""
    rng = np.random.default_rng(seed)
    image = rng.random((*shape, 1), np.float32)
    label = np.zeros(shape, np.uint8)
    label[2, 2:5, 3:6] = 1
    label[3:5, 6:9, 3:6] = 2
    paths = folder / f"{seed}_{view}_i.npy", folder / f"{seed}_{view}_l.npy"
    np.save(paths[0], image)
    np.save(paths[1], label)
    return PlaneStack(view, *paths, shape, (1.0, 1.0), ((1, (2,)), (2, (3, 4))))


def plain(tile: tuple[int, int] = (16, 12), **changes: object) -> Sampling:
    """Sampling without augmentation."""
    choices: dict[str, object] = {
        "tile": tile,
        "context_slices": 3,
        "labels": LABELS,
        "softmax": True,
        "batch": 5,
        "augmentation": Augmentation.none(),
    }
    return Sampling(**{**choices, **changes})  # type: ignore[arg-type]


def test_a_batch_is_decided_by_seed_and_index_alone(tmp_path: Path) -> None:
    cases = [[stack(tmp_path, seed=seed)] for seed in range(3)]
    varied = plain(augmentation=Augmentation(), flips=("R", "A"))
    one, other = TileBatches(cases, varied), TileBatches(cases, varied)
    one[0], one[4]  # what was asked before does not matter
    for here, there in zip(one[7], other[7], strict=True):
        np.testing.assert_array_equal(here, there)
    assert not np.array_equal(one[7][0], one[8][0])


def test_shapes_and_types_are_what_the_network_takes(tmp_path: Path) -> None:
    images, wanted = TileBatches([[stack(tmp_path)]], plain(augmentation=Augmentation()))[0]
    assert images.shape == (5, 16, 12, 3)
    assert wanted.shape == (5, 16, 12, 3)
    assert images.dtype == wanted.dtype == np.float32
    np.testing.assert_array_equal(wanted.sum(axis=-1), 1)


@pytest.mark.parametrize("position", [False, True])
def test_a_tile_without_augmentation_is_a_tile_of_inference(tmp_path: Path, position: bool) -> None:
    planes = stack(tmp_path)
    image, _ = planes.open()
    padding = Padding(planes.shape[1:], (16, 12))
    known = [
        padding.apply(plane)
        for plane in prepare_planes(np.asarray(image), [Scaling(0, 1)], None, 3, position=position)
    ]
    images, _ = TileBatches([[planes]], plain(batch=20, position=position))[0]
    for tile in images:
        assert any(np.array_equal(tile, plane) for plane in known)


def test_positions_stay_where_anatomy_is_moved_and_are_mirrored_with_it(tmp_path: Path) -> None:
    moved = Augmentation(geometry_rate=1, intensity_rate=1, shift=0.2)
    how = plain((16, 12), batch=50, position=True, flips=("R", "A", "S"), augmentation=moved)
    images, _ = TileBatches([[stack(tmp_path, (5, 9, 12))]], how)[0]
    rows, columns, plane = np.moveaxis(images[..., -3:], 3, 0)
    # The nine rows are in the middle of the sixteen, and padding repeats the outermost.
    down = np.concatenate([[-1] * 3, np.linspace(-1, 1, 9), [1] * 4])
    for found, along in ((rows, down), (columns.swapaxes(1, 2), np.linspace(-1, 1, 12))):
        mirrored = found[:, 0, 0] > 0
        assert set(mirrored) == {True, False}
        for tile, turned in zip(found, mirrored, strict=True):
            for line in tile.T:
                np.testing.assert_allclose(line, along[::-1] if turned else along, atol=1e-6)
    assert set(np.unique(plane)) == {-1, -0.5, 0, 0.5, 1}
    assert (plane.max(axis=(1, 2)) == plane.min(axis=(1, 2))).all()


def numbered(tmp_path: Path, shape: tuple[int, int, int]) -> PlaneStack:
    """Planes without labels, whose pixels have their own number."""
    np.save(tmp_path / "i.npy", np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, 1))
    np.save(tmp_path / "l.npy", np.zeros(shape, np.uint8))
    return PlaneStack("axial", tmp_path / "i.npy", tmp_path / "l.npy", shape, (1, 1), ())


def test_a_tile_of_a_larger_plane_has_the_positions_of_its_pixels(tmp_path: Path) -> None:
    planes = numbered(tmp_path, (1, 30, 20))
    how = plain((8, 8), context_slices=1, batch=50, position=True)
    images, _ = TileBatches([[planes]], how)[0]
    row, column = np.divmod(images[..., 0], 20)
    np.testing.assert_allclose(images[..., 1], 2 * row / 29 - 1, atol=1e-6)
    np.testing.assert_allclose(images[..., 2], 2 * column / 19 - 1, atol=1e-6)
    np.testing.assert_array_equal(images[..., 3], 0)


def test_foreground_tiles_show_a_label(tmp_path: Path) -> None:
    cases = [[stack(tmp_path, (6, 60, 60))]]
    _, wanted = TileBatches(cases, plain((8, 8), foreground=1.0, batch=64))[0]
    assert wanted[..., 1:].any(axis=(1, 2, 3)).all()
    # Both labels alike, though one has twice the planes.
    share = wanted[..., 1].any(axis=(1, 2)).mean()
    assert 0.3 < share < 0.7


def test_every_place_of_a_large_plane_is_seen(tmp_path: Path) -> None:
    planes = numbered(tmp_path, (1, 20, 20))
    images, _ = TileBatches([[planes]], plain((8, 8), context_slices=1, batch=2000))[0]
    assert set(images.ravel().tolist()) == set(range(400))


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("axis", ["R", "A", "S"])
def test_a_flip_mirrors_its_world_axis_in_every_view(tmp_path: Path, view: View, axis: str) -> None:
    # Each voxel of a ramp along one world axis; planes of 8 fill the tile.
    position = np.indices((8, 8, 8))["RAS".index(axis)]
    planes = np.moveaxis(position, {"sagittal": 0, "coronal": 1, "axial": 2}[view], 0)
    np.save(tmp_path / "i.npy", planes[..., np.newaxis].astype(np.float32))
    np.save(tmp_path / "l.npy", np.zeros((8, 8, 8), np.uint8))
    stacked = PlaneStack(view, tmp_path / "i.npy", tmp_path / "l.npy", (8, 8, 8), (1, 1), ())
    images, _ = TileBatches([[stacked]], plain((8, 8), flips=(axis,), batch=60))[0]
    others, _ = TileBatches([[stacked]], plain((8, 8), batch=60))[0]
    slopes = {
        tuple(sorted({float(np.sign(np.diff(tile, axis=along).sum())) for along in range(3)}))
        for tile in images
    }
    assert (-1.0, 0.0) in slopes
    assert all(np.diff(tile, axis=along).min() >= 0 for tile in others for along in range(3))


def test_regions_are_unions_and_may_overlap() -> None:
    regions = (
        Label(value=1, name="whole", color="#000000", region=(1, 2)),
        Label(value=2, name="core", color="#ffffff"),
    )
    wanted = targets(np.array([[[0, 1, 2]]]), regions, softmax=False)
    np.testing.assert_array_equal(wanted[0, 0], [[0, 0], [1, 0], [1, 1]])


def test_no_case_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="at least one prepared case"):
        TileBatches([], plain())


def test_ignored_pixels_have_no_target_and_tiles_show_other_pixels(tmp_path: Path) -> None:
    planes = stack(tmp_path, (6, 40, 40))
    label = np.load(planes.label)
    known = label[2, 2:5, 3:6].copy()
    label[...] = 255
    label[2, 2:5, 3:6] = known  # scribbles: one annotated block on one plane
    np.save(planes.label, label)
    planes = replace(planes, label_planes=((1, (2,)),), known_planes=(2,))
    how = plain((8, 8), ignore=255, batch=20, foreground=0.0)
    _, wanted = TileBatches([[planes]], how)[0]
    assert set(np.unique(wanted)) <= {-1, 0, 1}
    assert ((wanted >= 0).sum(axis=(1, 2, 3)) > 0).all()
    ignored = targets(np.array([[[0, 255]]]), LABELS, softmax=True, ignore=255)
    np.testing.assert_array_equal(ignored, [[[[1, 0, 0], [-1, -1, -1]]]])


@given(st.sampled_from([(), (0,), (1,)]), st.integers(0, 99))
def test_a_tile_never_lacks_all_channels(missing: tuple[int, ...], seed: int) -> None:
    whole = PlaneStack("axial", Path("i"), Path("l"), (1, 4, 4), (1.0, 1.0), (), (), missing)
    how = plain(optional=(0, 1), channel_dropout=0.9)
    dropped = _dropped(whole, 2, how, np.random.default_rng(seed))
    assert len({*missing, *dropped}) < 2
    assert not set(missing) & set(dropped)


def test_dropped_channels_are_zeros_and_others_stay(tmp_path: Path) -> None:
    stacks = [[_two_channels(stack(tmp_path))]]
    whole = TileBatches(stacks, plain(batch=40))[0][0]
    tiles = TileBatches(stacks, plain(batch=40, optional=(1,), channel_dropout=0.5))[0][0]
    first, second = tiles[..., :3], tiles[..., 3:]
    lacking = ~second.any(axis=(1, 2, 3))
    assert 5 < lacking.sum() < 35
    assert first.any(axis=(1, 2, 3)).all()
    assert whole.shape == tiles.shape


def _two_channels(one: PlaneStack) -> PlaneStack:
    """The same planes with a second channel."""
    image = np.load(one.image)
    np.save(one.image, np.concatenate([image, image + 1], axis=-1))
    return one
