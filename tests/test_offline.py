"""Nothing of a run opens a socket to anywhere: patient data stay where they are."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from bundles import write_bundle
from phantoms import ball

from voxtile.phantoms.dicom import write_series
from voxtile.writing.nifti import write_volume

# Python imports this in every process that has its folder on the path: workers and decoders too.
_SPY = """
import os, socket, sys

def spy(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.bind"):
        address = arguments[1] if event != "socket.getaddrinfo" else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        if host not in ("127.0.0.1", "::1", "localhost", None):
            with open(os.environ["SPY_LOG"], "a") as log:
                log.write(f"{event} {address!r}\\n")

sys.addaudithook(spy)
with open(os.environ["SPY_LOG"] + ".pids", "a") as log:
    log.write(f"{os.getpid()}\\n")
"""


def spied(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the spy in every process."""
    (folder / "spy").mkdir(exist_ok=True)
    (folder / "spy/sitecustomize.py").write_text(_SPY)
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder / "spy"),
        "SPY_LOG": str(folder / "spy.log"),
        "VOXTILE_CACHE": str(folder / "cache"),  # empty: the network is exported too
    }
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )


def test_the_spy_sees_a_socket(tmp_path: Path) -> None:
    spied(tmp_path, "-c", "import socket; socket.socket().connect_ex(('192.0.2.1', 9))")
    assert "192.0.2.1" in (tmp_path / "spy.log").read_text()


@pytest.mark.slow
def test_a_run_opens_no_socket(tmp_path: Path, network: bytes) -> None:
    image, _ = ball()
    write_volume(tmp_path / "a.nii.gz", image)
    write_series(tmp_path / "series", image)
    write_bundle(tmp_path / "model", network)
    (tmp_path / "cases.csv").write_text("case_id,image\na,a.nii.gz\nb,series\n")
    program = "from voxtile.cli import main; main()"
    words = ("run", tmp_path / "cases.csv", tmp_path / "model", "--out", tmp_path / "out")
    done = spied(tmp_path, "-c", program, *map(str, words))
    assert done.returncode == 0, done.stderr
    assert "2 done, 0 failed" in done.stdout
    pids = set((tmp_path / "spy.log.pids").read_text().split())
    assert len(pids) >= 3  # the run, its worker and the decoder
    if find_spec("openvino"):  # which would tell its makers, if it were let
        assert json.loads((tmp_path / "out/run.json").read_text())["engine"]["engine"] == "openvino"
        assert len(pids) >= 4  # the export too
    assert not (tmp_path / "spy.log").exists()
