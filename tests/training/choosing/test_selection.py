"""What validation cases choose: candidates, the rule, and choices that a pencil can check."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import ball, make_spec

from voxtile.inference.infer import infer
from voxtile.models.spec import Cleaning, Division, Label, ModelSpec, Network
from voxtile.preparation.plan import make_plan
from voxtile.scoring.overlap import count_overlaps
from voxtile.training.bundle.selection_card import chosen_words
from voxtile.training.choosing.candidates import FEWEST, MARGIN, best_of, is_gain, mean_dice
from voxtile.training.choosing.choosing import apply_selection
from voxtile.training.choosing.evidence import Evidence, gather, of_view
from voxtile.training.choosing.selection import (
    Selection,
    select,
    view_shares,
    weigh_views,
    weight_grid,
)
from voxtile.volume import Volume

TWO = ("axial", "coronal")


def networks(*views: str, weight: float = 1.0) -> tuple[Network, ...]:
    return tuple(
        Network(file=f"{view}.keras", sha256="0" * 64, views=(view,), weight=weight)
        for view in views
    )


def label(value: int, *region: int) -> Label:
    return Label(value=value, name=f"label {value}", color="#e6194b", region=region)


def evidence_of(folder: Path, said: np.ndarray, truth: np.ndarray, name: str = "a") -> Evidence:
    """What views said of every voxel, shape (i, j, k, views, channels), kept on disk."""
    where, probabilities = folder / f"{name}_where.npy", folder / f"{name}_said.npy"
    np.save(where, np.arange(truth.size))
    flat = said.reshape(truth.size, *said.shape[3:])
    np.save(probabilities, np.rint(flat * 65535).astype(np.uint16))
    return Evidence(Volume(truth.astype(np.uint8), np.diag([1.0, 1, 2, 1])), where, probabilities)


@pytest.mark.parametrize(("views", "count"), [(1, 1), (2, 11), (3, 66)])
def test_weights_are_all_the_tenths_that_add_up_to_one(views: int, count: int) -> None:
    grid = weight_grid(views)
    assert len({tuple(row) for row in grid.tolist()}) == len(grid) == count
    np.testing.assert_allclose(grid.sum(axis=1), 1)
    assert (grid >= 0).all()


def test_a_better_candidate_is_taken_only_beyond_the_margin() -> None:
    base = np.full((FEWEST, 1), 0.8)
    assert best_of(np.stack([base, base + 0.5 * MARGIN]), MARGIN) == 0
    assert best_of(np.stack([base, base + 2 * MARGIN, base + 2 * MARGIN]), MARGIN) == 1
    assert best_of(np.stack([base, base + 0.5 * MARGIN]), 0.0) == 1
    assert best_of(np.stack([base, base]), 0.0) == 0


def test_a_large_gain_of_one_case_does_not_outvote_losses_of_others() -> None:
    base = np.full((FEWEST, 1), 0.5)
    other = base - 0.01
    other[0] = 1.0
    assert mean_dice(other) > mean_dice(base) + MARGIN
    assert best_of(np.stack([base, other]), MARGIN) == 0


def test_few_cases_choose_nothing() -> None:
    base = np.full((FEWEST - 1, 1), 0.5)
    assert best_of(np.stack([base, base + 0.3]), MARGIN) == 0


def test_a_few_lucky_cases_do_not_decide_for_all() -> None:
    base = np.full((20, 1), 0.8)
    lucky = base.copy()
    lucky[:2] += 0.2  # a gain of 0.02 by two cases; the interval of the mean holds 0
    assert best_of(np.stack([base, lucky]), MARGIN) == 0
    steady = base + np.linspace(0.005, 0.035, 20)[:, np.newaxis]
    assert best_of(np.stack([base, steady]), MARGIN) == 1
    # Student's t of 0.1, 0.2, 0.3, 0.4, 0.5: mean 0.3, standard error 0.0707, t 4.24 above 2.13;
    # lowered by 0.15 it is 2.12.
    change = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert is_gain(change)
    assert not is_gain(change - 0.15)


def test_an_empty_label_left_empty_counts_as_right() -> None:
    false_alarm, silent = np.zeros((FEWEST, 1)), np.full((FEWEST, 1), np.nan)
    assert best_of(np.stack([false_alarm, silent]), 0.0) == 1
    assert best_of(np.stack([silent, false_alarm]), 0.0) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["softmax", "sigmoid"]))
def test_counting_disputed_voxels_only_is_counting_them_all(
    tmp_path_factory, seed: int, activation: str
) -> None:
    rng = np.random.default_rng(seed)
    labels = (label(1, 1, 2), label(2)) if activation == "sigmoid" else (label(1), label(2))
    spec = make_spec(labels=labels, activation=activation, networks=networks(*TWO))
    said = rng.random((3, 4, 5, 2, spec.output_channels))
    if activation == "softmax":
        said /= said.sum(axis=-1, keepdims=True)
    truth = rng.integers(0, 3, (3, 4, 5))
    case = evidence_of(tmp_path_factory.getbasetemp(), said, truth, "laws")
    grid = weight_grid(2)
    counts = weigh_views(case, spec, grid)
    kept = np.load(case.probabilities) / np.float32(65535)
    for weights, counted in zip(grid, counts, strict=True):
        blend = np.einsum("nvc,v->nc", kept, weights.astype(np.float32))
        if activation == "softmax":
            decided = blend.argmax(axis=-1)
        else:
            decided = np.where(blend[:, 1] >= 0.5, 2, np.where(blend[:, 0] >= 0.5, 1, 0))
        overlaps = count_overlaps(
            decided.reshape(truth.shape), truth, [part.values for part in labels]
        )
        assert counted.tolist() == [[part.tp, part.voxels_pred] for part in overlaps]


def cohort_of(
    folder: Path, answers: list[tuple[np.ndarray, ...]], truths: list[np.ndarray]
) -> list[Evidence]:
    """Foreground probabilities of each view of each case, one label."""
    return [
        evidence_of(folder, np.stack(views, axis=-1)[..., np.newaxis], truth, f"case{number}")
        for number, (views, truth) in enumerate(zip(answers, truths, strict=True))
    ]


def one_label(*views: str, **changes) -> ModelSpec:
    return make_spec(activation="sigmoid", networks=networks(*views), **changes)


def block(*shape: int) -> np.ndarray:
    truth = np.zeros(shape)
    truth[2:6, 2:6, 2:6] = 1
    return truth


def test_a_view_that_is_right_outweighs_a_random_one(tmp_path: Path) -> None:
    truth = block(8, 8, 8)
    rng = np.random.default_rng(0)
    answers = [(0.1 + 0.6 * truth, rng.random(truth.shape)) for _ in range(FEWEST)]
    chosen = select(cohort_of(tmp_path, answers, [truth] * FEWEST), one_label(*TWO))
    # The rows of the table are what a pencil gets: the first view alone is the truth.
    assert np.nanmean(chosen.view_dice[0]) == 1
    assert np.nanmean(chosen.view_dice[1]) < 0.5
    assert chosen.weights[0] > 0.7
    assert np.nanmean(chosen.dice) == 1 > np.nanmean(chosen.before)
    assert chosen.thresholds == ()


def test_views_that_are_alike_keep_their_weights(tmp_path: Path) -> None:
    truth = block(8, 8, 8)
    answers = [(0.1 + 0.6 * truth, 0.2 + 0.6 * truth)] * FEWEST
    chosen = select(cohort_of(tmp_path, answers, [truth] * FEWEST), one_label(*TWO))
    assert chosen.weights == (0.5, 0.5)
    assert (chosen.thresholds, chosen.postprocess) == ((), ())
    np.testing.assert_array_equal(chosen.dice, np.ones((FEWEST, 1)))


def test_a_network_with_low_probabilities_gets_a_lower_threshold(tmp_path: Path) -> None:
    truth = block(8, 8, 8)
    answers = [(0.05 + 0.25 * truth,)] * FEWEST  # at most 0.3
    chosen = select(cohort_of(tmp_path, answers, [truth] * FEWEST), one_label("axial"))
    assert chosen.thresholds == (0.1,)  # the first of those that are as good
    assert np.nanmean(chosen.before) == 0 < np.nanmean(chosen.dice) == 1


def test_specks_and_holes_are_cleaned_where_that_helps(tmp_path: Path) -> None:
    truth = block(8, 8, 8)
    said = 0.9 * truth
    said[3, 3, 3] = 0  # a hole
    said[0, 0, 0] = said[7, 7, 7] = 0.9  # specks
    chosen = select(cohort_of(tmp_path, [(said,)] * FEWEST, [truth] * FEWEST), one_label("axial"))
    assert chosen.postprocess == (Cleaning(label=1, largest=1, fill_holes=True),)
    assert np.nanmean(chosen.before) == pytest.approx(2 * 63 / (65 + 64))
    assert np.nanmean(chosen.dice) == 1


def test_lesions_keep_all_their_parts_but_the_smallest(tmp_path: Path) -> None:
    truth = np.zeros((9, 9, 9))
    truth[0:3, 0:3, 1:3] = truth[5:8, 5:8, 1:4] = truth[0:3, 5:8, 5:9] = 1
    said = 0.9 * truth
    said[8, 0, 8] = 0.9
    chosen = select(cohort_of(tmp_path, [(said,)] * FEWEST, [truth] * FEWEST), one_label("axial"))
    (step,) = chosen.postprocess
    # Parts of 36, 54 and 72 mm3 and a speck of one voxel, 2 mm3: 5 % of the median removes it.
    assert step == Cleaning(label=1, smallest_mm3=2.7)


def test_post_processing_that_costs_is_left_out(tmp_path: Path) -> None:
    truth = np.zeros((9, 9, 9))
    truth[0:3, 0:3, 0:3] = truth[5:7, 5:7, 5:7] = truth[0, 8, 8] = 1
    chosen = select(
        cohort_of(tmp_path, [(0.9 * truth,)] * FEWEST, [truth] * FEWEST), one_label("axial")
    )
    assert chosen.postprocess == ()


def test_a_part_of_the_reference_that_a_network_misses_still_rules_out_a_division(
    tmp_path: Path,
) -> None:
    truth = np.zeros((10, 8, 6), np.uint8)
    truth[1:5, 2:4, 1:5] = truth[6:9, 4:6, 1:5] = 1
    truth[1:5, 4:6, 1:5] = truth[6:9, 2:4, 1:5] = 2  # every coronal plane has both
    seen = np.where(np.arange(10)[:, np.newaxis, np.newaxis] < 5, truth, 0)
    said = np.eye(3)[seen][:, :, :, np.newaxis]  # of the seen part alone, none has
    case = evidence_of(tmp_path, said, truth)
    spec = make_spec(labels=(label(1), label(2)), networks=networks("axial"))
    assert select([case] * FEWEST, spec).divisions == ()
    half = evidence_of(tmp_path, said, seen, "half")
    assert select([half] * FEWEST, spec).divisions == (Division(axis="A", labels=(1, 2)),)


def test_empty_predictions_of_empty_references_choose_nothing(tmp_path: Path) -> None:
    nothing = np.zeros((4, 4, 4))
    chosen = select(
        cohort_of(tmp_path, [(nothing, nothing)] * FEWEST, [nothing] * FEWEST), one_label(*TWO)
    )
    assert chosen.weights == (0.5, 0.5)
    assert np.isnan(chosen.dice).all()


def view_model(offset: float):
    """A softmax network that is right on the ball, and unsure by an offset elsewhere."""

    def model(tiles: np.ndarray) -> np.ndarray:
        inside = np.where(tiles[..., tiles.shape[-1] // 2] > 50, 0.8, offset)
        return np.stack([1 - inside, inside], axis=-1).astype(np.float32)

    return model


class _Stored:
    """As much of a `StoredCase` as gathering reads."""

    def __init__(self, volume: Volume, reference: Volume) -> None:
        self.volume, self.reference = volume, reference


@pytest.mark.parametrize("axes", ["RAS", "LIP"])
def test_the_stored_voxels_of_a_case_give_the_masks_of_a_run(tmp_path: Path, axes: str) -> None:
    image, truth = ball(axes=axes)
    spec = make_spec(networks=networks(*TWO))
    models = [view_model(0.1), view_model(0.55)]
    plan = make_plan(spec)
    (case,) = gather([_Stored(image, truth)], spec, models, plan, tmp_path, least=0.5)
    # Only where some view gives the label half or more: here everywhere, by the second view.
    assert len(np.load(case.where)) == truth.array.size
    counts = weigh_views(case, spec, np.array([[0.5, 0.5], [1, 0], [0, 1]]))
    for (both, ours), (one, used) in zip(
        counts[:, 0],
        [(spec, models), of_view(spec, models, "axial"), of_view(spec, models, "coronal")],
        strict=True,
    ):
        (overlap,) = count_overlaps(infer(image, one, used, plan).array, truth.array, [(1,)])
        assert (both, ours) == (overlap.tp, overlap.voxels_pred)
    assert not list(tmp_path.glob("*_axial.npy"))


def test_voxels_that_every_view_calls_background_are_not_stored(tmp_path: Path) -> None:
    image, truth = ball()
    spec = make_spec(networks=networks("axial"))
    plan = make_plan(spec)
    (case,) = gather([_Stored(image, truth)], spec, [view_model(0.1)], plan, tmp_path, least=0.5)
    assert len(np.load(case.where)) == np.count_nonzero(truth.array)
    (none,) = gather(
        [_Stored(image.with_array(0 * image.array), truth)],
        spec,
        [view_model(0.1)],
        plan,
        tmp_path / "none",
        least=0.5,
    )
    assert len(np.load(none.where)) == 0
    assert select([none] * FEWEST, spec).dice.tolist() == [[0.0]] * FEWEST


def chosen_of(weights, postprocess=()) -> Selection:
    nothing = np.zeros((1, 1))
    return Selection(weights, (), (), postprocess, np.zeros((len(weights), 1, 1)), nothing, nothing)


def test_weights_go_to_each_network_of_a_view() -> None:
    spec = make_spec(networks=networks(*TWO))
    changed = apply_selection(spec, chosen_of((0.3, 0.7)))
    assert [(one.file, one.views, one.weight) for one in changed.networks] == [
        ("axial.keras", ("axial",), 0.3),
        ("coronal.keras", ("coronal",), 0.7),
    ]
    np.testing.assert_allclose(view_shares(changed), (0.3, 0.7))
    assert apply_selection(spec, chosen_of((0.5, 0.5))) == spec


def test_a_network_of_several_views_is_named_once_for_each() -> None:
    shared = Network(file="unet.keras", sha256="0" * 64, views=TWO)
    changed = apply_selection(make_spec(networks=(shared,)), chosen_of((0.2, 0.8)))
    assert [(one.file, one.views, one.weight) for one in changed.networks] == [
        ("unet.keras", ("axial",), 0.2),
        ("unet.keras", ("coronal",), 0.8),
    ]
    assert changed.views == TWO


def test_a_view_without_weight_is_left_out() -> None:
    told = [
        {"file": f"{view}.keras", "views": [view], "parameters": size, "steps": 10 * size}
        for view, size in zip(TWO, (7, 5), strict=True)
    ]
    training = {"networks": told, "parameters": 12, "steps": 120, "seconds": 3.0}
    spec = make_spec(networks=networks(*TWO), training=training)
    changed = apply_selection(spec, chosen_of((0.0, 1.0)))
    assert changed.views == ("coronal",)
    # It tells of what is in the bundle; the time is that of the whole training.
    left = {"networks": told[1:], "parameters": 5, "steps": 50, "seconds": 3.0}
    assert changed.training == left
    assert apply_selection(spec, chosen_of((0.3, 0.7))).training == training


def test_choices_in_words() -> None:
    facts = {
        "weights_changed": True,
        "weights": {"axial": 0.3, "coronal": 0.7},
        "thresholds_changed": True,
        "thresholds": [0.35],
        "divisions": [{"axis": "A", "labels": [1, 2]}],
        "postprocess": [
            {"label": 1, "largest": 2, "smallest_mm3": 30.0, "fill_holes": True},
            {"label": 2, "largest": 1, "smallest_mm3": 0.0, "fill_holes": False},
        ],
    }
    assert chosen_words(facts) == (
        "view weights axial 0.3, coronal 0.7; thresholds 0.35; only one of labels 1 and 2 in each "
        "plane along A; label 1: only the 2 largest parts, only parts of at least 30 mm3, holes "
        "filled; label 2: only the largest part"
    )
    nothing = {"weights_changed": False, "thresholds_changed": False, "postprocess": []}
    assert chosen_words(nothing) == "no change (no candidate was better)"


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_ignored_voxels_choose_nothing(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("ignored")
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array([0, 1, 2, 255]), (4, 4, 3))
    said = rng.dirichlet((1, 1, 1), (4, 4, 3, 2))
    other = np.where((truth == 255)[..., None, None], rng.dirichlet((1, 1, 1), (4, 4, 3, 2)), said)
    spec = make_spec(
        labels=(label(1), label(2)), activation="softmax", networks=networks(*TWO), ignore=255
    )
    grid = weight_grid(2)
    counts = [
        weigh_views(evidence_of(folder, one, truth, name), spec, grid)
        for name, one in (("a", said), ("b", other))
    ]
    np.testing.assert_array_equal(*counts)
