"""If int8 as a whole changes masks too much, its worst layers are left out until it passes."""

from types import SimpleNamespace

import pytest
from evidence import evidence_for, measured

from voxtile.errors import ModelError
from voxtile.measuring import int8
from voxtile.measuring.int8 import int8_measurements

SHARES = [
    {"head": 0.3, "bottleneck": 0.05, "encoder level 1": 0.1, "decoder level 1": 0.2},
    {"head": 0.1, "bottleneck": 0.0, "encoder level 1": 0.6, "decoder level 1": 0.2},
]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The groups that were left out of each network that was made; bfloat16 is fast."""
    kept: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        int8,
        "quantise",
        lambda bundle, network, tiles, left, rest: kept.append((*left, rest)),
    )
    shares = iter(SHARES)
    monkeypatch.setattr(int8, "error_shares", lambda *_: next(shares))
    monkeypatch.setattr(int8, "pays", lambda library: True)
    return kept


def search(outcomes, evidence=None, bound=0.0) -> tuple[list, list[str]]:
    """Return the measurements of networks with these outcomes, in turn, and what is said."""
    bundle = SimpleNamespace(spec=SimpleNamespace(networks=("axial", "coronal")), sha256="0" * 64)
    openvino = [
        measured("float32", 2.0, engine="openvino"),
        measured("bfloat16", 3.0, dice_bound=bound, engine="openvino"),
    ]
    if evidence is None:
        evidence = evidence_for(bundle, *openvino)
    given, said = iter(outcomes), []
    found = int8_measurements(bundle, [[], []], lambda: next(given), evidence, said.append)
    return list(found), said


def test_int8_as_a_whole_is_all_that_is_made_if_it_passes(made) -> None:
    good = measured("int8", 9.0)
    assert search([good]) == ([good], [])
    assert made == [("float32",)] * 2  # both networks


def test_the_worst_layers_of_all_networks_are_left_out_until_it_passes(made) -> None:
    bad = measured("int8", 9.0, dice_bound=0.004)
    good = measured("int8", 5.0, kept=("encoder level 1", "head"), rest="bfloat16")
    found, said = search([bad, bad, good])
    assert found == [bad, good]
    assert made[2::2] == [("encoder level 1", "bfloat16"), ("encoder level 1", "head", "bfloat16")]
    assert made[3::2] == made[2::2]
    assert said == []


def test_the_search_ends_when_it_cannot_be_worth_it_and_says_so(made) -> None:
    bad = measured("int8", 9.0, dice_bound=0.004)
    slow = measured("int8", 2.9, dice_bound=0.004, kept=("encoder level 1",))
    found, said = search([bad, slow])
    assert found == [bad, slow]
    assert len(made) == 4
    assert "1 group of layers in float32 (encoder level 1)" in said[0]
    assert "fewer than 3.0 tiles/s" in said[0]


def test_if_no_number_of_groups_passes_that_is_said(made) -> None:
    bad = measured("int8", 9.0, agreement=0.5, kept=("a", "b", "c", "d"))
    found, said = search([bad] * 4)  # as a whole, then without 1, 2 and 3 of 4 groups
    assert found == [bad, bad]
    assert made[-1] == ("encoder level 1", "head", "decoder level 1", "bfloat16")
    assert "also with 4 groups of layers in float32 (a, b, c, d); auto does not use it" in said[0]


@pytest.mark.parametrize("slow", [False, True])
def test_layers_stay_in_float32_where_bfloat16_is_slow_or_fails(
    made, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    monkeypatch.setattr(int8, "pays", lambda library: not slow)
    bad, good = measured("int8", 9.0, agreement=0.5), measured("int8", 5.0)
    assert search([bad, good], bound=0.0 if slow else 0.002)[0] == [bad, good]
    assert made[-1] == ("encoder level 1", "float32")


def test_a_network_of_one_layer_is_int8_or_it_is_not(made, monkeypatch) -> None:
    monkeypatch.setattr(int8, "error_shares", lambda *_: {"bottleneck": 1.0})
    bad = measured("int8", 9.0, agreement=0.5)
    assert search([bad]) == ([bad], [])


def test_no_try_begins_after_the_longest_time(made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "_LONGEST_S", -1.0)
    bad = measured("int8", 9.0, agreement=0.5, kept=("encoder level 1",))
    found, said = search([bad, bad])
    assert found == [bad, bad]
    assert "no more layers were tried" in said[0]


def test_with_too_little_evidence_no_layers_are_left_out(made) -> None:
    bad = measured("int8", 9.0, agreement=0.5)
    little = evidence_for(SimpleNamespace(sha256="0" * 64), planes=3)
    assert search([bad], little) == ([bad], [])
    assert len(made) == 2


def test_an_error_costs_only_the_rows_of_int8(made, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ModelError("n.keras cannot be made int8")

    monkeypatch.setattr(int8, "error_shares", fail)
    bad = measured("int8", 9.0, agreement=0.5)
    assert search([bad]) == ([bad], ["warning: n.keras cannot be made int8"])
