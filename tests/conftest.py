"""Fixtures that several rooms use: real data, a tiny network, a cohort, a browser."""

import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache as kept
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from bundles import write_bundle
from chromium import start_browser
from hypothesis import settings
from phantoms import ball

from voxtile.engines import exchange, translated
from voxtile.errors import EnvironmentFault
from voxtile.models.backend_name import backend_name
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network
from voxtile.writing.nifti import write_mask, write_volume

# No deadline: the time of an example depends on how busy the machine is, not on the code.
settings.register_profile("voxtile", deadline=None)
settings.load_profile("voxtile")
# For each call, the runner would make all commands of an app again.
typer.testing._get_command = kept(typer.testing._get_command)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: VOXTILE_DATA, or `shared/data` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VOXTILE_DATA", beside))
    if not folder.is_dir():
        pytest.skip("the real data are not on this machine; VOXTILE_DATA names their folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for this session only, shared by its workers and by every process that they start."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "cache"
    os.environ["VOXTILE_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def translating_child() -> Callable[..., dict[str, Any]]:
    """The function that translates networks in a new process."""
    return translated.ask_child


@pytest.fixture(scope="session", autouse=True)
def translated_here(translating_child: Callable[..., dict[str, Any]]) -> Iterator[None]:
    """Translate networks in this process, where a new one would first import TensorFlow.

    Commands that tests run in other processes, and tests that ask for `translating_child`, make
    new processes, as users do.
    """

    def here(form: str, bundle: Bundle, network: Network, folder: Path) -> dict[str, Any]:
        if backend_name() != "tensorflow":  # which the translation reads
            return translating_child(form, bundle, network, folder)
        from voxtile.engines.translating import answer

        with warnings.catch_warnings(action="ignore"):  # as in a process of its own
            found = answer(form, bundle, network, folder)
        if "fault" in found:
            raise EnvironmentFault(found["fault"])
        return found

    with pytest.MonkeyPatch.context() as patch:
        for module in (translated, exchange):
            patch.setattr(module, "ask_child", here)
        yield


@pytest.fixture(scope="session")
def network(tmp_path_factory) -> bytes:
    """A tiny real network: 3 channels in, 2 classes out."""
    import keras

    from voxtile.models.unet import build_unet

    keras.utils.set_random_seed(0)
    model = build_unet((None, None, 3), 2, filters=2, depth=2, normalisation="batch")
    path = tmp_path_factory.mktemp("network") / "n.keras"
    model.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium that the tests of one file share."""
    yield from start_browser(tmp_path_factory.mktemp("profile"))


@pytest.fixture
def cohort(tmp_path: Path, network: bytes) -> Path:
    """A bundle, one good case, and manifests."""
    image, truth = ball()
    write_volume(tmp_path / "a.nii.gz", image)
    write_mask(tmp_path / "l.nii.gz", truth)
    write_bundle(tmp_path / "model", network)
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    (tmp_path / "good.csv").write_text("case_id,image,label,split\na,a.nii.gz,l.nii.gz,val\n")
    (tmp_path / "mixed.csv").write_text("case_id,image\na,a.nii.gz\nb,bad.nii.gz\n")
    (tmp_path / "wrong.csv").write_text("case_id,image\na,a.nii.gz\na,none.nii.gz\n")
    return tmp_path
