"""Cases on a Dask cluster: the same results, and a loss costs one case."""

import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from dask_processes import dask as dask_processes
from dask_processes import on
from faulty import DEADLY, VALID, make_cases, results, run_faulty, temporary_files, valid_cases

from voxtile.batch.cluster import JobSettings
from voxtile.batch.settings import BatchSettings, Cluster
from voxtile.errors import EnvironmentFault

pytest.importorskip("distributed")


@pytest.mark.slow
def test_a_cluster_gives_equal_results_and_a_deadly_case_fails_alone(tmp_path: Path) -> None:
    manifest = make_cases(tmp_path, {**{f"c{n}": VALID for n in range(6)}, "deadly": DEADLY})
    run_faulty(manifest, tmp_path / "here", BatchSettings(workers=1))
    with dask_processes(tmp_path / "dask", 2) as processes:
        result = run_faulty(manifest, tmp_path / "out", on(processes))
        assert [report.case_id for report in result.failed] == ["deadly"]
        assert "SIGKILL" in str(result.failed[0].reason)
        assert all(worker.poll() is None for worker in processes.workers)
    assert results(tmp_path / "out") == results(tmp_path / "here")
    assert temporary_files(tmp_path / "out") == []


@pytest.mark.slow
def test_a_run_uses_the_certificates_of_an_encrypted_scheduler(tmp_path: Path) -> None:
    import dask
    from distributed.security import Security

    keys = Security.temporary().get_tls_config_for_role("client")
    named = {}
    for option, key in (("ca-file", "ca_file"), ("cert", "cert"), ("key", "key")):
        path = tmp_path / f"{option}.pem"
        path.write_text(keys[key])
        named[option] = path
    manifest = valid_cases(tmp_path, 2)
    with dask_processes(tmp_path / "dask", 1, {f"--tls-{o}": p for o, p in named.items()}) as there:
        assert there.address.startswith("tls://")
        places = {"ca-file": "ca-file", "client.cert": "cert", "client.key": "key"}
        settings = {f"distributed.comm.tls.{place}": named[o] for place, o in places.items()}
        with dask.config.set({key: str(path) for key, path in settings.items()}):
            result = run_faulty(manifest, tmp_path / "out", on(there))
    assert (len(result.reports), result.failed) == (2, ())


def test_missing_certificates_of_an_encrypted_scheduler_are_reported(tmp_path: Path) -> None:
    # Dask refuses before it connects: nothing needs to listen.
    batch = BatchSettings(cluster=Cluster(scheduler="tls://127.0.0.1:9"))
    with (
        mock.patch("distributed.Client", side_effect=TypeError("TLS expects a `ssl_context`")),
        pytest.raises(EnvironmentFault, match="needs certificates; name them"),
    ):
        run_faulty(valid_cases(tmp_path, 1), tmp_path / "out", batch)


def test_a_scheduler_that_does_not_answer_is_reported_before_the_first_case(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("voxtile.batch.cluster._ANSWER_S", 1.0)
    batch = BatchSettings(cluster=Cluster(scheduler="tcp://127.0.0.1:9"))
    with pytest.raises(EnvironmentFault, match="does not answer"):
        run_faulty(valid_cases(tmp_path, 1), tmp_path / "out", batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheduler": "tcp://head:8786"}, "is not encrypted.*tls://, or pass --insecure"),
        ({"scheduler": "tcp://10.0.0.1:8786"}, "is not encrypted"),
        ({"scheduler": "head"}, "must look like tls://HOST:PORT"),
        ({}, "either --scheduler ADDRESS or --cluster SYSTEM"),
        ({"scheduler": "tls://h:1", "queue_system": "slurm"}, "either"),
    ],
)
def test_an_unencrypted_or_incomplete_cluster_is_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Cluster(**settings)


def test_safe_addresses_are_accepted() -> None:
    for address in (
        "tls://head:8786",
        "tcp://127.0.0.1:8786",
        "tcp://localhost:1",
        "tcp://[::1]:1",
    ):
        assert Cluster(scheduler=address).scheduler == address
    assert Cluster(scheduler="tcp://head:8786", insecure=True).insecure


REQUESTED = {
    "slurm": ["#SBATCH -p gpu", "#SBATCH -t 02:00:00", "#SBATCH --gres=gpu:1"],
    "pbs": ["#PBS -q gpu", "#PBS -l walltime=02:00:00", "#PBS -l ngpus=1"],
    "sge": ["#$ -q gpu", "#$ -l h_rt=02:00:00", "#$ -l gpu=1"],
}


def test_jobs_request_what_the_settings_say(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[cluster]\nqueue = "gpu"\nmemory = "8GB"\nwalltime = "02:00:00"\ngpus = 1\n')
    # In a process of its own: dask-jobqueue leaves files to the garbage collector.
    program = (
        "import sys; from pathlib import Path\n"
        "from voxtile.batch.cluster import JobSettings, queue_cluster\n"
        "for system in ('slurm', 'pbs', 'sge'):\n"
        "    settings = JobSettings.read(Path(sys.argv[1]))\n"
        "    with queue_cluster(system, settings, Path(sys.argv[2])) as cluster:\n"
        "        print(cluster.job_script(), end='\\0')\n"
    )
    words = [sys.executable, "-W", "ignore", "-c", program, str(path), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    for (system, lines), script in zip(REQUESTED.items(), done.stdout.split("\0"), strict=False):
        for line in (*lines, "--nthreads 4", "--protocol tls://"):
            assert line in script, f"{system}: {script}"
    assert sorted(tmp_path.iterdir()) == [path]  # no certificate is left


def test_wrong_cluster_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    for content, message in (
        ("[clusters]", r"section \[cluster\]"),
        ("[cluster]\ncoars = 4", "has unknown coars; it may have cores, memory"),
        ("[cluster", "must be TOML"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            JobSettings.read(path)
    with pytest.raises(ValueError, match="cannot be read"):
        JobSettings.read(tmp_path / "none.toml")
