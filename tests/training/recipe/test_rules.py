"""The rules that fill in a recipe, and what a recipe refuses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.models.cost import unet_flops
from voxtile.models.spec import Label, Window, ZScore
from voxtile.training.data.case_facts import CaseFacts, ChannelFacts, LabelFacts
from voxtile.training.data.fingerprint import Fingerprint, take_fingerprint
from voxtile.training.fitting.augmentation import Augmentation
from voxtile.training.recipe.budget_rules import GpuRate
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.rules import settle

ONE = (LabelFacts(1, voxels=10),)
shapes = st.tuples(*[st.integers(1, 600)] * 3)
spacings = st.tuples(*[st.floats(0.2, 8)] * 3)
cohorts = st.lists(st.builds(CaseFacts, shapes, spacings, st.just(ONE)), min_size=1, max_size=4)


def settled(case: CaseFacts, *others: CaseFacts, asked: Recipe | None = None) -> Recipe:
    """What the rules make of some cases."""
    return settle(asked or Recipe(), fingerprint(case, *others))[0]


def fingerprint(*cases: CaseFacts) -> Fingerprint:
    """Of cases with one channel, where they have any."""
    return take_fingerprint(cases, ("image",) if cases[0].channels else ())


@given(cohorts, st.none() | st.integers(1, 5))
def test_a_settled_recipe_is_complete_and_settling_it_again_changes_nothing(
    cases: list[CaseFacts], depth: int | None
) -> None:
    recipe, reasons = settle(Recipe(depth=depth), take_fingerprint(cases))
    assert recipe.views and recipe.depth and recipe.tile and recipe.batch and recipe.filters
    assert recipe.steps_per_epoch and recipe.labels and recipe.minutes == 18
    assert recipe.intensity and recipe.spacing_mm and recipe.network and recipe.learning_rate
    assert recipe.context_slices and recipe.foreground and recipe.optimizer == "muon"
    assert all(size % 2**recipe.depth == 0 for tile in recipe.tiles for size in tile)
    assert settle(recipe, take_fingerprint(cases)) == (recipe, {})
    assert ("depth" in reasons) == (depth is None)
    assert all(reasons.values())


@given(cohorts)
def test_rules_do_not_depend_on_the_order_of_cases(cases: list[CaseFacts]) -> None:
    assert settle(Recipe(), take_fingerprint(cases)) == settle(
        Recipe(), take_fingerprint(cases[::-1])
    )


def test_planes_show_the_finest_detail() -> None:
    thick = settled(CaseFacts((512, 512, 60), (0.8, 0.8, 5.0), ONE))
    assert (thick.views, thick.tile, thick.context_slices) == (("axial",), (256, 256), 3)
    assert (thick.filters, thick.networks) == (32, (("axial",),))


def test_near_isotropic_scans_get_every_view() -> None:
    labels = (LabelFacts(1), LabelFacts(2))
    cube = settled(CaseFacts((35, 59, 47), (1.0, 1.0, 1.0), labels))
    assert cube.views == ("axial", "coronal", "sagittal")
    assert cube.networks == (("axial",), ("coronal",), ("sagittal",))
    # Each network has the tile of its own planes.
    assert cube.tile == {"axial": (40, 64), "coronal": (40, 48), "sagittal": (64, 48)}
    assert (cube.depth, cube.batch, cube.filters) == (3, 19, 32)
    shared = settled(
        CaseFacts((35, 59, 47), (1.0, 1.0, 1.0), labels), asked=Recipe(network="shared")
    )
    assert shared.tile == (64, 64)
    assert [label.value for label in cube.labels] == [1, 2]
    one = settled(CaseFacts((35, 59, 47), (1.0, 1.0, 1.0), labels), asked=Recipe(views=("axial",)))
    assert (one.tile, one.depth, one.filters) == ((36, 60), 2, 32)


@pytest.mark.parametrize("pixel", [0.1, 1.0, 5.0])
@pytest.mark.parametrize(("axis", "view"), [(0, "sagittal"), (1, "coronal"), (2, "axial")])
def test_single_planes_have_one_view_and_no_neighbours(pixel, axis, view) -> None:
    shape, spacing = [512, 512, 512], [pixel] * 3
    shape[axis], spacing[axis] = 1, 1.0
    # A disc of 32 pixels' diameter: a tile shows three diameters.
    disc = LabelFacts(1, 804, component_ml=(804 * pixel**2 / 1000,))
    recipe = settled(CaseFacts(tuple(shape), tuple(spacing), (disc,)))
    assert (recipe.views, recipe.context_slices, recipe.tile) == ((view,), 1, (96, 96))


def test_a_network_is_as_wide_as_the_budget_allows() -> None:
    organs = fingerprint(CaseFacts((160, 160, 20), (0.8, 0.8, 4.0), ONE))
    plain, reasons = settle(Recipe(), organs)
    assert plain.filters == 32
    # Two passes back for one forward, over 4 tiles of 160x160 pixels.
    each = 3 * 4 * 160 * 160 * unet_flops(3, 1, filters=32, depth=5)
    enough = 3000 * each / (18 * 60)
    assert (plain.batch, plain.tile, plain.depth) == (4, (160, 160), 5)
    wide, reasons = settle(Recipe(), organs, rate=1.01 * enough)
    assert wide.filters == 32
    assert reasons["filters"].startswith("with 32 filters there is time for about 3030")
    assert reasons["filters"].endswith("and 3000 are enough")
    narrow, reasons = settle(Recipe(), organs, rate=0.99 * enough)
    assert narrow.filters == 16
    # The steps of the width that was passed over: those of the narrow one are always more.
    assert reasons["filters"].startswith("with 32 filters there is time for about 2970")
    assert "fewer than 3000; with 16 for 1" in reasons["filters"]
    assert settle(Recipe(minutes=40), organs, rate=0.99 * enough)[0].filters == 32
    assert settle(Recipe(epochs=1), organs, rate=1)[0].filters == 32
    assert settle(Recipe(filters=24), organs, rate=1)[0].filters == 24


def test_more_time_than_enough_steps_goes_into_more_networks() -> None:
    cube = fingerprint(CaseFacts((48, 48, 48), (1.0, 1.0, 1.0), ONE))
    plain, _ = settle(Recipe(filters=16), cube)
    assert (plain.members, len(plain.networks)) == (1, 3)
    batch, (rows, columns) = plain.batch or 0, plain.tile_of(("axial",))
    each = 3 * batch * rows * columns * unet_flops(5, 1, filters=16, depth=plain.depth or 0)
    enough = 3 * 3000 * each / (18 * 60)
    for share, members in ((0.5, 1), (1.99, 1), (2.01, 2), (3.01, 3), (9, 3)):
        recipe, reasons = settle(Recipe(filters=16), cube, rate=share * enough)
        assert (recipe.members, recipe.networks) == (members, plain.networks * members)
        assert "one network per 3000 steps, at most 3" in reasons["members"]
    # A wider network comes first, a number that was asked for stays.
    assert settle(Recipe(), cube, rate=4.5 * enough)[0].filters == 32
    assert settle(Recipe(), cube, rate=4.5 * enough)[0].members == 1
    assert settle(Recipe(steps=10**6), cube, rate=9 * enough)[0].members == 1
    assert settle(Recipe(members=5, views=("axial",)), cube)[0].networks == (("axial",),) * 5
    assert settle(Recipe(members=5, views=("axial",)), cube)[0].tile == (48, 48)


def test_tiles_are_small_if_labels_are_small() -> None:
    def tile_of(part_ml: float, **asked) -> tuple[object, int | None]:
        label = LabelFacts(1, 50, (part_ml, part_ml))
        case = CaseFacts((150, 300, 20), (1.0, 0.5, 4.0), (label,))
        recipe = settled(case, asked=Recipe(**asked))
        return recipe.tile, recipe.depth

    # 14.1 ml are a ball of 30 mm: 90 mm are 90 pixels along R and 180 along A.
    assert tile_of(14.1) == ((96, 192), 4)
    # Parts of 30 mm at most, of which most have 4 mm: once the largest.
    small = LabelFacts(1, 50, (0.03,) * 3 + (14.1,))
    assert settled(CaseFacts((500, 500, 20), (0.3, 0.3, 4.0), (small,))).tile == (112, 112)
    # A ball of 4.6 mm: 64 pixels are always shown.
    assert tile_of(0.05) == ((64, 64), 3)
    # What is larger than the plane is shown the plane, and at most 256.
    assert tile_of(400) == ((160, 256), 4)
    assert tile_of(0.05, tile=(96, 96))[0] == (96, 96)
    thick = settled(CaseFacts((150, 300, 20), (1.0, 0.5, 4.0), (LabelFacts(1, 50, (0.05,)),)))
    assert thick.batch == 12


def test_several_labels_are_told_apart_by_their_place_so_tiles_show_whole_planes() -> None:
    small = tuple(LabelFacts(value, 50, (0.05,)) for value in (1, 2))
    spine = CaseFacts((20, 200, 224), (4.0, 1.0, 1.0), small)
    recipe, reasons = settle(Recipe(), fingerprint(spine))
    assert (recipe.tile, recipe.depth) == ((224, 224), 5)
    assert "whole planes" in reasons["tile"]
    assert settled(replace(spine, labels=small[:1])).tile == (64, 64)


def test_networks_see_positions_if_labels_are_at_the_same_place() -> None:
    def cohort(*places: float) -> list[CaseFacts]:
        return [
            CaseFacts((64, 64, 20), (1, 1, 5), (LabelFacts(1, 50, (0.05,), (0.3, at, 0.0)),))
            for at in places
        ]

    recipe, reasons = settle(Recipe(), fingerprint(*cohort(-0.1, 0.0, 0.1)))
    assert recipe.position is True
    assert "varies by 0.1 (SD" in reasons["position"]
    recipe, reasons = settle(Recipe(), fingerprint(*cohort(-0.5, 0.0, 0.5)))
    assert recipe.position is False
    assert "can be anywhere" in reasons["position"]
    assert settled(*cohort(0.0)).position is False
    assert settled(*cohort(0.0), asked=Recipe(position=True)).position is True


def test_rare_labels_weigh_more_in_the_cross_entropy() -> None:
    voxels = {1: 4000, 2: 3900, 3: 1000, 4: 1, 5: 250}
    labels = tuple(LabelFacts(value, count) for value, count in voxels.items())
    case = CaseFacts((40, 40, 40), (1.0, 1.0, 1.0), labels)
    assert settled(case).class_weights == (1, 1, 1, 2, 8, 4)
    assert settled(case, asked=Recipe(class_weights=())).class_weights == (1,) * 6
    one = replace(case, labels=labels[3:4])
    assert settled(one).class_weights == (1,)


def test_a_slab_is_cut_along_its_short_side_only() -> None:
    assert settled(CaseFacts((200, 200, 10), (1.0, 1.0, 1.0), ONE)).views == ("axial",)


def test_views_share_a_network_if_there_is_no_time_for_one_each() -> None:
    cube = fingerprint(CaseFacts((160, 160, 160), (1.0, 1.0, 1.0), ONE))
    plain, _ = settle(Recipe(filters=16), cube)
    assert (plain.network, len(plain.networks)) == ("per_view", 3)
    each = 3 * (plain.batch or 0) * 160 * 160 * unet_flops(5, 1, filters=16, depth=5)
    enough = 1500 * each / (18 * 60 / 3)
    own, reasons = settle(Recipe(filters=16), cube, rate=1.01 * enough)
    assert own.network == "per_view"
    shared, reasons = settle(Recipe(filters=16), cube, rate=0.99 * enough)
    assert (shared.network, len(shared.networks)) == ("shared", 1)
    assert reasons["network"].startswith(
        "a network for each view would have time for about 1.5e+03"
    )
    assert settle(Recipe(steps=10), cube)[0].network == "per_view"
    assert settle(Recipe(network="per_view"), cube, rate=1.0)[0].network == "per_view"


def test_tiles_are_varied_more_if_the_budget_shows_them_often() -> None:
    cases = fingerprint(CaseFacts((100, 100, 10), (1.0, 1.0, 4.0), ONE))
    # Ten planes of 10,000 pixels, and steps of 4 tiles of 112x112: 7 times in 13.95 steps.
    for steps, often, expected in (
        (13, "6.5", Augmentation()),
        (14, "7", Augmentation.strong()),
    ):
        recipe, reasons = settle(Recipe(steps=steps), cases)
        assert (recipe.batch, recipe.tile) == (4, (112, 112))
        assert replace(recipe.augmentation, elastic_mm=None) == expected
        assert reasons["augmentation"].startswith(f"tiles show every pixel about {often} times")
    gpu = settle(Recipe(), cases, rate=GpuRate(1e14))[0].augmentation
    assert gpu.rotation_deg == Augmentation.strong().rotation_deg
    asked = Augmentation(rotation_deg=3.0, elastic_mm=1.0)
    assert settle(Recipe(augmentation=asked), cases)[0].augmentation == asked


def test_spacings_are_resampled_only_if_they_differ_much() -> None:
    cases = [CaseFacts((100, 100, 20), (size, size, 5.0), ONE) for size in (0.7, 0.8, 0.85)]
    assert settled(*cases).spacing_mm == "native"
    wide = [*cases, CaseFacts((100, 100, 20), (1.4, 1.4, 7.5), ONE)]
    recipe = settled(*wide)
    assert recipe.spacing_mm == pytest.approx((0.825, 0.825, 5.0))
    # 140 mm at 0.825 mm, rounded up to the poolings.
    assert recipe.tile == (192, 192)
    assert settled(*wide, asked=Recipe(spacing_mm="native")).pixel_mm is None
    # Slices that differ only in their distance are left: nothing is resampled through planes.
    slices = [CaseFacts((100, 100, 20), (1.0, 1.0, size), ONE) for size in (2.5, 5.0)]
    assert settled(*slices).spacing_mm == "native"


def test_resampling_counts_in_the_size_of_a_tile() -> None:
    case = CaseFacts((40, 40, 10), (1.0, 1.0, 3.0), ONE)
    asked = Recipe(spacing_mm=(0.5, 0.5, 3.0), depth=2)
    assert settled(case, asked=asked).tile == (80, 80)


def test_hounsfield_units_get_a_window_and_other_scales_a_z_score() -> None:
    shape, spacing = (100, 100, 20), (1.0, 1.0, 5.0)
    organ = tuple(float(value) for value in range(0, 200))
    ct = CaseFacts(shape, spacing, ONE, (ChannelFacts(-1024, 1500, 0.0, organ),))
    # Percentile 0.5 of 0..199 is 0.995, and 99.5 is 198.005.
    assert settled(ct).intensity == Window(center=99.5, width=199)
    mr = replace(ct, channels=(ChannelFacts(0, 1500, 0.1, organ),))
    assert settled(mr).intensity == ZScore(clip=(0.5, 99.5))
    stripped = replace(ct, channels=(ChannelFacts(0, 1500, 0.6, organ),))
    assert settled(stripped).intensity == ZScore(nonzero=True, clip=(0.5, 99.5))
    assert settled(replace(ct, modality="MR")).intensity == ZScore(clip=(0.5, 99.5))
    assert isinstance(settled(replace(mr, modality="CT")).intensity, Window)


def test_small_labels_get_more_tiles() -> None:
    organ = CaseFacts((64, 64, 20), (1, 1, 5), (LabelFacts(1, 9000),), (), (9, 9, 9), (1, 1, 1))
    assert settled(organ).foreground == pytest.approx(1 / 3)
    assert settled(replace(organ, labels=(LabelFacts(1, 40),))).foreground == 0.5
    assert settled(replace(organ, labelled_planes=(1, 1, 0.1))).foreground == 0.5


def test_there_is_one_class_weight_for_each_output() -> None:
    case = CaseFacts((64, 64, 20), (1, 1, 5), (LabelFacts(1), LabelFacts(2)))
    assert settled(case, asked=Recipe(class_weights=(1, 2, 2))).class_weights == (1, 2, 2)
    with pytest.raises(ValueError, match="has 2 numbers, but there are 3 outputs"):
        settled(case, asked=Recipe(class_weights=(1, 2)))
    single = (Label(value=1, name="a", color="#000000"),)
    with pytest.raises(ValueError, match="has 2 numbers, but there are 1 outputs"):
        settled(case, asked=Recipe(class_weights=(1, 2), labels=single))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"minutes": 1, "epochs": 2}, "minutes and epochs are all budgets"),
        ({"minutes": 0}, "minutes is 0, but must be more than 0"),
        ({"context_slices": 4}, "must be odd"),
        ({"tile": (40, 48), "depth": 4}, "must be a multiple of 16"),
        ({"views": ("oblique",)}, "must be some of axial, coronal, sagittal"),
        ({"views": ()}, "views is empty"),
        ({"flips": ("R", "R")}, "each once"),
        ({"ema": 1.0}, r"must be in \[0, 1\)"),
    ],
)
def test_a_contradiction_is_refused(choices: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**choices)  # type: ignore[arg-type]


@given(st.floats(0.05, 20), st.floats(0.001, 50))
def test_elastic_shifts_grow_with_the_scan(factor: float, ml: float) -> None:
    def scan(scale: float) -> CaseFacts:
        parts = (LabelFacts(1, 100, (ml * scale**3,)),)
        return CaseFacts((64, 64, 64), (scale, 1.1 * scale, scale), parts)

    here, there = (settled(scan(scale)).augmentation.elastic_mm for scale in (1.0, factor))
    assert here and there == pytest.approx(factor * here, rel=0.01)


def test_elastic_shifts_are_a_pixel_or_a_tenth_of_the_largest_part() -> None:
    hippocampus = CaseFacts((40, 50, 40), (1.0, 1.0, 1.0), (LabelFacts(1, 1700, (1.7,)),))
    mouse = CaseFacts((90, 90, 90), (0.15, 0.15, 0.15), (LabelFacts(1, 9000, (0.03,)),))
    dots = CaseFacts((90, 90, 90), (1.0, 1.0, 1.0), (LabelFacts(1, 30, (0.03,)),))
    found = [settled(case).augmentation.elastic_mm for case in (hippocampus, mouse, dots)]
    assert found == pytest.approx([1.0, 0.15, 0.386], rel=0.01)
    asked = Recipe(augmentation=Augmentation(elastic_mm=0.7))
    recipe, reasons = settle(asked, fingerprint(mouse))
    assert recipe.augmentation.elastic_mm == 0.7 and "augmentation" not in reasons


def test_a_gpu_gets_larger_batches_wider_networks_and_more_members_by_its_rate() -> None:
    cube = fingerprint(CaseFacts((64, 64, 64), (1.0, 1.0, 1.0), ONE))
    processor, _ = settle(Recipe(), cube, rate=1e11)
    fast, reasons = settle(Recipe(), cube, rate=GpuRate(4.0**23))  # 70 TFLOP/s
    assert fast.batch == 4 * (processor.batch or 0)
    assert (fast.filters, fast.members) == (64, 3)
    assert "70.4 TFLOP/s" in reasons["batch"] and "64 filters" in reasons["filters"]
    assert fast.steps_per_epoch == 100
    slow, _ = settle(Recipe(), cube, rate=GpuRate(1e12))
    assert slow.batch == processor.batch
    # Five poolings of 64 filters would end with 2048.
    spine = fingerprint(
        CaseFacts((20, 224, 224), (4.0, 1.0, 1.0), (*ONE, LabelFacts(2, voxels=10)))
    )
    deep, _ = settle(Recipe(), spine, rate=GpuRate(4.0**23))
    assert (deep.depth, deep.filters) == (5, 32)
    # A step takes a least time, however fast the GPU is: 60 / 0.005 steps for three networks.
    short, _ = settle(Recipe(minutes=1), cube, rate=GpuRate(4.0**30))
    assert (short.filters, short.members) == (64, 1)
    # Other budgets mean the same on every machine, and a GPU of unknown rate has the usual recipe.
    for budget in (Recipe(epochs=1), Recipe(steps=9)):
        assert settle(budget, cube, rate=GpuRate(4.0**23)) == settle(budget, cube, rate=1e11)
    assert settle(Recipe(), cube)[0].filters == 32
