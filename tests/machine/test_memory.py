"""How much memory there is, in containers too."""

from pathlib import Path

import pytest

from voxtile.machine import memory

MIB = 2**20


@pytest.fixture
def group(tmp_path: Path, monkeypatch) -> Path:
    """A control group without files, in place of the machine's."""
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    return tmp_path


def limit(group: Path, **files: object) -> None:
    for name, content in files.items():
        (group / f"memory.{name}").write_text(f"{content}\n")


def test_without_a_limit_memory_is_the_machines(group: Path) -> None:
    whole = memory.total_memory_mb()
    assert whole > 100
    limit(group, max="max", current=500 * MIB)
    assert memory.total_memory_mb() == whole
    assert 0 < memory.free_memory_mb() <= whole


def test_a_container_has_what_its_limit_says(group: Path) -> None:
    limit(group, max=64 * MIB, current=24 * MIB)
    assert memory.total_memory_mb() == pytest.approx(64 * MIB / 1e6)
    assert memory.free_memory_mb() == pytest.approx(40 * MIB / 1e6)


def test_files_in_the_cache_count_as_free(group: Path) -> None:
    limit(group, max=64 * MIB, current=60 * MIB)
    limit(group, stat=f"anon 1\ninactive_file {20 * MIB}\nactive_file 9")
    assert memory.free_memory_mb() == pytest.approx(24 * MIB / 1e6)


def test_a_full_container_has_nothing_rather_than_less(group: Path) -> None:
    limit(group, max=64 * MIB, current=65 * MIB)
    assert memory.free_memory_mb() == 0


def test_a_limit_above_the_machine_is_none(group: Path) -> None:
    whole = memory.total_memory_mb()
    limit(group, max=2**60, current=1)
    assert memory.total_memory_mb() == whole
    assert memory.free_memory_mb() <= whole


@pytest.mark.parametrize(
    ("line", "root", "most", "used", "cached"),
    [
        ("0::/slurm/job_7/step", "", "max", "current", "inactive_file"),
        ("0::/slurm/job_7/step", "unified", "max", "current", "inactive_file"),
        (
            "9:memory,hugetlb:/slurm/job_7/step",
            "memory",
            "limit_in_bytes",
            "usage_in_bytes",
            "total_inactive_file",
        ),
    ],
)
def test_the_tightest_of_the_groups_around_this_process_counts(
    group: Path, monkeypatch, line, root, most, used, cached
) -> None:
    own = group / "own"
    own.write_text(f"4:cpu:/elsewhere\n{line}\n")
    monkeypatch.setattr(memory, "_OWN_GROUPS", own)
    job = group / root / "slurm" / "job_7"
    (job / "step").mkdir(parents=True)
    limit(job / "step", **{most: "max" if most == "max" else 2**63 - 4096, used: 5 * MIB})
    limit(job, **{most: 90 * MIB, used: 60 * MIB, "stat": f"a 1\n{cached} {10 * MIB}"})
    assert memory.total_memory_mb() == pytest.approx(90 * MIB / 1e6)
    assert memory.free_memory_mb() == pytest.approx(40 * MIB / 1e6)
    # A group further out that others use too.
    limit(job.parent, **{most: 100 * MIB, used: 95 * MIB})
    assert memory.total_memory_mb() == pytest.approx(90 * MIB / 1e6)
    assert memory.free_memory_mb() == pytest.approx(5 * MIB / 1e6)


@pytest.mark.parametrize(
    "line", ["0::/../../other", "9:memory:/docker/abc", "no line of this kind"]
)
def test_a_path_of_the_host_leaves_the_container_s_own_limit(
    group: Path, monkeypatch, line
) -> None:
    own = group / "own"
    own.write_text(line)
    monkeypatch.setattr(memory, "_OWN_GROUPS", own)
    limit(group, max=64 * MIB, current=24 * MIB)
    assert memory.free_memory_mb() == pytest.approx(40 * MIB / 1e6)


def test_this_process_has_some_memory() -> None:
    assert memory.resident_memory_mb() > 10
