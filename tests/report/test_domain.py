"""Training scans: what a bundle stores of them, and scans that differ from them."""

import json

import numpy as np
import pytest
from phantoms import ball

from voxtile.models.spec import NoScaling, ZScore
from voxtile.report.domain import (
    PERCENTILES,
    ScanFacts,
    compare_scan,
    describe_scan,
    training_domain,
)
from voxtile.volume import Volume


def facts(level: float, spacing=(1.0, 1.0, 3.0)) -> ScanFacts:
    values = tuple(level + percent / 100 for percent in PERCENTILES)
    return ScanFacts(spacing, {"image": values})


TRAINING = {"domain": training_domain([facts(n / 100, (1, 1, 3 + n / 10)) for n in range(20)])}


def test_a_scan_like_the_training_scans_has_no_flag() -> None:
    assert compare_scan(facts(0.1), TRAINING) == ()
    assert compare_scan(facts(0.19, (1.04, 0.96, 5)), TRAINING) == ()


def test_a_scan_unlike_the_training_scans_is_flagged() -> None:
    found = {part.code: part for part in compare_scan(facts(3, (1, 1, 10)), TRAINING)}
    assert "along S is 10 mm, but the training scans had 3 to 4.9 mm" in found["spacing"].sentence
    assert "of channel image is 3" in found["intensity"].sentence
    assert all(part.severity > 1 for part in found.values())
    farther = compare_scan(facts(9, (1, 1, 20)), TRAINING)
    assert all(part.severity > found[part.code].severity for part in farther)


def test_the_extent_of_a_scan_counts_where_networks_see_positions() -> None:
    def long(size_mm: float) -> ScanFacts:
        return ScanFacts((1, 1, 1), {}, (100, 100, size_mm))

    scans = [long(size) for size in (200, 240)]
    positions, others = (
        {"domain": training_domain(scans, position=position)} for position in (True, False)
    )
    assert compare_scan(long(290), positions) == compare_scan(long(165), positions) == ()
    (flag,) = compare_scan(long(600), positions)
    assert flag.code == "extent" and flag.severity == 2
    assert "the extent along S is 600 mm, but the training scans had 200 to 240 mm" in flag.sentence
    assert compare_scan(long(100), positions)[0].severity == pytest.approx(1.6)
    assert compare_scan(long(600), others) == ()


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"domain": None},
        {"domain": {"spacing_mm": {"min": [1, 1], "max": "x"}, "cases": 20, "intensity": []}},
        {"domain": {**TRAINING["domain"], "percentiles": [1], "spacing_mm": {"min": [0, 0, 0]}}},
        {"domain": {**TRAINING["domain"], "intensity": {"image": [[1]]}, "spacing_mm": None}},
        {"domain": training_domain([facts(0), facts(0.1)]) | {"spacing_mm": {}}},
    ],
)
def test_a_missing_or_invalid_description_of_training_scans_gives_no_flag(training) -> None:
    assert compare_scan(facts(50, (9, 9, 9)), training) == ()


def test_the_description_of_training_scans_is_valid_json() -> None:
    assert json.loads(json.dumps(TRAINING["domain"])) == TRAINING["domain"]
    assert training_domain([]) == {}


def test_a_scan_is_described_as_the_network_sees_it() -> None:
    image, _ = ball(axes="PIL", shape=(10, 12, 14), spacing_mm=(1, 2, 3))
    described = describe_scan(image, ("image",), ZScore())
    assert described.spacing_mm == pytest.approx((3, 1, 2))
    scaled = image.with_array(image.array * np.int16(7) + np.int16(5))
    other = describe_scan(scaled, ("image",), ZScore())
    assert other.intensity["image"] == pytest.approx(described.intensity["image"], abs=1e-5)
    plain = describe_scan(image, ("image",), NoScaling()).intensity["image"]
    assert (plain[0], plain[-1]) == (0, 100)


def test_a_large_scan_is_sampled() -> None:
    random = np.random.default_rng(0)
    image = Volume(random.normal(5, 2, (300, 300, 40)).astype(np.float32), np.eye(4))
    described = describe_scan(image, ("image",), NoScaling()).intensity["image"]
    assert described == pytest.approx(np.percentile(image.array, PERCENTILES), abs=0.03)
