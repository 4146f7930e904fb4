"""Trainings that take seconds."""

from collections.abc import Iterator

import pytest

from voxtile.engines import Engine
from voxtile.training.choosing import choosing
from voxtile.training.folds import held_out


@pytest.fixture(scope="module", autouse=True)
def keras_chooses() -> Iterator[None]:
    """Use Keras where a training segments whole cases at its end.

    The fastest engine would first translate each network in a new process,
    which takes longer than all the rest of these trainings. That it gives the
    same masks is tested in tests/engines and by
    `test_the_scores_are_those_of_a_run`.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (choosing, held_out):
            patch.setattr(module, "choose_engine", lambda *what: Engine("keras"))
        yield
