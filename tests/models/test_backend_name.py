"""Which backend of Keras is used is known without importing it."""

import os
import subprocess
import sys

import pytest

from voxtile.models import backend_name as module
from voxtile.models.backend_name import backend_name


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


def installed(monkeypatch, *names: str) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: object() if name in names else None)


def test_the_environment_decides_before_the_settings_file(home, monkeypatch) -> None:
    (home / "keras.json").write_text('{"backend": "torch"}')
    installed(monkeypatch, "tensorflow", "torch", "jax")
    assert backend_name() == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert backend_name() == "jax"


@pytest.mark.parametrize("settings", [None, "no JSON", "[]", '{"backend": "tensorflow"}'])
def test_without_tensorflow_an_installed_backend_is_used(home, monkeypatch, settings) -> None:
    if settings is not None:
        (home / "keras.json").write_text(settings)
    installed(monkeypatch, "tensorflow", "jax")
    assert backend_name() == "tensorflow"
    installed(monkeypatch, "jax", "torch")
    assert backend_name() == "jax"
    installed(monkeypatch, "torch")
    assert backend_name() == "torch"
    installed(monkeypatch)
    assert backend_name() == "tensorflow"


def test_jax_is_used_where_it_has_cuda_unless_another_backend_is_named(
    home, monkeypatch, tmp_path
) -> None:
    installed(monkeypatch, "tensorflow", "jax", "torch", "jax_cuda13_plugin")
    monkeypatch.setattr(module, "_DRIVER", tmp_path / "missing")
    assert backend_name() == "tensorflow"
    monkeypatch.setattr(module, "_DRIVER", tmp_path)
    assert backend_name() == "jax"
    (home / "keras.json").write_text('{"backend": "torch"}')
    assert backend_name() == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert backend_name() == "tensorflow"
    assert [module.has_cuda(name) for name in ("tensorflow", "jax", "torch")] == [
        False,
        True,
        False,
    ]


def test_keras_uses_that_backend_and_leaves_a_card_to_other_workers(home) -> None:
    program = (
        "import os; from voxtile.models.backend import keras\n"
        "print(keras.config.backend(), os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'], "
        "os.environ['TF_FORCE_GPU_ALLOW_GROWTH'])"
    )
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "true"}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert answer.stdout.split() == [backend_name(), "true", "true"]
