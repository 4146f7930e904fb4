"""What training cases are like: counted exactly, whatever their order and orientation."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.models.spec import Label
from voxtile.phantoms.ellipsoids import centred_affine
from voxtile.training.data.case_facts import CaseFacts, ChannelFacts, LabelFacts, describe_case
from voxtile.training.data.fingerprint import Fingerprint, take_fingerprint
from voxtile.volume import Volume


def blocks(axes: str = "RAS") -> CaseFacts:
    """A case with two blocks of label 1 and one of label 2, stored along `axes`."""
    shape, spacing = (10, 8, 6), (1.0, 2.0, 2.5)
    image = np.full(shape, -1000, np.int16)
    truth = np.zeros(shape, np.uint8)
    for value, place in ((1, np.s_[1:3, 1:3, 1:2]), (1, np.s_[6:8, 5:6, 4:5]), (2, np.s_[4, 4, 2])):
        truth[place] = value
        image[place] = 10 * value
    image[0, 0, 0], image[0, 0, 1] = 400, 0
    affine = centred_affine(shape, spacing, axes="RAS")
    if axes == "LPS":
        image, truth = image[::-1, ::-1], truth[::-1, ::-1]
        affine = centred_affine(shape, spacing, axes="LPS")
    return describe_case(Volume(image, affine), Volume(truth, affine))


@pytest.mark.parametrize("axes", ["RAS", "LPS"])
def test_the_facts_of_a_case_are_exact(axes: str) -> None:
    facts = blocks(axes)
    assert (facts.shape, facts.spacing_mm) == ((10, 8, 6), (1.0, 2.0, 2.5))
    # A voxel has 5 cubic millimetres; blocks of 4 and 2 voxels, and one of 1.
    first, second = facts.labels
    assert (first.voxels, first.component_ml) == (6, (0.01, 0.02))
    assert (second.voxels, second.component_ml) == (1, (0.005,))
    # The middle of the block of four is at (1.5, 1.5, 1) of (10, 8, 6) voxels.
    assert first.place == pytest.approx((3 / 9 - 1, 3 / 7 - 1, 2 / 5 - 1), abs=1e-6)
    assert second.place == pytest.approx((8 / 9 - 1, 8 / 7 - 1, 4 / 5 - 1), abs=1e-6)
    assert facts.box_mm == (7.0, 10.0, 10.0)
    assert facts.labelled_planes == pytest.approx((5 / 10, 4 / 8, 3 / 6))
    (channel,) = facts.channels
    assert (channel.least, channel.most) == (-1000, 400)
    assert channel.zeros == pytest.approx(1 / 480)
    # Six voxels of 10 and one of 20: the last sixth rises to it.
    assert (channel.foreground[0], channel.foreground[160]) == (10, 10)
    assert channel.foreground[-1] == pytest.approx(10 + 10 * (6 * 0.9975 - 5))
    assert len(channel.foreground) == 200


def test_a_cohort_is_the_sum_of_its_cases() -> None:
    one = blocks()
    other = replace(one, labels=one.labels[:1], spacing_mm=(1.0, 2.0, 5.0))
    both = take_fingerprint([one, other, one], ("ct",))
    assert (both.cases, both.planes, both.values) == (3, (30, 24, 18), (1, 2))
    assert both.foreground == pytest.approx((7 + 6 + 7) / (3 * 480))
    assert [label.cases for label in both.labels] == [3, 2]
    assert (both.spacing_mm[2].median, both.spacing_mm[2].most) == (2.5, 5.0)
    assert both.labels[0].components.median == 2
    assert both.labels[0].component_ml.most == pytest.approx(0.02)
    assert both.labels[0].place_sd == (0, 0, 0)
    assert both.is_ct
    assert both.channels[0].foreground["50"] == 10


def test_the_spread_of_places_is_that_of_the_cases() -> None:
    cases = [
        replace(blocks(), labels=(LabelFacts(1, place=(at, 0.1, -0.2)),)) for at in (-0.5, 0.0, 0.5)
    ]
    (label,) = take_fingerprint(cases).labels
    assert label.place_sd == pytest.approx((0.5, 0, 0))
    (alone,) = take_fingerprint(cases[:1]).labels
    assert alone.place_sd is None


@given(st.permutations([0, 1, 2]))
def test_the_order_of_cases_does_not_matter(order: list[int]) -> None:
    cases = [
        CaseFacts((size, 9, 9), (1.0, 1.0, size), (LabelFacts(size),), (ChannelFacts(0, size),))
        for size in (3, 5, 8)
    ]
    assert take_fingerprint([cases[n] for n in order], ("a",)) == take_fingerprint(cases, ("a",))


def test_its_json_form_reads_back() -> None:
    taken = take_fingerprint([blocks()], ("image",))
    values = json.loads(json.dumps(taken.dump()))
    assert Fingerprint.parse(values).dump() == values
    assert Fingerprint.parse(values).is_ct
    with pytest.raises(ValueError, match="spacing_mm"):
        Fingerprint.parse({**values, "spacing_mm": "wide"})


def test_the_modality_of_the_manifest_outweighs_the_intensities() -> None:
    case = blocks()
    assert take_fingerprint([case], ("a",)).channels[0].modality == "CT"
    said = take_fingerprint([replace(case, modality="mr")], ("a",)).channels[0]
    assert (said.modality, said.why) == ("other", "the manifest's column modality says MR")


def test_regions_that_share_a_value_overlap() -> None:
    whole = Label(value=1, name="whole", color="#000000", region=(1, 2))
    core = Label(value=2, name="core", color="#ffffff")
    assert take_fingerprint([blocks()], (), (whole, core)).overlap
    assert not take_fingerprint([blocks()], (), (core,)).overlap


def test_a_case_without_labels_has_no_extent() -> None:
    affine = centred_affine((4, 4, 4), (1, 1, 1))
    empty = describe_case(
        Volume(np.ones((4, 4, 4), np.float32), affine),
        Volume(np.zeros((4, 4, 4), np.uint8), affine),
    )
    assert (empty.labels, empty.box_mm, empty.labelled_planes) == ((), (0, 0, 0), (0, 0, 0))
    assert take_fingerprint([empty], ("a",)).channels[0].foreground == {}


@given(st.integers(0, 2**32 - 1))
def test_ignored_voxels_may_hold_anything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (6, 5, 4)
    affine = centred_affine(shape, (1, 1, 1))
    image = rng.normal(0, 100, shape).astype(np.float32)
    truth = rng.choice(np.array([0, 1, 2, 255], np.uint8), shape)
    truth[0, 0, 0] = 1
    other = np.where(truth == 255, np.float32(rng.normal(0, 1e4)), image)
    facts = [
        describe_case(Volume(one, affine), Volume(truth, affine), ignore=255)
        for one in (image, other)
    ]
    assert facts[0] == facts[1]
    assert 255 not in facts[0].values


def test_planes_and_fractions_count_only_what_is_annotated() -> None:
    affine = centred_affine((4, 4, 8), (1, 1, 1))
    truth = np.full((4, 4, 8), 255, np.uint8)
    truth[..., :2] = 0  # two annotated planes, one of which has a label of 4 voxels
    truth[0, :, 1] = 1
    image = Volume(np.ones(truth.shape, np.float32), affine)
    facts = describe_case(image, Volume(truth, affine), ignore=255)
    assert (facts.ignored, facts.voxels) == (96, 32)
    assert facts.labelled_planes == pytest.approx((1 / 4, 1, 1 / 2))
    assert take_fingerprint([facts], ("a",)).foreground == pytest.approx(4 / 32)
