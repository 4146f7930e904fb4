"""A reduced precision is used only if it was measured here to be accurate and faster."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from evidence import evidence_for, measured
from phantoms import ball
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.engines import Engine, Wish, choose_engine, keras_engine
from voxtile.engines import measurements as evidence_module
from voxtile.engines.device import Device
from voxtile.engines.measurements import (
    accepted_precision,
    keep_evidence,
    processor_kind,
    read_evidence,
)
from voxtile.errors import ModelError
from voxtile.measuring import engines as verification
from voxtile.measuring.engines import save_evidence, verify_model
from voxtile.models.backend_name import backend_name
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.writing.nifti import write_mask, write_volume


@pytest.fixture
def bundle(tmp_path: Path, network: bytes, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(evidence_module, "installed_version", lambda package: "1.0")
    return load_bundle(write_bundle(tmp_path / "b", network))


@pytest.mark.parametrize(
    ("measurements", "precision"),
    [
        ((measured(),), "bfloat16"),
        ((measured(speed=1.1),), "bfloat16"),
        ((measured(speed=1.09),), None),
        ((measured(agreement=0.999),), None),
        ((measured(change=0.00099),), "bfloat16"),
        ((measured(change=-0.001),), None),
        ((measured(dice_change={"a": 0.0019, "b": -0.0019}),), None),  # must not cancel
        ((measured(dice_bound=0.00099),), "bfloat16"),
        ((measured(dice_bound=0.001),), None),  # on other planes it may be too much
        ((measured(dice_change={}),), None),  # no label occurred, so it is no evidence
        ((measured(version="0.9"),), None),
        ((measured(engine="openvino"),), None),
        ((measured(), measured("float16", 3.0)), "float16"),
    ],
)
def test_a_reduced_precision_is_accepted_within_its_limits(
    bundle: Bundle, measurements, precision
) -> None:
    assert accepted_precision(bundle, "keras", "cpu") is None
    keep_evidence(evidence_for(bundle, *measurements))
    assert accepted_precision(bundle, "keras", "cpu") == precision
    assert accepted_precision(bundle, "keras", "gpu") is None
    assert choose_engine(bundle, Wish(engine="keras", device="cpu")).precision == (
        precision or "float32"
    )


def test_evidence_without_a_bound_of_the_change_is_read_but_does_not_count(bundle: Bundle) -> None:
    evidence = evidence_for(bundle, measured(dice_bound=None))
    keep_evidence(evidence)
    path = evidence_module._path(bundle.sha256, processor_kind())
    content = json.loads(path.read_text())
    for one in content["measurements"]:  # as version 0.1.0 wrote it
        for key in ("dice_bound", "worst_change", "worst_label", "kept", "rest"):
            del one[key]
    path.write_text(json.dumps(content))
    found = read_evidence(bundle)
    assert found is not None
    assert found.measurements[1] == evidence.measurements[1]
    assert "did not bound the change of Dice; verify again" in found.shortage
    assert accepted_precision(bundle, "keras", "cpu") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planes": 31}, "too little: 31 planes, but at least 32 planes are needed"),
        ({"label_voxels": {"ball": 999}}, "ball has 999 voxels in 8 planes, but .* 1000 voxels"),
        ({"label_planes": {"ball": 7}}, "ball has 1000 voxels in 7 planes, .* in 8 planes; give"),
        (
            {"label_voxels": {"ball": 1000, "rare": 0}},
            "rare has 0 voxels in 0 planes, .* more --cases or --planes",
        ),
        ({"label_voxels": {}}, "did not count the voxels of each label; verify again"),
    ],
)
def test_too_little_evidence_allows_no_reduced_precision(
    bundle: Bundle, changes, message: str
) -> None:
    evidence = evidence_for(bundle, measured(), **changes)
    keep_evidence(evidence)
    assert accepted_precision(bundle, "keras", "cpu") is None
    assert re.search(rf"--precision auto: float32 \(.*{message}", [*evidence.lines()][-1])


@pytest.mark.parametrize(("bound", "says"), [(0.0009, False), (0.0012, True)])
def test_a_precision_that_only_its_bound_excludes_is_named(
    bundle: Bundle, bound: float, says: bool
) -> None:
    evidence = evidence_for(bundle, measured(dice_bound=bound))
    last = [*evidence.lines()][-1]
    assert ("bfloat16: the mean change is small enough, its bound is not; more" in last) is says
    assert ("auto: bfloat16" in last) is not says


@pytest.mark.parametrize("key", ["agreement", "tiles_per_s", "dice_change"])
def test_damaged_evidence_does_not_count(bundle: Bundle, key: str) -> None:
    evidence = evidence_for(bundle, measured())
    content = asdict(evidence)
    content["measurements"][1][key] = "x"
    evidence_module._path(bundle.sha256, processor_kind()).parent.mkdir(parents=True, exist_ok=True)
    evidence_module._path(bundle.sha256, processor_kind()).write_text(json.dumps(content))
    assert accepted_precision(bundle, "keras", "cpu") is None


def test_evidence_of_a_phantom_another_processor_or_another_model_does_not_count(
    bundle: Bundle,
) -> None:
    keep_evidence(evidence_for(bundle, measured(), source="phantom"))
    assert read_evidence(bundle) is not None
    assert accepted_precision(bundle, "keras", "cpu") is None
    other = keep_evidence(evidence_for(bundle, measured(), processor="another"))
    assert accepted_precision(bundle, "keras", "cpu") is None
    assert other is not None
    other.rename(evidence_module._path(bundle.sha256, processor_kind()))
    assert read_evidence(bundle) is None
    keep_evidence(replace(evidence_for(bundle, measured()), sha256="0" * 64))
    (kept,) = Path(bundle.folder.parent, "cache/evidence").glob(
        f"{evidence_module._path('0' * 64, processor_kind()).name}"
    )
    kept.rename(evidence_module._path(bundle.sha256, processor_kind()))
    assert read_evidence(bundle) is None
    evidence_module._path(bundle.sha256, processor_kind()).write_text("{")
    assert read_evidence(bundle) is None


def test_a_phantom_neither_replaces_nor_hides_what_was_measured_on_scans(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, phantom = (evidence_for(bundle, measured(), source=one) for one in ("m.csv", "phantom"))
    keep_evidence(real)
    assert keep_evidence(phantom) is None
    assert read_evidence(bundle) == real
    fake_engines(monkeypatch, float32=50, bfloat16=50)
    lines: list[str] = []
    verify_model(bundle.folder, planes=1, say=lines.append)
    assert lines == [
        "note: --precision auto uses what was measured on m.csv (2026-01-01), which a phantom "
        "does not replace"
    ]
    assert accepted_precision(bundle, "keras", "cpu") == "bfloat16"
    evidence_module._path(bundle.sha256, processor_kind()).unlink()
    save_evidence(bundle.folder, real)
    keep_evidence(phantom)
    published = load_bundle(bundle.folder)
    assert read_evidence(published) == real
    with pytest.raises(ModelError, match=r"measured on m\.csv, .* give a MANIFEST"):
        save_evidence(bundle.folder, phantom)
    assert load_bundle(bundle.folder).spec == published.spec


def test_models_that_decide_together_need_the_same_evidence(bundle: Bundle) -> None:
    other = replace(bundle, spec=bundle.spec.model_copy(update={"overlap": 0.25}))
    both = replace(bundle, others=(other,))
    keep_evidence(evidence_for(bundle, measured()))
    assert accepted_precision(both, "keras", "cpu") is None
    keep_evidence(evidence_for(other, measured()))
    assert accepted_precision(both, "keras", "cpu") == "bfloat16"


def test_published_evidence_counts_and_leaves_the_bundles_sha256_as_it_was(bundle: Bundle) -> None:
    readme = bundle.folder / "README.md"
    readme.write_text("# A model\n\n## Licence\n\nMIT\n")
    for speed in (2.0, 3.0):
        save_evidence(bundle.folder, evidence_for(bundle, measured(speed=speed)))
    save_evidence(bundle.folder, evidence_for(bundle, measured(), processor="another"))
    again = load_bundle(bundle.folder)
    assert again.sha256 == bundle.sha256
    assert [one["processor"] for one in again.spec.training["verified"]] == [
        processor_kind(),
        "another",
    ]
    assert accepted_precision(again, "keras", "cpu") == "bfloat16"
    text = readme.read_text()
    assert text.startswith("# A model\n\n## Licence\n\nMIT\n")
    assert text.count("## Engines, verified") == 1
    assert text.count("| keras 1.0 | bfloat16 | 99.9500% | 0.00000 | 0.00000 | - | 3.0 |") == 1


def fake_engines(monkeypatch: pytest.MonkeyPatch, **thresholds: float) -> None:
    """Engines that threshold the scan, each at its own value."""

    def load(bundle, engine):
        def model(tiles: np.ndarray) -> np.ndarray:
            inside = tiles[..., tiles.shape[-1] // 2] > thresholds[engine.precision]
            return np.stack([~inside, inside], axis=-1).astype(np.float32)

        return (model,)

    engines = [Engine("keras", precision) for precision in thresholds]
    monkeypatch.setattr(verification, "load_models", load)
    monkeypatch.setattr(verification, "_engines", lambda bundle: engines)
    monkeypatch.setattr(verification, "_can_quantise", lambda: False)


def test_agreement_and_dice_are_those_computed_by_hand(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engines(monkeypatch, float32=50, bfloat16=150, float16=-1)  # right, nothing, everything
    image, truth = ball()
    write_volume(tmp_path / "a.nii.gz", image)
    write_mask(tmp_path / "l.nii.gz", truth)
    (tmp_path / "cases.csv").write_text("case_id,image,label\na,a.nii.gz,l.nii.gz\n")
    found = verify_model(bundle.folder, tmp_path / "cases.csv", planes=4)
    some = truth.array[..., [1, 4, 7, 10]]  # the middle of each quarter of 12 planes
    share = np.mean(some)
    assert (found.source, found.cases, found.planes, found.labelled) == ("cases.csv", 1, 4, True)
    right, nothing, everything = found.measurements
    assert (right.agreement, right.dice_change) == (1.0, {"ball": 0.0})
    assert (nothing.agreement, nothing.dice_change) == (pytest.approx(1 - share), {"ball": -1.0})
    assert everything.agreement == pytest.approx(share)
    assert everything.dice_change["ball"] == pytest.approx(2 * share / (1 + share) - 1)
    planes = int(some.any(axis=(0, 1)).sum())
    assert (found.label_planes, found.label_voxels) == ({"ball": planes}, {"ball": some.sum()})
    (tmp_path / "cases.csv").write_text("case_id,image\na,a.nii.gz\n")
    verify_model(bundle.folder, tmp_path / "cases.csv", planes=4)
    evidence = read_evidence(bundle)
    assert evidence is not None
    assert (evidence.labelled, evidence.measurements[1].dice_change) == (False, {"ball": -1.0})


def test_the_command_prints_a_row_for_each_engine_and_precision(
    tmp_path: Path, network: bytes
) -> None:
    folder = write_bundle(tmp_path / "b", network, intensity={"method": "zscore"})
    done = CliRunner().invoke(app, ["models", "verify", str(folder), "--planes", "2", "--save"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("2 planes of 1 case of phantom")
    assert lines[1].startswith("the label with the fewest voxels is ")
    assert lines[3].split()[:3] == ["keras", "float32", "100.0000%"]
    assert lines[4].split()[:2] == ["keras", "bfloat16"]
    assert "a phantom is no evidence" in lines[-2]
    entries = json.loads((folder / "spec.json").read_text())["training"]["verified"]
    assert entries[0]["measurements"][0]["engine"] == "keras"
    try:
        import openvino  # noqa: F401
    except ImportError:
        return
    assert lines[5].split()[:2] == ["openvino", "float32"]
    assert float(lines[5].split()[2].rstrip("%")) > 99.9


def test_a_gpu_is_measured_against_the_processor_and_has_evidence_of_its_own(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_engine, "Device", lambda name: Device("cpu"))  # as if it were one
    image, truth = ball()
    write_volume(tmp_path / "a.nii.gz", image)
    write_mask(tmp_path / "l.nii.gz", truth)
    (tmp_path / "cases.csv").write_text("case_id,image,label\na,a.nii.gz,l.nii.gz\n")
    found = verify_model(bundle.folder, tmp_path / "cases.csv", planes=2, device="gpu:1")
    assert [one.precision for one in found.measurements] == ["float32", "bfloat16", "float16"]
    assert found.measurements[0].agreement >= 0.9999
    assert found.processor == processor_kind("gpu:1") == f"GPU with Keras on {backend_name()}"
    assert read_evidence(bundle) is None
    assert read_evidence(bundle, found.processor) == found
    kind = processor_kind("gpu")
    keep_evidence(evidence_for(bundle, measured("float16", 3.0), processor=kind))
    assert accepted_precision(bundle, "keras", "gpu") == "float16"
    assert accepted_precision(bundle, "keras", "cpu") is None
    assert accepted_precision(bundle, "onnx", "gpu") is None
