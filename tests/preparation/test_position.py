"""Channels that say where in its scan a pixel is."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from voxtile.models.spec import POSITION_CHANNELS
from voxtile.preparation.position import of_plane, of_tile, position_channels, relative


@given(st.integers(1, 300))
def test_positions_go_from_minus_one_to_one_and_are_antisymmetric(count: int) -> None:
    where = relative(np.arange(count), count)
    assert where.dtype == np.float32
    np.testing.assert_array_equal(where, -where[::-1])
    assert (where[0], where[-1]) == ((0, 0) if count == 1 else (-1, 1))
    assert (np.diff(where) > 0).all()
    np.testing.assert_array_equal(relative(np.array([-5, count + 5]), count), where[[0, -1]])


def test_a_plane_has_the_position_of_its_rows_its_columns_and_itself() -> None:
    where = of_plane((3, 5), 1, 5)
    assert where.shape == (3, 5, POSITION_CHANNELS)
    np.testing.assert_array_equal(where[:, 0, 0], [-1, 0, 1])
    np.testing.assert_array_equal(where[0, :, 1], [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(where[..., 2], -0.5)


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.data())
def test_a_tile_has_the_positions_of_its_pixels_on_the_plane(
    plane: tuple[int, int], data: st.DataObject
) -> None:
    tile = data.draw(st.tuples(*(st.integers(1, size) for size in plane)))
    first = data.draw(st.tuples(*(st.integers(0, n - m) for n, m in zip(plane, tile, strict=True))))
    rows, columns = of_tile(plane, first, tile)
    found = position_channels(rows, columns, relative(0, 1))
    (row, column), (height, width) = first, tile
    whole = of_plane(plane, 0, 1)
    np.testing.assert_array_equal(found, whole[row : row + height, column : column + width])
