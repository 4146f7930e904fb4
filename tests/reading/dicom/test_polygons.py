"""Laws of filling polygons: what must hold for any contours on a slice."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from voxtile.reading.dicom import polygons as polygon_module
from voxtile.reading.dicom.polygons import count_crossed, fill, rasterise

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
    mask, between = rasterise([], (3, 4, 5))
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
    mask, _ = rasterise(polygons, (512, 512, 3))
    sizes = []
    monkeypatch.setattr(
        polygon_module, "fill", lambda some, shape: sizes.append(shape) or fill(some, shape)
    )
    assert count_crossed(polygons, mask) == (0, 0)
    assert len(sizes) == len(polygons)
    assert sum(rows * columns for rows, columns in sizes) < 3 * 512 * 512
