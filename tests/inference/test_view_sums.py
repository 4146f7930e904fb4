"""The sums of several views: exact enough, the same on disk, and nothing left behind."""

import errno
import os
from itertools import permutations

import numpy as np
import pytest

from voxtile.errors import EnvironmentFault
from voxtile.inference.view_sums import Accumulator
from voxtile.preparation.planes import to_planes

SHAPE, CLASSES = (7, 6, 5), 3
VIEWS = ("axial", "coronal", "sagittal")


@pytest.fixture(scope="module")
def said() -> dict[str, np.ndarray]:
    """What each view says of the canonical volume; extremes among it."""
    rng = np.random.default_rng(0)
    answers = {view: rng.random((*SHAPE, CLASSES), np.float32) for view in VIEWS}
    for answer in answers.values():
        answer[0] = 1
        answer[1] = 0
    return answers


def fused(said, order=VIEWS, **room) -> np.ndarray:
    total = Accumulator(SHAPE, CLASSES, **{"room_mb": 1.0, **room})
    for view in order:
        total.add(view, 1 / 3, to_planes(said[view], view))
    return np.stack(list(total.planes()), axis=2)


def test_the_mean_is_right_within_1e_5_for_each_view(said) -> None:
    mean = np.mean([said[view] for view in VIEWS], axis=0)
    np.testing.assert_allclose(fused(said), mean, atol=3e-5)


def test_what_rounding_leaves_beyond_0_and_1_does_not_wrap_around() -> None:
    total = Accumulator(SHAPE, 1, room_mb=1.0)
    for view, beyond in (("axial", -1e-3), ("coronal", 1 + 1e-3), ("sagittal", 1 + 1e-3)):
        answer = np.full((*SHAPE, 1), beyond, np.float32)
        total.add(view, 1 / 3, to_planes(answer, view))
    np.testing.assert_allclose(np.stack(list(total.planes()), axis=2), 2 / 3, atol=3e-5)


def test_shares_weigh_the_views(said) -> None:
    total = Accumulator(SHAPE, CLASSES, room_mb=1.0)
    total.add("axial", 0.75, to_planes(said["axial"], "axial"))
    total.add("sagittal", 0.25, to_planes(said["sagittal"], "sagittal"))
    mean = 0.75 * said["axial"] + 0.25 * said["sagittal"]
    np.testing.assert_allclose(np.stack(list(total.planes()), axis=2), mean, atol=2e-5)


def test_on_disk_is_in_memory_byte_for_byte_and_leaves_no_file(said, tmp_path) -> None:
    total = Accumulator(SHAPE, CLASSES, room_mb=0.0, scratch=tmp_path)
    assert total._file is not None
    assert Accumulator(SHAPE, CLASSES, room_mb=1.0)._file is None
    on_disk = fused(said, room_mb=0.0, scratch=tmp_path)
    assert on_disk.tobytes() == fused(said).tobytes()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no room can be asked for here")
def test_a_disk_without_room_is_told_before_the_first_plane(tmp_path, monkeypatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        assert length == np.prod(SHAPE) * CLASSES * 2
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(EnvironmentFault, match=r"no room for the sums .* \(No space left on dev"):
        Accumulator(SHAPE, CLASSES, room_mb=0.0, scratch=tmp_path)


def test_the_order_of_views_changes_nothing(said) -> None:
    results = {fused(said, order).tobytes() for order in permutations(VIEWS)}
    assert len(results) == 1


def test_many_views_that_are_sure_do_not_overflow() -> None:
    total = Accumulator((2, 2, 2), 1, room_mb=1.0)
    for _ in range(100):
        total.add("axial", 0.01, np.ones((2, 2, 2, 1), np.float32))
    sums = np.stack(list(total.planes()))
    np.testing.assert_allclose(sums, 1, atol=1e-5 * 100)


def test_planes_that_are_missing_are_refused(said) -> None:
    total = Accumulator(SHAPE, CLASSES, room_mb=1.0)
    with pytest.raises(ValueError, match="shorter"):
        total.add("axial", 1.0, to_planes(said["axial"], "axial")[:-1])
