"""Laws of filling polygons: what must hold for any contours on a slice."""

from itertools import combinations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from voxtile.reading.dicom import polygons as polygon_module
from voxtile.reading.dicom.polygons import count_crossed, fill, place, rasterise

shapes = st.lists(
    st.tuples(st.floats(-3, 12, width=32), st.floats(-3, 12, width=32)), min_size=3, max_size=8
).map(lambda points: np.array(points, np.float64))


@given(st.lists(shapes, min_size=1, max_size=3), st.integers(0, 7))
def test_the_first_point_and_direction_of_a_polygon_do_not_matter(several, turn) -> None:
    changed = [np.roll(polygon, turn, axis=0)[::-1] for polygon in several]
    filled = fill(several, (10, 9))
    again = fill(changed, (10, 9))
    # Turning an edge round may round its crossing the other way, exactly on a centre.
    assert (filled != again).sum() <= len(several)


@given(shapes, shapes)
def test_two_polygons_fill_their_symmetric_difference(one, other) -> None:
    both = fill([one, other], (10, 9))
    np.testing.assert_array_equal(both, fill([one], (10, 9)) ^ fill([other], (10, 9)))


@given(st.integers(1, 8), st.integers(1, 8))
def test_polygons_that_share_an_edge_share_no_pixel(row, column) -> None:
    whole = np.array([[0, 0], [0, 9], [9, 9], [9, 0]], float)
    left, right = whole.copy(), whole.copy()
    left[1:3, 1] = right[[0, 3], 1] = column
    np.testing.assert_array_equal(
        fill([left], (9, 9)) ^ fill([right], (9, 9)), fill([whole], (9, 9))
    )
    assert fill([whole], (9, 9)).all()
    assert not (fill([left], (9, 9)) & fill([right], (9, 9))).any()


def test_without_polygons_the_mask_is_empty() -> None:
    mask, between = rasterise(place([], (3, 4, 5)), (3, 4, 5))
    assert mask.shape == (3, 4, 5)
    assert not mask.any()
    assert between == 0


def test_each_of_many_polygons_on_a_slice_is_filled_once_to_compare_them(monkeypatch) -> None:
    corners = np.array([[-1.0, -1], [-1, 1], [1, 1], [1, -1]])
    places = np.stack(np.meshgrid(np.arange(15, 500, 10), np.arange(15, 500, 10)), -1).reshape(
        -1, 2
    )
    flats = [256 + 252.5 * corners, *(place + 3.5 * corners for place in places.tolist())]
    polygons = [np.insert(flat, 2, 1.0, axis=1) for flat in flats]
    placed = place(polygons, (512, 512, 3))
    mask, _ = rasterise(placed, (512, 512, 3))
    sizes = []
    monkeypatch.setattr(
        polygon_module, "fill", lambda some, shape: sizes.append(shape) or fill(some, shape)
    )
    assert count_crossed(placed, mask) == (0, 0)
    assert len(sizes) == len(polygons)
    assert sum(rows * columns for rows, columns in sizes) < 3 * 512 * 512


def crossed_by_pairs(polygons) -> np.ndarray:
    """Pixels in two polygons neither of which is inside the other, from the definition."""
    crossed = np.zeros((10, 9), bool)
    masks = [fill([polygon], (10, 9)) for polygon in polygons]
    for one, other in combinations(masks, 2):
        both = one & other
        if both.any() and (one & ~other).any() and (other & ~one).any():
            crossed |= both
    return crossed


def test_a_contour_that_is_a_line_is_on_the_slice_where_it_was_drawn() -> None:
    line = np.array([[0, 1.5, 1], [0, 1.5, 1], [1, 1.5, 1]])  # flat across two axes
    placed = place([line], (10, 9, 3))
    assert (placed.axis, list(placed.by_slice)) == (2, [1])


@given(st.lists(shapes, max_size=6))
def test_crossings_are_those_of_the_definition(flats) -> None:
    placed = place([np.insert(flat, 2, 1.0, axis=1) for flat in flats], (10, 9, 3))
    mask, _ = rasterise(placed, (10, 9, 3))
    assume(placed.axis == 2)
    expected = crossed_by_pairs(placed.by_slice.get(1, []))
    count, outside = count_crossed(placed, mask)
    assert count == expected.sum()
    assert outside == (expected & ~mask[:, :, 1]).sum()


def test_each_slice_of_many_gives_a_sign_of_life() -> None:
    corners = np.array([[1.0, 1], [1, 3], [3, 3], [3, 1]])
    polygons = [np.insert(corners + shift, 2, k, axis=1) for k in range(5) for shift in (0, 4)]
    placed = place(polygons, (9, 9, 5))
    said: list[str] = []
    mask, _ = rasterise(placed, (9, 9, 5), said.append)
    assert said == [f"slice {k}" for k in range(5)]
    count_crossed(placed, mask, said.append)
    assert len(said) == 5 + len(polygons)
