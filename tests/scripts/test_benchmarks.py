"""The instruments of scripts/bench measure what they say."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_memory_of_grandchildren_counts() -> None:
    from memory import measure

    # 200 MB in a child of the program, held for longer than a sampling period.
    child = "import time; held = b'x' * 200_000_000; time.sleep(0.6)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    usage = measure([sys.executable, "-c", program])
    assert 200 < usage.peak_mb < 260
    assert usage.seconds > 0.6
    assert usage.samples >= 3


def test_a_program_that_fails_is_not_measured() -> None:
    from memory import measure

    with pytest.raises(RuntimeError, match=r"ended with 3:\nwhy"):
        measure([sys.executable, "-c", "print('why'); raise SystemExit(3)"])


def test_contestants_take_turns_and_one_that_breaks_says_why(tmp_path: Path) -> None:
    from contest import contestants, take_turns
    from workload import scan

    path = str(tmp_path / "scan.nii.gz")
    wanted = {who: (f"write_{who}", {"path": path, "slices": 2}, {}) for who in ("ours", "nibabel")}
    with contestants(wanted) as started:
        times = take_turns(started, 2)
    assert {len(timing.seconds) for timing in times.values()} == {2}
    with contestants({"ours": ("read_ours", {"path": path}, {})}) as started:
        started["ours"].turn()
        started["ours"].keep(tmp_path / "read.npy")
    assert np.array_equal(np.load(tmp_path / "read.npy"), scan(2))
    with (
        contestants({"gone": ("read_ours", {"path": str(tmp_path / "no.nii")}, {})}) as started,
        pytest.raises(RuntimeError, match="contestant ended early"),
    ):
        started["gone"].turn()


def test_arithmetic_is_what_the_network_costs() -> None:
    import json

    from workload import Workload

    from voxtile.models.cost import cost_of
    from voxtile.models.unet import build_unet

    workload = Workload(filters=4, classes=3, depth=2)
    model = build_unet((None, None, 1), 3, filters=4, depth=2, normalisation="batch")
    config = {"config": json.loads(model.to_json())["config"]}
    assert workload.flops_per_pixel() == pytest.approx(cost_of(config).flops, rel=0.02)


def test_a_plot_is_an_image(tmp_path: Path) -> None:
    from plots import Line, Panel, write_svg

    path = tmp_path / "plot.svg"
    write_svg(path, [Panel("time, s", "slices", (Line("voxtile", ((300, 9.0), (600, 18.0))),))])
    assert ElementTree.parse(path).getroot().tag.endswith("svg")
