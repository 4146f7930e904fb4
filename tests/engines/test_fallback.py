"""Where memory runs out: smaller batches, then the processor; the answers stay the same."""

import numpy as np
import pytest
from phantoms import ball, make_bundle, threshold_model

from voxtile.engines import Engine
from voxtile.engines.fallback import Fallbacks, resilient
from voxtile.errors import CaseError
from voxtile.inference.infer import Member, infer_together
from voxtile.inference.segmenter import Segmenter
from voxtile.machine.memory_errors import is_out_of_memory
from voxtile.preparation.plan import PlanWish, make_plan

CPU, GPU = Engine("keras"), Engine("keras", device="gpu")


class ResourceExhaustedError(Exception):
    """Named as TensorFlow names it."""


class Short:
    """A model with memory for a few tiles; keeps how many it was given each time."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most = most
        self.error = error
        self.given: list[int] = []

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        self.given.append(len(tiles))
        if len(tiles) > self.most:
            raise self.error
        return threshold_model(tiles)


def never(*_):
    raise AssertionError("nothing was to be loaded")


def tiles_of(count: int) -> np.ndarray:
    return 100 * np.random.default_rng(0).random((count, 8, 8, 1), np.float32)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ResourceExhaustedError("OOM when allocating tensor"),
        RuntimeError("CUDA out of memory. Tried to allocate"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("RESOURCE_EXHAUSTED: failed to allocate"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:30],
)
@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_batch_that_does_not_fit_is_halved_and_stays_so(error, most) -> None:
    fallbacks: Fallbacks = {}
    short = Short(most, error)
    (model,) = resilient([short], make_bundle(), CPU, fallbacks, never)
    tiles = tiles_of(7)
    np.testing.assert_array_equal(model(tiles), threshold_model(tiles))
    segmenter = Segmenter((), fallbacks=fallbacks)
    (notice,) = segmenter.notices()
    assert notice.code == "batch_halved"
    assert "8x8 at once" in notice.sentence
    assert segmenter.notices() == ()
    short.given.clear()
    np.testing.assert_array_equal(model(tiles), threshold_model(tiles))
    assert max(short.given) <= most  # what failed once is not tried again
    assert segmenter.notices() == ()


def test_masks_are_equal_and_the_notice_comes_once() -> None:
    image, _ = ball(shape=(40, 40, 9))
    bundle = make_bundle()
    plan = make_plan(bundle.spec, PlanWish(batch=8))
    masks = []
    for most in (8, 3):
        fallbacks: Fallbacks = {}
        models = resilient([Short(most, MemoryError())], bundle, CPU, fallbacks, never)
        masks.append(infer_together(image, [Member(bundle.spec, models, plan)]).array)
        assert list(fallbacks) == ([] if most == 8 else ["batch_halved"])
    np.testing.assert_array_equal(*masks)


def test_a_tile_too_large_for_the_gpu_moves_to_the_processor_for_good() -> None:
    fallbacks: Fallbacks = {}
    loaded: list[Engine] = []

    def load(bundle, engine):
        loaded.append(engine)
        return (never, threshold_model)

    gpu = Short(0, ResourceExhaustedError("OOM"))
    _, model = resilient([never, gpu], make_bundle(), GPU, fallbacks, load)
    tiles = tiles_of(4)
    for _ in range(2):
        np.testing.assert_array_equal(model(tiles), threshold_model(tiles))
    assert [engine.device for engine in loaded] == ["cpu"]
    assert gpu.given == [4, 2, 1]
    assert list(fallbacks) == ["batch_halved", "moved_to_cpu"]


def test_a_single_tile_too_large_for_the_processor_fails_the_case() -> None:
    short = Short(0, MemoryError())
    (model,) = resilient([short], make_bundle(), CPU, {}, never)
    with pytest.raises(CaseError, match=r"a single tile of 8x8; give a smaller --tile") as caught:
        model(tiles_of(4))
    assert caught.value.code == "out_of_memory"
    assert short.given == [4, 2, 1]


def test_other_errors_pass() -> None:
    error = ValueError("model gave shape (1,)")
    (model,) = resilient([Short(0, error)], make_bundle(), CPU, {}, never)
    with pytest.raises(ValueError, match="model gave shape"):
        model(tiles_of(2))
    assert not is_out_of_memory(error)
