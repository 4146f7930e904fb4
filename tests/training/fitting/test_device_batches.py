"""A device cuts the tiles that the processor cuts, from the same choices, with each backend.

On a machine without a GPU the device is the processor: `KERAS_BACKEND=jax` (torch, tensorflow)
tests the same functions with each backend.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device_tiles import PROCESSOR, cut, held, plain, stack

from voxtile.models.spec import Label
from voxtile.training.fitting.augmentation import Augmentation
from voxtile.training.fitting.dataset import Sampling, TileBatches, targets
from voxtile.training.fitting.device_batches import on_device
from voxtile.training.fitting.rotation import STEPS

# Everything but noise, which a device draws in another way.
STRONG = Augmentation(geometry_rate=0.8, intensity_rate=0.5, noise=0)


def expected(batches: TileBatches, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The same batch of the processor."""
    how = batches.sampling
    parts = [batches.cut(one) for one in batches.choices(number, patterns=False)]
    labels = np.stack([label for _, label in parts])
    return np.stack([image for image, _ in parts]), targets(
        labels, how.labels, softmax=how.softmax, ignore=how.ignore
    )


@pytest.mark.parametrize(("tile", "position"), [((24, 32), True), ((16, 48), False)])
def test_the_same_choices_give_the_same_tiles(
    tmp_path: Path, tile: tuple[int, int], position: bool
) -> None:
    shapes = (5, 30, 40), (9, 20, 60), (3, 15, 14), (2, 1, 9), (1, 64, 64)
    cases = [[stack(tmp_path, shape)] for shape in shapes]
    how = plain(tile, batch=48, flips=("R", "A", "S"), augmentation=STRONG, seed=3)
    how = replace(how, position=position)
    batches = TileBatches(cases, how)
    found = held(batches)
    assert "float16" in str(found.stored(0)["images"].dtype)
    for number in (0, 7):
        tiles, wanted = cut(found, number)
        known, truth = expected(batches, number)
        assert tiles.dtype == wanted.dtype == np.float32
        assert tiles.shape == known.shape
        # Planes are in float16, with 11 bits.
        np.testing.assert_allclose(tiles, known, atol=5e-3)
        assert np.abs(tiles - known).mean() < 2e-4
        # A coordinate halfway between two pixels may be rounded to either.
        assert (wanted != truth).any(axis=-1).mean() < 1e-4


def test_large_offsets_are_kept_in_float32(tmp_path: Path) -> None:
    batches = TileBatches(
        [[stack(tmp_path, offset=3000.0)]], plain(augmentation=replace(STRONG, intensity_rate=0))
    )
    found = held(batches)
    assert "float32" in str(found.stored(0)["images"].dtype)
    np.testing.assert_allclose(cut(found, 0)[0], expected(batches, 0)[0], atol=2e-3)


def test_regions_and_values_above_255_are_those_of_the_processor(tmp_path: Path) -> None:
    values = (1, 300, 40000)
    regions = (
        Label(value=1, name="whole", color="#000000", region=(1, 300)),
        Label(value=300, name="core", color="#ffffff"),
    )
    batches = TileBatches(
        [[stack(tmp_path, values=values)]], plain(labels=regions, softmax=False, batch=9)
    )
    tiles, wanted = cut(held(batches), 0)
    known, truth = expected(batches, 0)
    np.testing.assert_array_equal(wanted, truth)
    np.testing.assert_allclose(tiles, known, atol=5e-3)


def test_ignored_pixels_have_no_target_on_a_device(tmp_path: Path) -> None:
    planes = stack(tmp_path)
    label = np.load(planes.label)
    label[:, ::2] = 255
    np.save(planes.label, label)
    every = tuple(range(len(label)))
    planes = replace(planes, label_planes=(), known_planes=every)
    batches = TileBatches([[planes]], plain(batch=9, ignore=255))
    wanted, truth = cut(held(batches), 0)[1], expected(batches, 0)[1]
    np.testing.assert_array_equal(wanted, truth)
    assert (wanted == -1).any() and (wanted == 1).any()


def noise_of(tmp_path: Path, how: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """The tiles of a batch minus those without noise; and the standard deviations of the latter."""
    silent = replace(how, augmentation=replace(how.augmentation, noise=0))
    one, other = (held(TileBatches([[stack(tmp_path)]], each)) for each in (how, silent))
    noisy, still = cut(one, 0)[0], cut(other, 0)[0]
    return noisy - still, still.std(axis=(1, 2, 3))


def test_noise_has_the_moments_of_a_normal_distribution(tmp_path: Path) -> None:
    only = replace(Augmentation.none(), intensity_rate=1.0, noise=0.5)
    only = replace(only, blur_pixels=(0.01, 0.02), brightness=0.0, contrast=(1, 1), gamma=(1, 1))
    only = replace(only, low_resolution=(1.0, 1.0))
    how = plain((32, 32), batch=64, context_slices=3, augmentation=only)
    noise, deviation = noise_of(tmp_path, how)
    strength = noise.reshape(64, -1, 2, 3).std(axis=(1, 3)) / deviation[:, None]
    # Uniform between 0 and a half, for each channel.
    assert 0 < strength.min() < 0.05 and 0.45 < strength.max() < 0.55
    assert strength.mean() == pytest.approx(0.25, abs=0.04)
    unit = (noise.reshape(64, -1, 2, 3) / strength[:, None, :, None]).swapaxes(1, 2)
    unit = unit.reshape(128, -1) / np.repeat(deviation, 2)[:, None]
    assert np.abs(unit.mean(axis=1)).max() < 0.1
    assert (unit**4).mean() == pytest.approx(3, abs=0.1)
    assert np.abs(unit).max() > 4
    # No two channels or tiles have the same noise, and neighbours are independent.
    alike = np.corrcoef(unit) - np.eye(128)
    assert np.abs(alike).max() < 0.1
    assert abs(np.corrcoef(unit[:, 1:].ravel(), unit[:, :-1].ravel())[0, 1]) < 0.01


def test_both_have_the_same_moments(tmp_path: Path) -> None:
    cases = [[stack(tmp_path, (5, 30, 40), offset=1)], [stack(tmp_path, (9, 20, 60))]]
    how = plain((24, 32), batch=400, augmentation=Augmentation(intensity_rate=0.5, noise=0.5))
    batches = TileBatches(cases, how)
    (ours, wanted), (theirs, truth) = cut(held(batches), 0), batches[1]
    for moment in (np.mean, np.std):
        here, there = (
            np.sort(moment(part, axis=(1, 2, 3))).reshape(8, -1).mean(axis=1)
            for part in (ours, theirs)
        )
        np.testing.assert_allclose(here, there, atol=0.12)
    np.testing.assert_allclose(wanted.mean(axis=(0, 1, 2)), truth.mean(axis=(0, 1, 2)), atol=0.02)


def test_planes_that_do_not_fit_stay_on_the_processor(tmp_path: Path) -> None:
    batches = TileBatches([[stack(tmp_path)]], plain())
    assert on_device(batches, PROCESSOR, memory_mb=0.03) is None
    # 6000 pixels of two channels in float16, and their labels.
    assert on_device(batches, PROCESSOR, memory_mb=0.04) is not None


def test_groups_of_cases_take_turns_where_not_all_fit(tmp_path: Path) -> None:
    cases = [[stack(tmp_path, (5, 10, columns))] for columns in range(11, 21)]
    how = plain()
    batches = TileBatches(cases, how)
    # All have 7750 pixels of 6 bytes. There are three groups at a time, of at most 2048 pixels.
    found = on_device(batches, PROCESSOR, memory_mb=6150 * 6e-6)
    assert found is not None
    begins = sorted({found.rotation.at(step)[0] for step in range(10 * STEPS)})
    groups = [found.rotation.at(step)[1] for step in begins]
    assert len(groups) in (4, 5) and sorted(sum(groups, ())) == list(range(10))
    programs = set()
    for number in (0, begins[1], 1):
        tiles, wanted = cut(found, number)
        group = found.rotation.at(number)[1]
        chosen = batches.choices(number, patterns=False, among=group)
        known, truth = zip(*(batches.cut(one) for one in chosen), strict=True)
        np.testing.assert_allclose(tiles, np.stack(known), atol=5e-3)
        expected = targets(np.stack(truth), how.labels, softmax=how.softmax)
        np.testing.assert_array_equal(wanted, expected)
        shapes = {name: tuple(one.shape) for name, one in found.stored(number).items()}
        programs.add(tuple(shapes.items()))
    assert len(programs) == 1  # groups of other sizes would be compiled again


def test_a_batch_is_decided_by_seed_and_number_alone(tmp_path: Path) -> None:
    batches = TileBatches([[stack(tmp_path)]], plain(augmentation=Augmentation()))
    one, other = held(batches), held(batches)
    one[0], one[4]
    for ours, theirs, later in zip(one[7], other[7], one[8], strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert np.ndim(ours) == 0 or not np.array_equal(ours, later)


def test_the_same_channels_are_dropped_on_a_device(tmp_path: Path) -> None:
    how = plain(batch=12, optional=(0, 1), channel_dropout=0.4)
    batches = TileBatches([[stack(tmp_path)]], how)
    tiles, _ = cut(held(batches), 3)
    np.testing.assert_allclose(np.asarray(tiles), batches[3][0], atol=1e-3)
    assert (np.asarray(tiles) == 0).all(axis=(1, 2)).any()
