"""Several models decide together: the mean of what they say, whatever each sees."""

from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from phantoms import ball, make_spec, threshold_model

from voxtile.errors import CaseError, ModelError
from voxtile.export import Finished, keeping_probabilities
from voxtile.inference.decision import decide
from voxtile.inference.infer import Member, infer, infer_together, view_probabilities
from voxtile.inference.segmenter import Segmenter, segment
from voxtile.models.bundle import load_bundle
from voxtile.models.spec import Background, Cleaning, Division, Label, Network
from voxtile.preparation.plan import PlanWish, make_plan
from voxtile.reading.nifti import read_nifti
from voxtile.writing.nifti import write_volume


def network(view: str, weight: float = 1.0) -> Network:
    return Network(file=f"{view}.keras", sha256="0" * 64, views=(view,), weight=weight)


def member(model, **changes) -> Member:
    spec = make_spec(**changes)
    return Member(spec, (model,), make_plan(spec))


def steady(value: float):
    """A model that gives label 1 the same probability everywhere."""

    def model(tiles: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.float32([1 - value, value]), (*tiles.shape[:3], 2))

    return model


def watched(image, members) -> np.ndarray:
    """The probabilities that decide, of label 1."""
    seen = []

    def watch(planes):
        for plane in planes:
            seen.append(plane[..., 1].copy())
            yield plane

    infer_together(image, members, watch)
    return np.stack(seen)


def test_two_models_of_one_view_are_their_mean() -> None:
    image, _ = ball()
    found = watched(image, [member(steady(0.25)), member(steady(0.5))])
    np.testing.assert_allclose(found, 0.375, atol=1e-6)


def test_two_models_of_different_views_are_their_mean() -> None:
    image, _ = ball()
    others = member(steady(0.5), networks=(network("coronal"),))
    found = watched(image, [member(steady(0.25)), others])
    np.testing.assert_allclose(found, 0.375, atol=3e-5)


def test_probabilities_of_models_of_different_views_lie_where_the_mask_does(
    tmp_path: Path,
) -> None:
    # As long along each axis: planes of a wrong view would fit without an error.
    image, _ = ball((16, 16, 16), axes="PIL")
    members = tuple(
        member(threshold_model, networks=(network(view),)) for view in ("coronal", "sagittal")
    )
    segmenter, spec = Segmenter(members), members[0].spec
    case = Finished("a", tmp_path, spec.labels, spec.name)
    kinds = ("probabilities",)
    with keeping_probabilities(case, image, spec, segmenter.view, kinds) as keep:
        mask = segmenter(image, keep)
    (path,) = (tmp_path / "exports/probabilities/a").iterdir()
    assert mask.array.any()
    np.testing.assert_array_equal(read_nifti(path).volume.array > 0.5, mask.array > 0)


def test_a_model_counts_once_however_many_views_it_has() -> None:
    image, _ = ball()
    spec = make_spec(networks=tuple(map(network, ("axial", "coronal", "sagittal"))))
    three = Member(spec, (steady(0.9), steady(0.6), steady(0.3)), make_plan(spec))
    found = watched(image, [three, member(steady(0.0))])
    np.testing.assert_allclose(found, 0.3, atol=1e-4)


def test_weights_of_networks_hold_within_a_model() -> None:
    image, _ = ball()
    spec = make_spec(networks=(network("axial", 3.0), network("coronal", 1.0)))
    uneven = Member(spec, (steady(0.8), steady(0.0)), make_plan(spec))
    np.testing.assert_allclose(watched(image, [uneven]), 0.6, atol=3e-5)


def test_models_of_different_spacings_and_scalings_agree_on_a_ball() -> None:
    image, truth = ball(shape=(40, 36, 20), spacing_mm=(1.0, 1.0, 1.5), axes="PLI")
    members = [
        member(threshold_model),
        member(threshold_model, spacing_mm=(0.7, 0.7, 0.7), tile=(32, 32)),
        member(
            lambda tiles: threshold_model(100 * tiles),
            intensity={"method": "minmax"},
            context_slices=3,
            networks=(network("sagittal"),),
        ),
    ]
    inside, expected = infer_together(image, members).array > 0, truth.array > 0
    dice = 2 * (inside & expected).sum() / (inside.sum() + expected.sum())
    assert dice > 0.98
    alone = infer(image, members[0].spec, [threshold_model], members[0].plan)
    np.testing.assert_array_equal(alone.array, truth.array)


def test_mirroring_reaches_the_axes_of_each_view() -> None:
    image, _ = ball(shape=(16, 16, 16))

    def front(tiles: np.ndarray) -> np.ndarray:
        """Label 1 in the first quarter of the rows."""
        found = np.zeros((*tiles.shape[:3], 2), np.float32)
        found[..., 0] = 1
        found[:, :4] = [0, 1]
        return found

    for view, axis, flip in (("axial", 0, "R"), ("coronal", 0, "R"), ("sagittal", 1, "A")):
        spec = make_spec(networks=(network(view),), labels=make_spec().labels)
        for flips, first, last in (((), 1.0, 0.0), ((flip,), 0.5, 0.5), (("S",), 1.0, 0.0)):
            plan = make_plan(spec, PlanWish(flips=flips))
            seen = []

            def watch(planes, kept=seen):
                for plane in planes:
                    kept.append(plane[..., 1].copy())
                    yield plane

            infer_together(image, [Member(spec, (front,), plan)], watch)
            rows = np.stack(seen).mean(axis=(0, 2))
            assert rows[0] == pytest.approx(first), (view, axis, flips)
            assert rows[-1] == pytest.approx(last), (view, axis, flips)


def test_background_spares_tiles_and_changes_no_mask() -> None:
    image, truth = ball(shape=(64, 64, 8))
    given = []

    def counting(tiles: np.ndarray) -> np.ndarray:
        given.append(sum(bool(tile.any()) for tile in tiles))
        return threshold_model(tiles)

    spec = make_spec(background=Background(at_most=0.0), spacing_mm=(1.0, 1.0, 1.0))
    mask = infer(image, spec, [counting], make_plan(spec))
    everything = make_spec(spacing_mm=(1.0, 1.0, 1.0))
    whole = infer(image, everything, [threshold_model], make_plan(everything))
    np.testing.assert_array_equal(mask.array, whole.array)
    assert truth.array.any()
    empty = image.with_array(np.zeros_like(image.array))
    given.clear()
    assert not infer(empty, spec, [counting], make_plan(spec)).array.any()
    assert given == []


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_some_planes_alone_have_the_probabilities_that_they_have_in_the_whole(view) -> None:
    image, _ = ball(shape=(20, 24, 16), axes="RAS")
    ras = image.with_array(image.array[..., np.newaxis])

    def neighbourly(tiles: np.ndarray) -> np.ndarray:
        """Label 1 by the mean of a pixel's neighbours along all axes."""
        odds = (tiles.mean(axis=3) + np.roll(tiles[..., 0], 1, axis=1)) / 400
        return np.stack([1 - odds, odds], axis=-1)

    judging = member(
        neighbourly,
        networks=(network(view),),
        context_slices=3,
        spacing_mm=(0.8, 1.2, 0.9),
        background=Background(at_most=0.0),
    )
    whole = list(view_probabilities(ras, view, judging))
    indices = (0, 1, 5, 6, 12, len(whole) - 1)
    some = list(view_probabilities(ras, view, judging, indices=indices))
    np.testing.assert_array_equal(some, [whole[index] for index in indices])


LABELS = (
    Label(value=2, name="whole", color="#00ff00", region=(2, 300)),
    Label(value=300, name="core", color="#ff0000"),
)


def test_the_largest_probability_decides_and_background_wins_a_tie() -> None:
    spec = make_spec(labels=(LABELS[1], Label(value=7, name="b", color="#0000ff")))
    odds = np.float32([[[0.4, 0.4, 0.2], [0.1, 0.5, 0.4], [0.2, 0.3, 0.5]]])
    plane = decide(odds, spec)
    assert plane.tolist() == [[0, 300, 7]]
    assert plane.dtype == np.uint16
    assert decide(odds[..., :2], make_spec()).dtype == np.uint8


def test_thresholds_decide_regions_and_later_ones_overwrite() -> None:
    spec = make_spec(labels=LABELS, activation="sigmoid", thresholds=(0.5, 0.8))
    odds = np.float32([[[0.5, 0.79], [0.5, 0.8], [0.49, 0.9], [0.49, 0.1]]])
    assert decide(odds, spec).tolist() == [[2, 300, 300, 0]]


def test_several_models_are_one_bundle_with_an_identity_of_its_own(tmp_path, network) -> None:
    one = write_bundle(tmp_path / "one", network, name="one")
    two = write_bundle(tmp_path / "two", network, name="two", tile=(32, 32))
    both = load_bundle(f"{one}, {two}")
    assert both.name == "one,two"
    assert [bundle.folder for bundle in both.members] == [one, two]
    identities = {both.sha256, *(load_bundle(folder).sha256 for folder in (one, two))}
    assert len(identities) == 3
    assert load_bundle(f"{two},{one}").sha256 not in identities


def test_models_that_mean_different_things_are_refused(tmp_path, network) -> None:
    one = write_bundle(tmp_path / "one", network)
    named = (Label(value=1, name="cube", color="#e6194b"),)
    two = write_bundle(tmp_path / "two", network, labels=named)
    three = write_bundle(tmp_path / "three", network, channels=("flair",))
    with pytest.raises(ModelError, match=r"one and .*two cannot be averaged: their labels are"):
        load_bundle(f"{one},{two}")
    with pytest.raises(ModelError, match=r"three cannot be averaged: their channels are"):
        load_bundle(f"{one},{three}")


@pytest.mark.parametrize(
    ("what", "changes", "words"),
    [
        ("thresholds", {"thresholds": (0.4, 0.5, 0.5)}, r"\[0.5, 0.5, 0.5\] and \[0.4,"),
        ("divisions", {"divisions": (Division(axis="A", labels=(7, 300)),)}, r"\[\] and .*'A'"),
        ("postprocess", {"postprocess": (Cleaning(label=2, largest=1),)}, "'largest': 1"),
    ],
)
def test_models_that_decide_in_different_ways_are_refused(
    tmp_path, network, what, changes, words
) -> None:
    third = Label(value=7, name="tip", color="#0000ff")
    common = {"labels": (*LABELS, third), "activation": "sigmoid"}
    one = write_bundle(tmp_path / "one", network, **common)
    two = write_bundle(tmp_path / "two", network, **common, **changes)
    with pytest.raises(
        ModelError, match=f"their {what} are .*{words}.*; one mask has one decision"
    ):
        load_bundle(f"{one},{two}")
    same = write_bundle(tmp_path / "same", network, **common, thresholds=(0.5, 0.5, 0.5))
    assert len(load_bundle(f"{one},{same}").members) == 2


def test_a_model_named_twice_is_refused(tmp_path, network) -> None:
    one = write_bundle(tmp_path / "one", network)
    with pytest.raises(ModelError, match=r"one is named twice; name each model once"):
        load_bundle(f"{one},{one}")
    other = tmp_path / "one" / ".." / "one"
    with pytest.raises(ModelError, match=r"is named twice \(also as .*one\); name each model once"):
        load_bundle(f"{one},{other}")


def test_a_folder_whose_name_has_a_comma_is_one_model(tmp_path, network) -> None:
    folder = write_bundle(tmp_path / "one,two", network, name="one")
    assert load_bundle(str(folder)).others == ()
    assert load_bundle(folder).name == "one"
    with pytest.raises(ModelError, match="neither a folder nor a shipped bundle"):
        load_bundle(f"{folder},")


def test_a_channel_may_be_none_only_if_the_model_was_trained_so(tmp_path: Path) -> None:
    image, truth = ball()
    path = tmp_path / "t1.nii.gz"
    write_volume(path, image)

    def first(tiles: np.ndarray) -> np.ndarray:
        return threshold_model(tiles[..., :1])

    spec = make_spec(channels=("t1", "t2"), optional_channels=("t2",))
    mask = segment((path, None), network=first, like=spec)
    np.testing.assert_array_equal(mask.array, truth.array)
    for paths, message in (((None, path), "image_t1 is empty"), ((None, None), "at least one")):
        with pytest.raises(CaseError, match=message):
            segment(paths, network=first, like=spec)
