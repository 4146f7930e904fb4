"""Which values a label map has: as numpy.unique says, for any kind and order of memory."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxtile import label_values as module
from voxtile.label_values import label_values

label_maps = hnp.arrays(
    st.sampled_from((np.uint8, np.uint16, np.int16, np.int64)),
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=6),
)


@given(label_maps, st.permutations(range(3)), st.booleans())
def test_the_values_are_those_of_unique(array: np.ndarray, order: list[int], flip: bool) -> None:
    turned = array.transpose(order)[:: -1 if flip else 1]
    assert label_values(turned) == np.unique(array).tolist()


def test_a_value_in_the_last_slab_alone_is_seen() -> None:
    array = np.zeros((3, module._SLAB), np.uint16)
    array[-1, -1] = 65535
    assert label_values(array) == [0, 65535]
