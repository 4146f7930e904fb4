"""Whatever a library says when it gets no memory, people read that memory ran out."""

import pytest

from voxtile.errors import CaseError, EnvironmentFault, ModelError
from voxtile.machine import memory_errors
from voxtile.machine.memory_errors import is_out_of_memory, require_memory


def wrapped(error: Exception) -> Exception:
    """An error of voxtile with another as its cause."""
    try:
        try:
            raise error
        except Exception as cause:
            raise ModelError("the network cannot be read") from cause
    except ModelError as outer:
        return outer


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
        ImportError("libx.so: failed to map segment from shared object"),
    ],
)
def test_an_error_for_a_lack_of_memory_is_known_inside_others(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert is_out_of_memory(wrapped(error))
    assert is_out_of_memory(wrapped(wrapped(error)))


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (RuntimeError("Exception from src/inference/src/cpp/core.cpp:117:"), True),
        (ImportError("DLL load failed"), True),
        (ValueError("not a number"), False),
        (CaseError("truncated", "the file ends early"), False),
    ],
)
def test_at_the_limit_a_vague_error_of_a_library_is_a_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch, error: Exception, full: bool
) -> None:
    monkeypatch.setattr(memory_errors, "_peak_mb", lambda: 1190.0)
    assert not is_out_of_memory(wrapped(error))  # there is no limit
    monkeypatch.setattr(memory_errors, "limit_mb", lambda: 1200.0)
    assert is_out_of_memory(wrapped(error)) is full
    monkeypatch.setattr(memory_errors, "limit_mb", lambda: 2400.0)
    assert not is_out_of_memory(wrapped(error))


def test_a_limit_in_which_a_library_cannot_start_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_errors, "limit_mb", lambda: 700.0)
    with pytest.raises(EnvironmentFault, match=r"limited to 700 MB .* voxtile need 1000 MB"):
        require_memory()
    with pytest.raises(EnvironmentFault, match="but OpenVINO needs 1300 MB to start; raise"):
        require_memory(1300, "OpenVINO needs")
    require_memory(600)
