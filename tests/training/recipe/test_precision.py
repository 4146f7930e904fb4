"""The rate of a fit is that of the device that will fit."""

from math import inf
from pathlib import Path

import pytest

from voxtile.engines import device_rate
from voxtile.training.fitting import learner
from voxtile.training.recipe import precision
from voxtile.training.recipe.budget_rules import GpuRate
from voxtile.training.recipe.precision import fitting_rate


def test_a_processor_counts_though_the_machine_has_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def rate(device: str) -> float | None:
        asked.append(device)
        return None if device == "gpu:1" else 4.0**24

    driver = tmp_path / "driver"
    monkeypatch.setattr(precision, "Path", lambda name: driver)
    monkeypatch.setattr(device_rate, "device_rate", rate)
    monkeypatch.setattr(learner, "has_gpu", lambda: True)
    monkeypatch.setattr(precision, "thread_count", lambda: 2)
    assert fitting_rate("auto") == 2 * 60e9  # there is no driver
    driver.touch()
    assert fitting_rate("cpu") == 2 * 60e9 and asked == []
    assert fitting_rate("auto") == GpuRate(4.0**24 / 4) and fitting_rate("gpu:1") == inf
    assert isinstance(fitting_rate("gpu:2"), GpuRate)
    assert asked == ["gpu", "gpu:1", "gpu:2"]
