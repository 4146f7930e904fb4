"""Laws of the planner: what a tile must be for any plane, tile and overlap."""

from dataclasses import replace
from itertools import pairwise
from math import prod

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from phantoms import make_bundle, make_spec

from voxtile.models.cost import Cost
from voxtile.models.spec import Network
from voxtile.preparation import plan as planning
from voxtile.preparation.plan import Plan, PlanWish, make_plan

UNET = Cost(flops=1e5, values=500.0, tile_bound=False, fixed=None, parameters=1)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any plan with fitted tiles, of a network with few or many poolings."""
    multiple = draw(st.sampled_from([1, 4, 8, 16, 32]))
    rows, columns = (multiple * draw(st.integers(1, 8)) for _ in "ab")
    overlap = tuple(draw(st.integers(0, size // 2)) for size in (rows, columns))
    largest = rows * columns * draw(st.integers(1, 40))
    return Plan((rows, columns), overlap, "gaussian", multiple, largest)


PLANES = st.tuples(st.integers(1, 700), st.integers(1, 700))


@given(plans(), PLANES)
def test_a_fitted_tile_is_allowed_by_network_spec_and_memory(plan: Plan, plane) -> None:
    tile = plan.for_plane(plane).tile
    assert prod(tile) <= plan.largest
    for size, least in zip(tile, plan.tile, strict=True):
        assert size % plan.multiple == 0
        assert size >= least


@given(plans(), PLANES)
def test_tiles_cover_the_plane_and_share_the_overlap(plan: Plan, plane) -> None:
    tiling = plan.for_plane(plane)
    grid = tiling.grid(plane)
    rows, columns = ({origin[axis] for origin in grid.origins} for axis in (0, 1))
    for starts, tile, size, overlap in zip(
        (rows, columns), tiling.tile, plane, plan.overlap, strict=True
    ):
        ordered = sorted(starts)
        assert ordered[0] == 0
        assert ordered[-1] + tile >= size
        steps = [after - before for before, after in pairwise(ordered)]
        assert all(tile - step >= overlap for step in steps)


@example(Plan((8, 32), (0, 0), "gaussian", 8, 2304), (1, 257))  # three tiles of 88 are less
@given(plans(), PLANES)
def test_a_plane_that_fits_is_one_tile(plan: Plan, plane) -> None:
    whole = [
        planning._rounded(size, least, plan.multiple)
        for size, least in zip(plane, plan.tile, strict=True)
    ]
    tiling = plan.for_plane(plane)
    if prod(whole) <= plan.largest:
        assert len(tiling.grid(plane)) == 1
        assert tiling.tile == tuple(whole)


@given(plans(), PLANES)
def test_no_fitted_grid_has_more_arithmetic_than_that_of_the_specs_tile(plan: Plan, plane) -> None:
    fitted = plan.for_plane(plane)
    fixed = replace(plan, largest=0).for_plane(plane)
    work = [len(tiling.grid(plane)) * prod(tiling.tile) for tiling in (fitted, fixed)]
    # Rounding up to one of few sizes may cost a sixteenth along each axis, and no more.
    assert work[0] <= work[1] * (17 / 16) ** 2


def test_a_plane_of_512_pixels_under_half_overlap_needs_a_quarter_of_the_arithmetic() -> None:
    plan = Plan((128, 128), (64, 64), "gaussian", 16, largest=512 * 512)
    assert plan.for_plane((512, 512)).tile == (512, 512)
    tiles = len(replace(plan, largest=0).for_plane((512, 512)).grid((512, 512)))
    assert tiles * 128 * 128 == 49 / 16 * 512 * 512


def test_planes_of_many_sizes_share_few_tiles() -> None:
    plan = Plan((64, 64), (32, 32), "gaussian", 16, largest=600 * 600)
    sizes = {plan.for_plane((size, size)).tile for size in range(256, 513)}
    assert len(sizes) <= 16


def test_a_plan_that_may_not_fit_keeps_its_tile() -> None:
    plan = Plan((64, 48), (32, 24), "gaussian", 16, largest=0)
    assert {plan.for_plane((size, 2 * size)).tile for size in (1, 64, 500)} == {(64, 48)}


def test_what_decides_a_mask_says_nothing_of_memory() -> None:
    plan = Plan((64, 64), (32, 32), "gaussian", 16, 4096, ("R",), 4, 100.0, 1000.0, 0)
    other = replace(plan, batch=1, memory_mb=1.0, halvings=3, bytes_per_pixel=9.0)
    assert plan.decisive() == other.decisive()
    assert set(plan.decisive()) == {
        "tile", "overlap", "weighting", "multiple", "largest", "flips", "views"
    }  # fmt: skip
    assert plan.decisive() != replace(plan, flips=()).decisive()


@given(st.floats(1, 1e5), st.integers(0, 4))
def test_a_batch_is_held_to_half_the_memory(memory_mb: float, halvings: int) -> None:
    plan = Plan((64, 64), (0, 0), "constant", bytes_per_pixel=2000, memory_mb=memory_mb)
    batch = replace(plan, halvings=halvings).for_plane((64, 64)).batch
    assert 1 <= batch <= 16
    assert batch == 1 or batch * 64 * 64 * 2000 <= memory_mb * 1e6 / 2


def test_halving_never_goes_below_one_tile() -> None:
    plan = Plan((16, 16), (0, 0), "constant", batch=6)
    batches = []
    for _ in range(4):
        batches.append(plan.for_plane((16, 16)).batch)
        plan = plan.with_half_the_batch()
    assert batches == [6, 3, 1, 1]


def test_a_batch_that_was_asked_for_is_not_cut_to_the_memory() -> None:
    plan = Plan((64, 64), (0, 0), "constant", batch=9, bytes_per_pixel=1e6, memory_mb=1.0)
    assert plan.for_plane((64, 64)).batch == 9


def test_room_is_what_was_given_or_a_share_of_what_is_free(monkeypatch) -> None:
    monkeypatch.setattr(planning, "free_memory_mb", lambda: 1000.0)
    plan = Plan((64, 64), (0, 0), "constant")
    assert plan.room_mb() == pytest.approx(700)
    assert replace(plan, memory_mb=50.0).room_mb() == 50


@pytest.mark.parametrize(
    ("cost", "free"),
    [
        (UNET, True),
        (replace(UNET, tile_bound=True), False),
        (replace(UNET, fixed=(16, 16)), False),
        (None, False),
    ],
    ids=["convolutions alone", "statistics over the tile", "one size only", "unknown graph"],
)
def test_only_networks_that_judge_from_surroundings_get_larger_tiles(
    cost, free, monkeypatch
) -> None:
    monkeypatch.setattr(planning, "network_cost", lambda bundle, network: cost)
    plan = make_plan(make_bundle())
    assert (plan.for_plane((200, 200)).tile != (16, 16)) == free
    assert make_plan(make_bundle(), PlanWish(tile=(16, 16))).largest == 0


def test_tiles_hold_no_more_than_half_a_gibibyte_whatever_the_machine(monkeypatch) -> None:
    monkeypatch.setattr(planning, "network_cost", lambda bundle, network: UNET)
    for memory_mb in (10.0, 1e6):
        plan = make_plan(make_bundle(), PlanWish(memory_mb=memory_mb))
        assert plan.bytes_per_pixel == 2000
        assert plan.largest == 2**29 // 2000


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (PlanWish(tile=(20, 16)), r"tile \(20, 16\) must be a multiple of 8 for this model"),
        (PlanWish(tile=(0, 16)), r"tile \(0, 16\) must be a multiple of 8"),
        (PlanWish(tile=(32, 32)), r"tile \(32, 32\) must be \(16, 16\): this model takes only"),
        (PlanWish(overlap=1.0), "overlap 1.0 must be a fraction of at least 0 and below 1"),
        (PlanWish(overlap=-0.1), "overlap -0.1 must be a fraction"),
        (PlanWish(batch=0), "batch 0 must be at least 1"),
        (PlanWish(memory_mb=0.0), "memory 0.0 must be more than 0"),
    ],
)
def test_a_wish_that_cannot_be_had_is_refused(wish, message, monkeypatch) -> None:
    fixed = replace(UNET, fixed=(16, 16))
    monkeypatch.setattr(planning, "network_cost", lambda bundle, network: fixed)
    with pytest.raises(ValueError, match=message):
        make_plan(make_bundle(multiple=8), wish)


def test_flips_are_the_bundles_unless_a_run_says_otherwise() -> None:
    spec = make_spec(flips=("R",))
    assert make_plan(spec).flips == ("R",)
    assert make_plan(spec, PlanWish(flips=())).flips == ()
    assert make_plan(spec, PlanWish(flips=("A", "S"))).flips == ("A", "S")


def test_mirrored_planes_that_a_network_never_saw_are_refused() -> None:
    spec = make_spec(training={"recipe": {"flips": ["R"]}})
    assert make_plan(spec, PlanWish(flips=("R",))).flips == ("R",)
    with pytest.raises(ValueError, match=r"mirrored along R, so .* along S cannot be trusted"):
        make_plan(spec, PlanWish(flips=("R", "S")))
    unmirrored = make_spec(training={"recipe": {"flips": []}})
    with pytest.raises(ValueError, match=r"mirrored along no axis, .* use --tta none, or train"):
        make_plan(unmirrored, PlanWish(flips=("A",)))
    assert make_plan(unmirrored, PlanWish(flips=())).flips == ()
    # A network from elsewhere may know any axis.
    assert make_plan(make_spec(), PlanWish(flips=("A",))).flips == ("A",)


def test_each_view_has_the_tile_of_its_network() -> None:
    networks = tuple(
        Network(file=f"{view}.keras", sha256="0" * 64, views=(view,), tile=tile)
        for view, tile in (("axial", None), ("coronal", (32, 16)), ("sagittal", (16, 48)))
    )
    spec = make_spec(tile=(32, 48), multiple=16, overlap=0.5, networks=networks)
    plan = make_plan(spec)
    found = {view: plan.for_view(view).for_plane((8, 8)) for view in spec.views}
    assert {view: tiling.tile for view, tiling in found.items()} == {
        "axial": (32, 48),
        "coronal": (32, 16),
        "sagittal": (16, 48),
    }
    assert found["coronal"].overlap == (16, 8)
    asked = make_plan(spec, PlanWish(tile=(16, 16)))
    assert {asked.for_view(view).for_plane((8, 8)).tile for view in spec.views} == {(16, 16)}
    odd = networks[1].model_copy(update={"tile": (20, 16)})
    with pytest.raises(ValueError, match=r"tile \(20, 16\) must be a multiple of 16"):
        make_spec(tile=(32, 48), multiple=16, networks=(odd,))


def test_a_batchs_answers_are_held_to_128_mib() -> None:
    few, many = (
        Plan((256, 256), (0, 0), "constant", answer_bytes=4 * classes) for classes in (5, 105)
    )
    assert few.for_plane((256, 256)).batch == 4
    # 256 x 256 x 105 numbers of 4 bytes are 26 MiB.
    assert many.for_plane((256, 256)).batch == 4
    assert replace(many, tile=(512, 512)).for_plane((512, 512)).batch == 1
    assert replace(few, tile=(512, 512)).for_plane((512, 512)).batch == 2
    assert replace(many, tile=(512, 512), batch=3).for_plane((512, 512)).batch == 3
