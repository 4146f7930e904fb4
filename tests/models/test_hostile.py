"""Model files that attack or err are refused: at once, in little memory, with a sentence."""

from pathlib import Path

import pytest
from hostile_models import PLAIN, outcomes, write_all, wrong


def test_hostile_models_are_refused_in_little_memory_and_time(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    found = outcomes(write_all(tmp_path))
    assert wrong(found) == []
    assert sum(not name.endswith(PLAIN) for name, *_ in found) >= 60
    for name, _, _, words in found:
        assert "Traceback" not in words, name
        assert "pydantic" not in words, name
