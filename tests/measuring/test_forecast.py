"""What a run would do is what it does: the same tiles, in the same batches; and words for it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import ball, make_spec, threshold_model
from typer.testing import CliRunner

from voxtile.case import Case
from voxtile.cli import app
from voxtile.engines import Engine, Wish
from voxtile.errors import CaseError
from voxtile.inference.infer import Member, infer_together
from voxtile.measuring import benchmark
from voxtile.measuring import forecast as forecasting
from voxtile.measuring.benchmark import Spread, run_benchmark, time_calls
from voxtile.measuring.forecast import make_forecast
from voxtile.measuring.workload import Grid, passes, survey_grid
from voxtile.models.bundle import SHIPPED
from voxtile.models.spec import Network
from voxtile.phantoms.dicom import write_series
from voxtile.preparation.plan import PlanWish, make_plan
from voxtile.reading.scan import ReadPolicy
from voxtile.run.job import RunSettings
from voxtile.volume import canonical
from voxtile.writing.nifti import write_mask, write_volume

KERAS = RunSettings(engine=Wish(engine="keras"), plan=PlanWish(batch=4))


def network(view: str) -> Network:
    return Network(file=f"{view}.keras", sha256="0" * 64, views=(view,))


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9)),
    spacing_mm=st.none() | st.just((0.7, 1.9, 1.0)),
    views=st.sets(st.sampled_from(["axial", "coronal", "sagittal"]), min_size=1),
    flips=st.sets(st.sampled_from("RAS")),
    batch=st.integers(1, 9),
    context=st.sampled_from([1, 3]),
)
def test_a_run_judges_the_tiles_that_were_told(
    shape, spacing_mm, views, flips, batch, context
) -> None:
    image, _ = ball(shape=shape, spacing_mm=(1.2, 1.2, 2.5), axes="PLI")
    given_batches: list[tuple[int, ...]] = []

    def counting(tiles: np.ndarray) -> np.ndarray:
        given_batches.append(tiles.shape[:3])
        return threshold_model(tiles)

    spec = make_spec(
        networks=tuple(map(network, sorted(views))), spacing_mm=spacing_mm, context_slices=context
    )
    plan = make_plan(spec, PlanWish(batch=batch, flips=tuple(sorted(flips))))
    members = [Member(spec, (counting,) * len(views), plan)]
    infer_together(image, members)
    ras = canonical(image)
    told = list(passes(Grid(ras.shape, ras.spacing_mm, 0.0), members))
    assert sum(step.judged for step in told) == sum(count for count, _, _ in given_batches)
    assert sum(step.pixels for step in told) == sum(
        count * rows * columns for count, rows, columns in given_batches
    )
    batches = [step.mirrorings * sum(step.batches.values()) for step in told]
    assert sum(batches) == len(given_batches)
    for step in told:
        assert step.tiles == step.planes * len(step.tiling.grid(step.resampled))


def test_a_pass_by_pencil() -> None:
    spec = make_spec(tile=(16, 16), spacing_mm=(1.0, 1.0, 1.0), overlap=0.5, flips=("R", "S"))
    member = Member(spec, (), make_plan(spec, PlanWish(batch=8)))
    (step,) = passes(Grid((40, 31, 5), (0.5, 1.0, 3.0), 0.0), [member])
    assert (step.plane, step.resampled, step.spacing_mm) == ((40, 31), (21, 31), (0.5, 1.0))
    assert step.grid == (2, 3)
    assert (step.planes, step.tiles, step.mirrorings) == (5, 30, 2)
    assert step.batches == {8: 4}  # 24 tiles in three, and six that are filled up to eight
    assert step.judged == 64
    assert step.pixels == 64 * 256


def test_headers_of_nifti_and_dicom_give_the_canonical_grid(tmp_path: Path) -> None:
    image, _ = ball(shape=(14, 16, 7), spacing_mm=(1.0, 2.0, 3.0), axes="LPS")
    write_volume(tmp_path / "a.nii.gz", image)
    write_series(tmp_path / "series", image)
    for name in ("a.nii.gz", "series"):
        case = Case("a", (("image", tmp_path / name),))
        grid = survey_grid(case, ("image",), ReadPolicy())
        assert sorted(grid.shape) == [7, 14, 16]
        assert grid.spacing_mm == pytest.approx((1, 2, 3))
        assert grid.voxels == 14 * 16 * 7
        assert grid.image_mb == pytest.approx(2 * grid.voxels / 1e6)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Two hippocampus-like scans, a DICOM series, and a file that is none."""
    rows = ["case_id,image,label"]
    for name, shape in (("a", (6, 30, 22)), ("b", (8, 70, 60))):
        image, truth = ball(shape=shape, spacing_mm=(1.0, 1.0, 1.0))
        write_volume(tmp_path / f"{name}.nii.gz", image)
        write_mask(tmp_path / f"{name}_label.nii.gz", truth)
        rows.append(f"{name},{name}.nii.gz,{name}_label.nii.gz")
    write_series(tmp_path / "series", ball(shape=(6, 30, 22), spacing_mm=(1.0, 1.0, 1.0))[0])
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan at all")
    rows += ["c,series,", "d,broken.nii.gz,"]
    path = tmp_path / "cases.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def quick(monkeypatch) -> None:
    """Trials as short as they may be, of networks that cost nothing."""

    def free(bundle, engine):
        classes = bundle.spec.output_channels

        def one(tiles):
            return np.eye(classes, dtype=np.float32)[(tiles[..., 0] > 0) * 1]

        return (one,) * len(bundle.spec.networks)

    monkeypatch.setattr("voxtile.inference.segmenter.load_models", free)
    monkeypatch.setattr(benchmark, "_MATRIX", 64)
    monkeypatch.setattr(benchmark, "_LEAST", 1)
    monkeypatch.setattr(benchmark, "_BUDGET_S", 0.0)
    monkeypatch.setattr("voxtile.measuring.trials._TRIAL_S", 0.0)
    monkeypatch.setattr(forecasting, "_python_s", lambda: 0.25)


@pytest.fixture
def sagittal(tmp_path: Path) -> Path:
    """The shipped model's sagittal network alone."""
    folder = shutil.copytree(SHIPPED / "hippocampus", tmp_path / "sagittal")
    spec = json.loads((folder / "spec.json").read_text())
    spec["networks"] = [one for one in spec["networks"] if one["views"] == ["sagittal"]]
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def test_a_forecast_names_sizes_tiles_arithmetic_and_what_would_fail(
    cohort, sagittal, quick
) -> None:
    counted = []
    forecast = make_forecast(
        cohort,
        sagittal,
        settings=KERAS,
        workers=2,
        on_case=lambda done, of: counted.append((done, of)),
    )
    assert counted[-1] == (4, 4)
    assert [case.case_id for case in forecast.cases] == ["a", "b", "c"]
    assert [case_id for case_id, _ in forecast.unreadable] == ["d"]
    sizes = {size.resampled: size for size in forecast.sizes}
    assert set(sizes) == {(30, 22), (70, 60)}
    small, large = sizes[30, 22], sizes[70, 60]
    assert (small.view, small.cases, small.planes, small.tiles) == ("sagittal", 2, 12, 12)
    assert (small.tile, small.grid, large.grid) == ((64, 48), (1, 1), (1, 1))
    assert large.tile[0] >= 70
    # 8 planes, all of one tile: operations per pixel times the pixels of filled batches.
    per_pixel = small.gflop / (2 * (4 + 2) * 64 * 48)
    pixels = 8 * np.prod(large.tile)
    assert large.gflop == pytest.approx(per_pixel * pixels)
    assert forecast.gflop == pytest.approx(small.gflop + large.gflop)
    assert forecast.rehearsed in ("a", "b", "c")
    assert all(case.rest_s > 0 and case.network_s > 0 for case in forecast.cases)
    first, second, _ = sorted((case.memory_mb for case in forecast.cases), reverse=True)
    assert first > forecast.base_mb > 50
    assert forecast.memory_mb == pytest.approx(first + second)
    assert forecast.seconds > sum(case.network_s for case in forecast.cases)
    text = "\n".join(forecast.lines())
    assert "4 cases" not in text and "3 cases, 20 planes, 20 tiles" in text
    assert "would fail: d: " in text
    assert "whole run with 2 workers" in text
    assert json.loads(json.dumps(forecast.as_json()))["sizes"][0]["tile"] == list(
        forecast.sizes[0].tile
    )


def test_a_huge_case_is_predicted_from_its_header_alone(tmp_path, sagittal, quick) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((4096, 4096, 2000))
    header.set_data_dtype(np.int16)
    header.set_sform(np.diag([0.1, 0.1, 0.1, 1]), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with (tmp_path / "huge.nii").open("wb") as file:
        file.write(header.binaryblock)
        file.truncate(352 + 2 * 4096 * 4096 * 2000)  # sparse: it takes no disk
    (tmp_path / "huge.csv").write_text("case_id,image\nhuge,huge.nii\n")
    forecast = make_forecast(tmp_path / "huge.csv", sagittal, settings=KERAS)
    assert forecast.rehearsed is None
    (case,) = forecast.cases
    assert case.rest_s is None and case.memory_mb > 2 * 4096 * 4096 * 2000 / 1e6
    assert list(forecast.lines())[-1].startswith("would not fit: huge; more memory is needed than")


def test_workers_that_do_not_fit_together_are_named(cohort, sagittal, quick) -> None:
    forecast = make_forecast(cohort, sagittal, settings=KERAS, workers=2)
    most = max(case.memory_mb for case in forecast.cases)
    assert "would not fit" not in "\n".join(forecast.lines())
    *_, last = replace(forecast, free_mb=most + 1).lines()
    assert last.startswith("would not fit: 2 workers at once need more memory than is free here")


def test_memory_counts_the_batch_that_waits_while_another_is_stitched(
    cohort, sagittal, quick, monkeypatch
) -> None:
    monkeypatch.setattr("voxtile.measuring.trials.Rates.memory_mb", lambda rates, step: 0.0)

    def largest_mb() -> float:
        forecast = make_forecast(cohort, sagittal, settings=KERAS)
        return max(case.memory_mb for case in forecast.cases) - forecast.base_mb

    waiting = largest_mb()
    monkeypatch.setattr("voxtile.preparation.plan._ANSWER_BYTES", 0)
    without = largest_mb()
    # 4 tiles of 72x64, as the large case has, 5 slices in and 3 classes out, float32.
    assert waiting - without == pytest.approx(4 * 72 * 64 * (5 + 3) * 4 / 1e6)


def test_a_manifest_of_which_nothing_can_be_read_says_only_that(tmp_path, quick) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan at all")
    (tmp_path / "cases.csv").write_text("case_id,image\nd,broken.nii.gz\n")
    forecast = make_forecast(tmp_path / "cases.csv", "hippocampus", settings=KERAS)
    assert forecast.cases == () and forecast.rehearsed is None
    assert list(forecast.lines())[-1].startswith("would fail: d: ")


def test_the_command_prints_json_for_programs(cohort, quick) -> None:
    told = CliRunner().invoke(
        app, ["plan", str(cohort), "hippocampus", "--engine", "keras", "--tta", "none", "--json"]
    )
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["engine"]["engine"] == "keras"
    assert found["unreadable"][0]["case_id"] == "d"
    assert {"seconds", "memory_mb", "gflop"} <= set(found)


def test_a_benchmark_measures_network_stages_and_machine(cohort, sagittal, quick) -> None:
    measured = run_benchmark(sagittal, cohort, settings=KERAS, most_cases=4, repeats=1)
    assert [sentence.split(":")[0] for sentence in measured.failed] == ["d"]
    assert measured.network.tile[0] >= 70  # the largest scan has most of the work
    assert {"read", "infer", "write", "score"} <= set(measured.stages_s)
    assert measured.case_s.count == 3
    assert measured.case_s.median >= measured.stages_s["infer"].least
    assert measured.share == measured.network_gflops / measured.matrix_gflops.median
    assert measured.machine["cores"] >= 1
    text = "\n".join(measured.lines())
    assert "3 of" not in text and "4 of 4 cases, 1 time each" in text
    assert "failed: d: " in text
    assert json.loads(json.dumps(measured.as_json()))["network"]["tiles_per_s"]["median"] > 0


def test_the_bench_command_writes_what_it_prints(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "_BUDGET_S", 0.0)
    monkeypatch.setattr(benchmark, "_PHANTOM_SHAPE", (16, 40, 30))
    path = tmp_path / "bench.json"
    told = CliRunner().invoke(
        app, ["bench", "--engine", "keras", "--repeats", "1", "--json", str(path)]
    )
    assert told.exit_code == 0, told.output
    assert "hippocampus on a phantom of 16 x 40 x 30 voxels, 1 time" in told.stdout
    assert json.loads(path.read_text())["case_s"]["count"] == 1


def test_a_benchmark_of_nothing_is_an_error(tmp_path, quick) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan at all")
    (tmp_path / "cases.csv").write_text("case_id,image\nd,broken.nii.gz\n")
    with pytest.raises(CaseError, match="no case could be processed: d: "):
        run_benchmark("hippocampus", tmp_path / "cases.csv", settings=KERAS, repeats=1)
    with pytest.raises(ValueError, match="repeats 0 must be at least 1"):
        run_benchmark("hippocampus", repeats=0)


def test_a_spread_has_median_and_ends_and_leaves_out_the_first_call() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    calls = []
    _, seconds = time_calls(lambda: calls.append(1), budget_s=0.0)
    assert len(calls) == seconds.count + 1 == 4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_matrix_multiplication_is_measured_in_the_engines_precision(
    precision, monkeypatch
) -> None:
    monkeypatch.setattr(benchmark, "_MATRIX", 64)
    assert benchmark.matrix_gflops(Engine("keras", precision)).median > 0
