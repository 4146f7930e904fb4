"""Networks see the part of a volume, with the axes, that their spec names."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import ball, make_spec, threshold_model

from voxtile.inference.infer import Member, infer, infer_together
from voxtile.inference.seen import see
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network
from voxtile.preparation.plan import make_plan
from voxtile.volume import axes_to, reorient

ORIENTATIONS = [
    "".join(pair[flip] for pair, flip in zip(order, flips, strict=True))
    for order in permutations(("RL", "AP", "SI"))
    for flips in product((0, 1), repeat=3)
]
LOGITS = Network(file="n.keras", sha256="0" * 64, views=("axial",), output="logits")


def everything(tiles: np.ndarray) -> np.ndarray:
    """A network that gives label 1 everywhere."""
    return np.broadcast_to(np.float32([0, 1]), (*tiles.shape[:3], 2))


def watched(image, spec, *models) -> np.ndarray:
    """The probabilities that decide, of label 1."""
    seen = []

    def watch(planes):
        for plane in planes:
            seen.append(plane[..., 1].copy())
            yield plane

    infer_together(image, [Member(spec, models, make_plan(spec))], watch)
    return np.stack(seen)


@given(st.sampled_from(ORIENTATIONS), st.sampled_from(ORIENTATIONS))
def test_a_volume_of_any_storage_order_is_turned_to_any_orientation(stored, wanted) -> None:
    volume, _ = ball((5, 6, 7), axes=stored)
    assert reorient(volume, axes_to(volume.affine, wanted)).orientation == wanted
    assert reorient(volume, axes_to(volume.affine, "stored")).orientation == stored


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIL", "stored"])
@pytest.mark.parametrize("crop", ["none", "nonzero"])
def test_a_mask_lies_on_its_scan_whatever_the_networks_see(orientation, crop) -> None:
    image, truth = ball((20, 18, 14), axes="SLA", tilt_degrees=10)
    spec = make_spec(orientation=orientation, crop=crop, padding="zero")
    mask = infer(image, spec, [threshold_model], make_plan(spec))
    np.testing.assert_array_equal(mask.array, truth.array)


def test_nothing_outside_the_box_of_nonzero_voxels_gets_a_label() -> None:
    image, truth = ball()
    spec = make_spec(crop="nonzero")
    mask = infer(image, spec, [everything], make_plan(spec))
    inside = np.nonzero(truth.array)
    box = tuple(slice(axis.min(), axis.max() + 1) for axis in inside)
    assert mask.array[box].all() and mask.array.sum() == np.prod(mask.array[box].shape)
    assert see(image.with_array(0 * image.array), spec).volume.shape == image.shape


def test_probabilities_are_those_of_the_mean_logit() -> None:
    image, _ = ball()

    def logit(value: float):
        return lambda tiles: np.broadcast_to(np.float32([0, value]), (*tiles.shape[:3], 2))

    twice = (LOGITS, LOGITS.model_copy(update={"file": "m.keras"}))
    spec = make_spec(average="logits", networks=twice)
    found = watched(image, spec, logit(3.0), logit(-1.0))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-1.0)), rtol=1e-5)


def test_planes_outside_the_box_are_background_for_whoever_watches() -> None:
    image, truth = ball()
    found = watched(image, make_spec(crop="nonzero"), everything)
    assert found.shape == (12, 24, 20)
    np.testing.assert_array_equal(found.any(axis=(1, 2)), truth.array.any(axis=(0, 1)))


def test_keys_of_later_versions_change_the_hash_of_a_model_only_if_they_are_used() -> None:
    plain = Bundle(None, make_spec()).sha256
    assert Bundle(None, make_spec(crop="none", orientation="RAS")).sha256 == plain
    assert Bundle(None, make_spec(crop="nonzero")).sha256 != plain
    assert Bundle(None, make_spec(channel_intensity=({"method": "minmax"},))).sha256 != plain


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"orientation": "RAL"}, "must name each axis once"),
        ({"average": "logits"}, 'each network needs "output": "logits"'),
        ({"channel_intensity": ({"method": "none"},) * 2}, "2 for 1 channel"),
        (
            {"intensity": {"method": "clahe"}, "background": {"at_most": 0}},
            "background cannot be combined",
        ),
        (
            {"intensity": {"method": "fixed", "mean": 0, "sd": 1, "low": 2, "high": 1}},
            "low 2.0 must be below high 1.0",
        ),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(changes, words) -> None:
    with pytest.raises(ValueError, match=words):
        make_spec(**changes)
