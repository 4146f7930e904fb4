"""Faces of a scan that labels touch: counted over training cases, and what is usual."""

import numpy as np
import pytest

from voxtile.models.spec import Label
from voxtile.report.faces import add_counts, count_faces, touched_faces, usual_faces
from voxtile.volume import Volume

CORD = Label(value=1, name="cord", color="#e6194b")
WHOLE = Label(value=2, name="whole", color="#3cb44b", region=(2, 3))


def scan(touching: bool, flipped: bool = False) -> Volume:
    array = np.zeros((5, 5, 6), np.uint8)
    array[2, 2, 0 if touching else 1 : 5] = 1
    array[1, 1, 2], array[0, 1, 2] = 2, 3
    return Volume(array, np.diag([1, 1, -1 if flipped else 1, 1]))


def test_faces_are_those_of_the_patient_and_regions_count_all_their_values() -> None:
    assert touched_faces(scan(True), (CORD, WHOLE)) == [("inferior",), ("left",)]
    assert touched_faces(scan(True, flipped=True), (CORD, WHOLE)) == [("superior",), ("left",)]
    assert touched_faces(scan(False), (CORD,)) == [()]


def test_cases_with_a_label_and_its_faces_are_counted() -> None:
    nothing = Volume(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    counts = count_faces([scan(True), scan(False), nothing], (CORD, WHOLE))
    assert counts == {"1": {"cases": 2, "inferior": 1}, "2": {"cases": 2, "left": 2}}
    assert add_counts([counts, counts, {}])["1"] == {"cases": 4, "inferior": 2}


@pytest.mark.parametrize(
    ("cases", "touching", "usual"), [(20, 5, True), (21, 5, False), (4, 4, False), (5, 5, True)]
)
def test_a_quarter_of_the_cases_and_at_least_five_make_a_face_usual(cases, touching, usual) -> None:
    training = {"domain": {"faces": {"1": {"cases": cases, "inferior": touching}}}}
    assert usual_faces(training, 1) == (frozenset({"inferior"}) if usual else frozenset())
    assert usual_faces(training, 2) == frozenset()


@pytest.mark.parametrize(
    "training", [{}, {"domain": 1}, {"domain": {"faces": [1]}}, {"domain": {"faces": {"1": "x"}}}]
)
def test_counts_that_are_missing_or_invalid_make_no_face_usual(training) -> None:
    assert usual_faces(training, 1) == frozenset()
    unclear = {"domain": {"faces": {"1": {"cases": "many", "left": 9}}}}
    assert usual_faces(unclear, 1) == frozenset()
