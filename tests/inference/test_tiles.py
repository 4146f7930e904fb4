"""Tiles through networks: mirrored and back, empty ones left out, in order."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import make_spec

from voxtile.errors import CaseError
from voxtile.inference.tiles import Panel, batch_for, predict_planes
from voxtile.models.spec import Label
from voxtile.preparation.plan import Tiling, make_plan

TILING = Tiling((4, 4), (0, 0), "constant", 3)


def odds(tiles: np.ndarray) -> np.ndarray:
    """A pixel for itself: mirrors with its input."""
    return np.concatenate([1 - tiles, tiles], axis=-1)


def corner(tiles: np.ndarray) -> np.ndarray:
    """Only the first pixel of a tile counts, whatever the input."""
    found = np.zeros((*tiles.shape[:3], 2), np.float32)
    found[:, 0, 0, 1] = 1
    return found


def random_tiles(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 4, 4, 1), np.float32)


@pytest.mark.parametrize("flips", [(), (0,), (1,), (0, 1)])
def test_a_model_that_mirrors_with_its_input_gives_the_same_answer(flips) -> None:
    tiles = random_tiles(3)
    seen = Panel(((odds, 1.0),), 2, flips).judge(tiles)
    np.testing.assert_allclose(seen, odds(tiles), atol=1e-6)


@pytest.mark.parametrize(
    ("flips", "corners"),
    [
        ((), {(0, 0): 1.0}),
        ((0,), {(0, 0): 0.5, (3, 0): 0.5}),
        ((1,), {(0, 0): 0.5, (0, 3): 0.5}),
        ((0, 1), {(0, 0): 0.25, (3, 0): 0.25, (0, 3): 0.25, (3, 3): 0.25}),
    ],
)
def test_mirrored_answers_are_mirrored_back(flips, corners) -> None:
    seen = Panel(((corner, 1.0),), 2, flips).judge(random_tiles(2))
    expected = np.zeros((4, 4), np.float32)
    for place, share in corners.items():
        expected[place] = share
    np.testing.assert_allclose(seen[..., 1], np.broadcast_to(expected, (2, 4, 4)))


def test_networks_are_weighed() -> None:
    def sure(value: float):
        return lambda tiles: np.full((*tiles.shape[:3], 1), value, np.float32)

    panel = Panel(((sure(1.0), 3.0), (sure(0.0), 1.0)), 1, (0,))
    np.testing.assert_allclose(panel.judge(random_tiles(1)), 0.75)


def test_a_judgement_changes_neither_tiles_nor_what_a_model_keeps() -> None:
    tiles = random_tiles(2)
    before = tiles.copy()
    kept = np.full((2, 4, 4, 2), 0.5, np.float32)
    Panel(((lambda _: kept, 1.0), (odds, 1.0)), 2, (0, 1)).judge(tiles)
    np.testing.assert_array_equal(tiles, before)
    assert (kept == 0.5).all()


def test_an_answer_of_another_shape_or_kind_is_the_networks_error() -> None:
    message = r"network gave shape \(2, 4, 4, 2\) of float32 for tiles .*; \(2, 4, 4, 3\) of"
    with pytest.raises(CaseError, match=message) as caught:
        Panel(((odds, 1.0),), 3).judge(random_tiles(2))
    assert caught.value.code == "network_failed"
    for answer in (None, "text", np.zeros((2, 4, 4, 1), complex)):
        with pytest.raises(CaseError, match="of float32 was needed"):
            Panel(((lambda _, answer=answer: answer, 1.0),), 1).judge(random_tiles(2))


def test_what_a_network_raises_is_reported_as_the_networks_with_its_own_words() -> None:
    def failing(_: np.ndarray) -> np.ndarray:
        raise RuntimeError("weights of layer 3 are missing\nand more")

    message = r"raised RuntimeError: weights of layer 3 are missing \(test_tiles.py line \d+\) for"
    with pytest.raises(CaseError, match=message) as caught:
        Panel(((failing, 1.0),), 1).judge(random_tiles(2))
    assert "bug in voxtile" not in str(caught.value)

    def full(_: np.ndarray) -> np.ndarray:
        raise MemoryError

    with pytest.raises(MemoryError):
        Panel(((full, 1.0),), 1).judge(random_tiles(2))


@pytest.mark.parametrize(("low", "high"), [(-3.0, 0.5), (0.0, 2.0), (-0.01, 1.0)])
def test_logits_are_refused_with_what_to_do(low: float, high: float) -> None:
    answer = np.full((2, 4, 4, 2), low, np.float32)
    answer[..., 1] = high
    with pytest.raises(CaseError, match=r'"output": "logits".* or softmax or sigmoid') as caught:
        Panel(((lambda _: answer, 1.0),), 2).judge(random_tiles(2))
    assert caught.value.code == "not_probabilities"


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 1000))
def test_empty_tiles_are_not_judged_and_the_rest_keep_their_order(busy, batch, seed) -> None:
    judged: list[np.ndarray] = []

    def counting(tiles: np.ndarray) -> np.ndarray:
        judged.extend(tile for tile in tiles if tile.any())
        return odds(tiles)

    # Planes of 4 x 8 pixels: two tiles each, of which some hold nothing.
    planes = 0.5 + random_tiles(len(busy), seed).repeat(2, axis=2) / 4
    occupied = np.zeros((len(busy), 4, 8), bool)
    occupied[:, 0, 0] = busy  # left tiles
    occupied[:, 3, 7] = busy[::-1]  # right tiles
    panel = Panel(((counting, 1.0),), 2, empty=(0.25, 0.75))
    tiling = Tiling((4, 4), (0, 0), "constant", batch)
    found = list(predict_planes(iter(planes), (4, 8), tiling, panel, iter(occupied)))
    assert len(judged) == 2 * sum(busy)
    for plane, seen, left, right in zip(planes, found, busy, busy[::-1], strict=True):
        for worth, half in ((left, slice(0, 4)), (right, slice(4, 8))):
            expected = odds(plane[np.newaxis, :, half])[0] if worth else [0.25, 0.75]
            np.testing.assert_allclose(
                seen[:, half], np.broadcast_to(expected, (4, 4, 2)), atol=1e-6
            )


def test_planes_of_nothing_at_all_call_no_model() -> None:
    def never(tiles: np.ndarray) -> np.ndarray:
        raise AssertionError("an empty tile was judged")

    planes = np.ones((300, 4, 4, 1), np.float32)
    panel = Panel(((never, 1.0),), 2, empty=(1.0, 0.0))
    nothing = np.zeros((300, 4, 4), bool)
    found = list(predict_planes(iter(planes), (4, 4), TILING, panel, iter(nothing)))
    assert len(found) == 300
    assert all((plane == [1, 0]).all() for plane in found)


@given(st.integers(1, 9), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_judging_ahead_changes_nothing(planes: int, batch: int, ahead: bool, seed: int) -> None:
    tiles = random_tiles(planes, seed)
    tiling = Tiling((4, 4), (0, 0), "constant", batch, ahead)
    panel = Panel(((odds, 1.0),), 2)
    alone = list(predict_planes(iter(tiles), (4, 4), tiling, panel))
    with ThreadPoolExecutor(1) as pool:
        threaded = list(predict_planes(iter(tiles), (4, 4), tiling, panel, pool=pool))
    np.testing.assert_array_equal(threaded, alone)


@pytest.mark.parametrize("ahead", [True, False])
def test_a_batch_is_judged_while_the_one_before_it_is_used(ahead: bool) -> None:
    second, used = threading.Event(), threading.Event()
    calls = []

    def slow(tiles: np.ndarray) -> np.ndarray:
        calls.append(len(tiles))
        if len(calls) == 2:
            second.set()
            assert used.wait(10)
        return odds(tiles)

    tiling = Tiling((4, 4), (0, 0), "constant", 1, ahead)
    panel = Panel(((slow, 1.0),), 2)
    with ThreadPoolExecutor(1) as pool:
        found = predict_planes(iter(random_tiles(4)), (4, 4), tiling, panel, pool=pool)
        next(found)
        assert second.wait(10 if ahead else 0.1) == ahead
        used.set()
        assert len(list(found)) == 3


def test_what_a_network_raises_ahead_is_raised_in_its_turn() -> None:
    answers = iter((odds, odds))

    def failing(tiles: np.ndarray) -> np.ndarray:
        answer = next(answers, None)
        if answer is None:
            raise CaseError("model", "the third batch cannot be judged")
        return answer(tiles)

    tiling = Tiling((4, 4), (0, 0), "constant", 1)
    with ThreadPoolExecutor(1) as pool:
        found = predict_planes(
            iter(random_tiles(5)), (4, 4), tiling, Panel(((failing, 1.0),), 2), pool=pool
        )
        assert [len(next(found)), len(next(found))] == [4, 4]
        with pytest.raises(CaseError, match="the third batch"):
            next(found)


def test_a_hundred_classes_are_not_held_twice() -> None:
    spec = make_spec(
        labels=tuple(Label(value=n, name=f"l{n}", color="#000000") for n in range(1, 105)),
        activation="softmax",
        tile=(512, 512),
    )
    assert not make_plan(spec).for_plane((512, 512)).ahead
    assert make_plan(make_spec(tile=(512, 512))).for_plane((512, 512)).ahead


def test_batches_are_of_few_sizes() -> None:
    sizes = []

    def counting(tiles: np.ndarray) -> np.ndarray:
        sizes.append(len(tiles))
        return odds(tiles)

    tiling = Tiling((4, 4), (0, 0), "constant", 8)
    list(predict_planes(iter(random_tiles(19)), (4, 4), tiling, Panel(((counting, 1.0),), 2)))
    assert sizes == [8, 8, 4]  # three tiles are left, and one more fills the batch


@given(st.integers(1, 64).flatmap(lambda most: st.tuples(st.integers(1, most), st.just(most))))
def test_a_batch_is_filled_up_to_one_of_few_sizes(pair) -> None:
    tiles, most = pair
    size = batch_for(tiles, most)
    assert tiles <= size <= most
    assert size in {most >> halvings for halvings in range(7)}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_probabilities_that_are_no_numbers_fail_the_case(bad) -> None:
    def broken(tiles: np.ndarray) -> np.ndarray:
        answer = odds(tiles)
        answer[-1, 1, 1, 0] = bad
        return answer

    panel = Panel(((broken, 1.0),), 2)
    with pytest.raises(CaseError, match="NaN or infinite probabilities") as caught:
        list(predict_planes(iter(random_tiles(3)), (4, 4), TILING, panel))
    assert caught.value.code == "not_finite_output"
