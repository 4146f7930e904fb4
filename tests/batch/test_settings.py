"""Settings of a batch."""

import pytest

from voxtile.batch.settings import BatchSettings
from voxtile.engines.options import Wish


def test_wrong_limits_are_refused() -> None:
    for settings, message in (
        ({"workers": -1}, "workers -1"),
        ({"retries": -1}, "retries -1"),
        ({"timeout_s": 0}, "timeout_s 0"),
        ({"max_failures": 0}, "max_failures 0"),
        ({"devices": (0, 1, 0)}, "different numbers"),
        ({"devices": (-1,)}, "at least 0"),
        ({"devices": (0,), "cluster": object()}, "GPUs of this machine"),
    ):
        with pytest.raises(ValueError, match=message):
            BatchSettings(**settings)


def test_each_card_has_a_worker_and_more_are_shared_out() -> None:
    assert [BatchSettings(workers, devices=(0, 1)).at_once for workers in (None, 1, 4)] == [2, 2, 4]
    assert not BatchSettings(devices=(0,)).in_process
    assert BatchSettings(devices=(2, 3)).engine(Wish("keras")) == Wish("keras", device="gpu:2")
    with pytest.raises(ValueError, match="--device gpu and --devices exclude each other"):
        BatchSettings(devices=(0,)).engine(Wish(device="gpu"))
