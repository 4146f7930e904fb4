"""Flags and pictures: what a case shows by itself, and beside the others of its run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from phantoms import ball, make_spec, threshold_model
from PIL import Image
from runs import add_case, run, write_manifest

from voxtile.case import Case
from voxtile.errors import Notice
from voxtile.inference.entropy import EntropyWatch
from voxtile.inference.infer import infer
from voxtile.models.spec import NoScaling, ZScore
from voxtile.preparation.plan import make_plan
from voxtile.reading.nifti import read_nifti
from voxtile.report.domain import (
    PERCENTILES,
    ScanFacts,
    compare_scan,
    describe_scan,
    training_domain,
)
from voxtile.report.montage import montage, write_montage
from voxtile.report.qc import flag_cases, inspect_case
from voxtile.report.tables import report_table
from voxtile.run.case import RunSettings
from voxtile.run_folder.case_report import CaseReport, LabelRow, failed_report, label_rows
from voxtile.scoring.overlap import plain_labels
from voxtile.scoring.score import Measures
from voxtile.volume import Volume
from voxtile.writing.nifti import write_volume

LABELS = plain_labels({1: "one", 2: "two"})


def inspected(array: np.ndarray, affine=None, **more) -> dict[str, object]:
    mask = Volume(array.astype(np.uint8), np.eye(4) if affine is None else affine)
    rows = label_rows(mask, None, LABELS, Measures())
    return inspect_case(mask, LABELS, rows, **more)


def codes(qc: dict[str, object]) -> list[tuple[str, int | None]]:
    return [(flag["code"], flag["label"]) for flag in qc["flags"]]


def test_an_empty_label_and_a_cut_one_are_flagged() -> None:
    array = np.zeros((6, 6, 6))
    array[2:4, 2:4, 2:4] = 2
    assert codes(inspected(array)) == [("empty", 1)]
    array[0, 3, 3] = 1
    (flag,) = inspected(array)["flags"]
    assert flag["sentence"] == "one touches the left border of the scan"
    (flag,) = inspected(array, np.diag([-1, 1, 1, 1]))["flags"]
    assert "right border" in flag["sentence"]
    array[1, 3, 5] = array[1, 3, 0] = 1
    (flag,) = inspected(array)["flags"]
    assert "left, inferior, superior" in flag["sentence"]


def test_a_single_plane_is_no_border() -> None:
    array = np.zeros((6, 6, 1))
    array[2:4, 2:4], array[3, 3] = 1, 2
    assert codes(inspected(array)) == []


# Cohorts


def case(case_id: str, *, volume_ml=10.0, parts=1, entropy=0.1, flags=()) -> CaseReport:
    row = LabelRow(1, "one", "no_reference", volume_ml_pred=volume_ml, components_pred=parts)
    qc = {"entropy": entropy, "flags": list(flags)}
    return CaseReport(
        case_id, "done", None, (), "", (row,), {}, {}, {}, 1, None, None, None, {}, qc
    )


def flag(code: str, severity: float, label: int | None = 1) -> dict[str, object]:
    return {"code": code, "sentence": "said", "severity": severity, "label": label}


def usual(count: int = 9) -> list[CaseReport]:
    return [
        case(f"c{n}", volume_ml=10 + n % 3, parts=1 + n % 2, entropy=0.1 + n / 100)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("odd", "code"),
    [
        ({"volume_ml": 40.0}, "volume"),
        ({"volume_ml": 2.5}, "volume"),
        ({"parts": 30}, "components"),
        ({"entropy": 0.6}, "entropy"),
    ],
)
def test_the_odd_one_out_is_flagged_and_nobody_else(odd, code) -> None:
    flagged = flag_cases([*usual(), case("odd", **odd)])
    assert [part.code for part in flagged["odd"].flags] == [code]
    assert flagged["odd"].rank == 1
    assert code + ":" in flagged["odd"].of_label(1)
    assert all(not flagged[f"c{n}"].flags and flagged[f"c{n}"].rank is None for n in range(9))


def test_a_surer_network_is_no_reason_to_look() -> None:
    assert not flag_cases([*usual(), case("sure", entropy=0.0)])["sure"].flags


def test_equal_cases_are_not_outliers_of_each_other() -> None:
    reports = [case(f"c{n}", volume_ml=10 + 1e-9 * n, entropy=0.1 + 1e-9 * n) for n in range(9)]
    assert not any(part.flags for part in flag_cases(reports).values())


def test_a_few_cases_are_no_cohort() -> None:
    assert not any(
        part.flags for part in flag_cases([*usual(3), case("odd", volume_ml=400.0)]).values()
    )


def test_what_most_cases_show_is_no_news_but_a_strange_scanner_is() -> None:
    own = (flag("border", 1), flag("intensity", 4, None))
    flagged = flag_cases([case(f"c{n}", flags=own) for n in range(6)] + [case("x")])
    assert [part.code for part in flagged["c0"].flags] == ["intensity"]
    rare = flag_cases([case("a", flags=own), *usual()])["a"]
    assert [part.code for part in rare.flags] == ["intensity", "border"]


def test_the_most_severe_is_first_and_failed_cases_have_no_rank() -> None:
    reports = [
        case("b", flags=[flag("border", 1)]),
        case("d", flags=[flag("border", 1)]),
        case("a", flags=[flag("empty", 5)]),
        case("c", flags=[flag("empty", 5), flag("spacing", 1, None)]),
        failed_report(Case("f", (("image", Path()),)), LABELS[:1], Notice("x", "y")),
    ]
    table = report_table(reports).set_index("case_id")
    assert table["qc_rank"].dropna().to_dict() == {"c": 1, "a": 2, "b": 3, "d": 4}
    assert table.loc["c", "qc_flags"] == "empty: said; spacing: said"


# What the training saw


def facts(level: float, spacing=(1.0, 1.0, 3.0)) -> ScanFacts:
    values = tuple(level + percent / 100 for percent in PERCENTILES)
    return ScanFacts(spacing, {"image": values})


TRAINING = {"domain": training_domain([facts(n / 100, (1, 1, 3 + n / 10)) for n in range(20)])}


def test_a_scan_like_those_of_the_training_is_not_strange() -> None:
    assert compare_scan(facts(0.1), TRAINING) == ()
    assert compare_scan(facts(0.19, (1.04, 0.96, 5)), TRAINING) == ()


def test_a_strange_scan_is_said_to_be_so() -> None:
    found = {part.code: part for part in compare_scan(facts(3, (1, 1, 10)), TRAINING)}
    assert (
        "along S is 10 mm, but scans of the training had 3 to 4.9 mm" in found["spacing"].sentence
    )
    assert "of channel image is 3" in found["intensity"].sentence
    assert all(part.severity > 1 for part in found.values())
    farther = compare_scan(facts(9, (1, 1, 20)), TRAINING)
    assert all(part.severity > found[part.code].severity for part in farther)


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
def test_a_model_that_remembers_nothing_usable_flags_nothing(training) -> None:
    assert compare_scan(facts(50, (9, 9, 9)), training) == ()


def test_a_domain_is_json_and_survives_it() -> None:
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


# Entropy


@given(
    hnp.arrays(np.float32, (3, 4, 5, 3), elements=st.floats(0, 1, width=32)),
    st.sampled_from(("softmax", "sigmoid")),
)
def test_entropy_is_between_certain_and_undecided(values, activation) -> None:
    planes = (
        values / values.sum(axis=-1, keepdims=True).clip(1e-6)
        if activation == "softmax"
        else values
    )
    watch = EntropyWatch(activation)
    passed = list(watch(iter(planes)))
    np.testing.assert_array_equal(passed, planes)
    assert watch.mean is None or -1e-6 <= watch.mean <= 1 + 1e-6


@pytest.mark.parametrize(
    ("activation", "pixel", "mean"),
    [
        ("softmax", (0.5, 0.5), 1),
        ("softmax", (0, 1), 0),
        ("softmax", (1, 0), None),
        ("softmax", (0.25, 0.25, 0.25, 0.25), 1),
        ("sigmoid", (0.5, 1), 0.5),
        ("sigmoid", (0.05, 0.05), None),
    ],
)
def test_entropy_by_hand(activation, pixel, mean) -> None:
    watch = EntropyWatch(activation)
    plane = np.array(pixel, np.float32).reshape(1, 1, -1)
    list(watch(iter([plane, plane])))
    assert watch.mean == (mean if mean is None else pytest.approx(mean))


@pytest.mark.parametrize("views", [("axial",), ("axial", "sagittal")])
def test_every_plane_is_watched_once_and_none_is_changed(views) -> None:
    image, _ = ball()
    spec = make_spec()
    spec = spec.model_copy(
        update={"networks": (spec.networks[0].model_copy(update={"views": views}),)}
    )
    seen = []

    def watch(planes):
        for plane in planes:
            seen.append(plane.shape)
            yield plane

    plan = make_plan(spec)
    watched = infer(image, spec, [threshold_model], plan, watch)
    plain = infer(image, spec, [threshold_model], plan)
    np.testing.assert_array_equal(watched.array, plain.array)
    assert seen == [(24, 20, 2)] * 12


# Pictures


def colours(picture: Image.Image) -> set[str]:
    red, green, blue = np.moveaxis(np.asarray(picture).astype(int), -1, 0)
    return {f"#{value:06x}" for value in np.unique(red * 65536 + green * 256 + blue).tolist()}


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIL"])
def test_outlines_have_the_colours_of_their_labels(axes) -> None:
    image, truth = ball(axes=axes)
    labels = plain_labels({1: "ball", 2: "absent"})
    picture = montage(image, truth, labels, reference=truth)
    panels = picture.crop((0, 0, picture.width, 384))
    assert labels[0].color in colours(panels)
    assert labels[1].color not in colours(panels)
    assert {label.color for label in labels} <= colours(picture)  # the legend


def test_the_patients_right_is_on_the_left_and_up_is_up() -> None:
    array = np.zeros((30, 30, 30), np.int16)
    array[20:28, 14:16, 2:6] = 100  # to the right, and low
    image = Volume(array, np.eye(4))
    for volume in (image, Volume(array[::-1, ::-1], np.diag([-1, -1, 1, 1]))):
        mask = volume.with_array((volume.array > 0).astype(np.uint8))
        label = plain_labels({1: "one"})[0]
        pixels = np.asarray(montage(volume, mask, [label]))
        coronal = pixels[:384, 384:768]
        rgb = [int(label.color[start : start + 2], 16) for start in (1, 3, 5)]
        rows, columns = np.nonzero((coronal == rgb).all(axis=-1))
        assert columns.max() < 192 < rows.min()


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 1, 3), (3, 200, 2), (5, 6, 1)])
def test_any_shape_and_an_empty_mask_can_be_drawn(shape, tmp_path: Path) -> None:
    image = Volume(np.full(shape, 7, np.float32), np.eye(4))
    mask = image.with_array(np.zeros(shape, np.uint8))
    write_montage(tmp_path / "a.png", montage(image, mask, LABELS))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (3 * 384, 384 + 40)
    several = image.with_array(np.zeros((*shape, 2), np.int16))
    assert montage(several, mask, LABELS, reference=mask).height == 424


def test_a_single_voxel_in_a_large_scan_is_found() -> None:
    array = np.zeros((200, 200, 150), np.uint8)
    array[101, 33, 77] = 1
    mask = Volume(array, np.eye(4))
    label = plain_labels({1: "one"})[0]
    picture = montage(mask, mask, [label])
    assert label.color in colours(picture.crop((0, 0, 1152, 384)))


def test_forty_labels_have_a_legend() -> None:
    image, truth = ball()
    labels = plain_labels({value: f"structure number {value}" for value in range(1, 42)})
    assert montage(image, truth, labels).height > 384 + 100


# In a run


def test_a_run_flags_ranks_and_draws(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, f"c{n}", label=n > 0) for n in range(6)]
    image, _ = ball()
    cut = np.zeros_like(image.array)
    cut[:20, :16, :8] = 100
    write_volume(tmp_path / "c1.nii.gz", image.with_array(cut))
    result = run(write_manifest(tmp_path, rows), tmp_path / "out")
    assert not result.failed
    table = report_table(result.reports).set_index("case_id")
    assert table.loc["c1", "qc_rank"] == 1
    assert (
        "border: ball touches the left, posterior, inferior border" in table.loc["c1", "qc_flags"]
    )
    assert "volume: ball has" in table.loc["c1", "qc_flags"]
    assert table["qc_rank"].notna().sum() == 1
    kept = json.loads((tmp_path / "out/cases/c1.json").read_text())["qc"]
    assert [part["code"] for part in kept["flags"]] == ["border"]
    assert (kept["entropy"], kept["scan"]["spacing_mm"]) == (0, [1.2, 1.5, 2.5])
    assert sorted(path.name for path in (tmp_path / "out/qc").iterdir()) == [
        f"c{n}.png" for n in range(6)
    ]


def test_pictures_can_be_left_out_and_tolerances_chosen(tmp_path: Path) -> None:
    rows = [{**add_case(tmp_path, "a"), "scanner": "X"}]
    settings = RunSettings(montages=False, measures=Measures(nsd_mm=(0.5,)), by=("scanner",))
    result = run(write_manifest(tmp_path, rows), tmp_path / "out", settings=settings)
    assert not (tmp_path / "out/qc").exists()
    table = report_table(result.reports)
    assert list(table.columns[-2:]) == ["nsd_0.5mm", "scanner"]
    assert "scanner,X" in (tmp_path / "out/summary.csv").read_text()
    other = replace(settings, measures=Measures(nsd_mm=(0.5, 3.0)))
    again = run(write_manifest(tmp_path, rows), tmp_path / "2", settings=other)
    assert again.reports[0].fingerprint != result.reports[0].fingerprint


def test_a_real_case_is_drawn(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "metrics_reference" / "spine_semantic"
    ref = read_nifti(folder / "ref.nii.gz").volume
    pred = ref.with_array(read_nifti(folder / "pred.nii.gz").volume.array)
    values = [int(value) for value in np.unique(ref.array) if value]
    labels = plain_labels({value: str(value) for value in values})
    write_montage(tmp_path / "a.png", montage(ref, pred, labels, reference=ref))
    with Image.open(tmp_path / "a.png") as picture:
        assert len({label.color for label in labels} & colours(picture)) > 10
