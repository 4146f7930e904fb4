"""Settings of a batch."""

import pytest

from voxtile.batch.settings import BatchSettings


def test_wrong_limits_are_refused() -> None:
    for settings, message in (
        ({"workers": -1}, "workers -1"),
        ({"retries": -1}, "retries -1"),
        ({"timeout_s": 0}, "timeout_s 0"),
        ({"max_failures": 0}, "max_failures 0"),
    ):
        with pytest.raises(ValueError, match=message):
            BatchSettings(**settings)
