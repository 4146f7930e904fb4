"""How many processors may be used, and of which kind."""

import os
from pathlib import Path

import pytest

from voxtile.machine import processors
from voxtile.machine.processors import processor_count, processor_model, thread_count


@pytest.mark.parametrize("named", ["3", "3,1"])
def test_a_run_may_set_the_threads_of_its_workers(
    monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", named)
    assert thread_count() == 3
    assert processor_count() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("named", ["", "0", "many"])
def test_other_values_mean_every_processor(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", named)
    assert thread_count() == processor_count()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor : 0\nmodel name\t: Xeon 6\nflags\t\t: fpu avx2\n\nflags\t: other\n",
            ("Xeon 6", frozenset({"fpu", "avx2"})),
        ),
        ("processor : 0\nFeatures\t: asimd sve\n", ("aarch64", frozenset({"asimd", "sve"}))),
        ("", ("aarch64", frozenset())),
    ],
)
def test_linux_describes_the_processor(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[str, frozenset[str]]
) -> None:
    monkeypatch.setattr(processors.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    assert processor_model() == expected
