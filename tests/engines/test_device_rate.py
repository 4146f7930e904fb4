"""The rate of a GPU is measured once, and a busy GPU counts as an idle one."""

from pathlib import Path

import pytest

from voxtile.engines import short_numbers
from voxtile.engines.device_rate import device_rate, measured_rate


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path))


def test_a_rate_is_a_power_of_four_and_measured_once() -> None:
    assert device_rate("gpu", lambda device: 4.0**24 * 1.7) == 4.0**24
    assert device_rate("gpu", lambda device: pytest.fail("measured again")) == 4.0**24


def test_a_busy_gpu_has_the_rate_of_an_idle_one(tmp_path: Path) -> None:
    idle = device_rate("gpu", lambda device: 4.0**24 * 1.2)
    for path in (tmp_path / "arithmetic").iterdir():
        path.unlink()
    assert device_rate("gpu", lambda device: 4.0**24 * 0.6) == idle


def test_a_gpu_that_cannot_be_measured_has_no_rate() -> None:
    def broken(device: str) -> float:
        raise RuntimeError("no kernel")

    assert device_rate("gpu", broken) is None
    assert device_rate("gpu", lambda device: 1.0) == 1  # and nothing wrong was cached


def test_convolutions_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_numbers, "_TRIAL_S", 0.0)
    assert measured_rate("cpu", (1, 8, 4, 2)) > 0
