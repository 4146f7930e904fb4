"""A few tries of each fault; ``scripts/faults`` runs them all."""

import errno
import os
import random
import re
import sys
from pathlib import Path

import disk_faults
import fault_table
import faults
import pytest
from faulty import VALID, alive, descendants, make_cases, series_cases
from phantoms import ball

from voxtile.phantoms.dicom import write_series

ROOT_ON_LINUX = os.name == "posix" and os.geteuid() == 0 and Path("/proc/self/ns/mnt").exists()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> faults.World:
    return faults.World(tmp_path_factory.mktemp("world"), 20)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_that_is_killed_is_resumed(world: faults.World, seed: int) -> None:
    faults.kill_run(world, random.Random(seed))


@pytest.mark.parametrize("seed", [2])
def test_a_run_whose_worker_is_killed_does_every_case(world: faults.World, seed: int) -> None:
    faults.kill_worker(world, random.Random(seed))


@pytest.mark.parametrize("seed", [2])
def test_a_run_that_is_interrupted_says_how_to_resume(world: faults.World, seed: int) -> None:
    faults.interrupt(world, random.Random(seed))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells who lives")
def test_no_decoder_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    image, _ = ball()
    manifest = make_cases(tmp_path, {f"c{number}": VALID for number in range(9)})
    write_series(tmp_path / "series", image)
    manifest.write_text(manifest.read_text().replace("c0.nii.gz,c0_label.nii.gz", "series,"))
    run = faults.start(manifest, tmp_path / "out", workers=1, pause_s=0.5)
    # The decoder that read the first case stays for the next.
    record = tmp_path / "out/cases/c0.json"
    assert faults.wait_until(record.exists, 60)
    family = descendants(run.pid)
    assert len(family) == 2
    run.kill()
    faults.finish(run)
    assert faults.wait_until(lambda: not any(map(alive, family)), faults.OUTLIVE_S)


def test_one_folder_has_one_run(tmp_path: Path) -> None:
    faults.start_two(faults.World(tmp_path, 4), random.Random(1))


def test_a_rerun_completes_after_any_failed_write(tmp_path: Path) -> None:
    world = faults.World(tmp_path, 1)
    assert disk_faults.every_write(world, errno.ENOSPC, step=5) > 6


def test_a_stale_file_is_named_and_a_rerun_completes(tmp_path: Path) -> None:
    assert fault_table.stale_reads(faults.World(tmp_path, 1), 15) > 1


@pytest.mark.skipif(not ROOT_ON_LINUX, reason="only root can mount")
@pytest.mark.parametrize("name", ["full", "read-only"])
def test_a_run_on_a_real_disk_that_fails_is_resumed(name: str) -> None:
    if not disk_faults.can_mount():
        pytest.skip("mounting is not permitted here")
    assert disk_faults.in_namespace(name, 40) > 1


def test_a_run_that_dies_within_a_write_is_resumed() -> None:
    """In a process of its own: one with threads must not fork."""
    line = fault_table.run_apart("kill -9 of the run at each of its writes", 0.03)
    assert re.search(r"\| [2-9] \| 0 \| 0 \| 0 \| 0 \|", line), line


@pytest.mark.skipif(not ROOT_ON_LINUX, reason="only root can name a host")
def test_one_folder_has_the_run_of_one_host(tmp_path: Path) -> None:
    faults.two_hosts(faults.World(tmp_path, 2), random.Random(1))


@pytest.mark.skipif(not ROOT_ON_LINUX, reason="only root can become another user")
def test_a_run_with_few_processes_says_so_or_completes(tmp_path: Path) -> None:
    faults.few_processes(faults.World(tmp_path, 1), 3)


def test_a_run_whose_decoder_is_killed_does_every_case(tmp_path: Path) -> None:
    faults.kill_decoder(faults.World(tmp_path, 2, series_cases), random.Random(1))


@pytest.mark.skipif(not ROOT_ON_LINUX, reason="only root can mount")
@pytest.mark.parametrize("what", ["read-only folder", "full disk", "missing HOME", "no /dev/shm"])
def test_a_bad_environment_is_reported_before_the_first_case_or_harmless(
    tmp_path: Path, what: str
) -> None:
    faults.bad_environment(faults.World(tmp_path, 1), what)
