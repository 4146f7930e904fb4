"""A finished folder stays what it is."""

import json
from pathlib import Path

import pytest
from commands import invoke
from faulty import events, hashes_of, run_faulty, valid_cases
from phantoms import make_bundle

from voxtile.batch import agreement
from voxtile.batch.agreement import differences, engine_for
from voxtile.batch.merge import merge_shards
from voxtile.batch.settings import BatchSettings
from voxtile.engines import Engine, Wish
from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.machine.json_objects import sealed
from voxtile.run.job import RunSettings
from voxtile.run_folder.facts import write_facts
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.shard import Shard

OPENVINO = {"engine": "openvino", "precision": "float32", "device": "cpu", "openvino": "2026.1"}


@pytest.fixture
def wishes(monkeypatch: pytest.MonkeyPatch) -> list[Wish]:
    """What `choose_engine` was asked for."""
    asked: list[Wish] = []

    def choose(bundle, wish: Wish) -> Engine:
        asked.append(wish)
        if wish.engine == "onnx":
            raise EnvironmentFault("onnxruntime is not installed; pip install onnxruntime")
        return Engine("openvino", "int8")

    monkeypatch.setattr(agreement, "choose_engine", choose)
    return asked


def test_auto_is_what_the_folder_was_run_with(tmp_path: Path, wishes: list[Wish]) -> None:
    folder, bundle = RunFolder(tmp_path), make_bundle()
    engine_for(folder, bundle, Wish(), fresh=False)
    facts = {"model": {"sha256": bundle.sha256}, "engine": OPENVINO, "settings_sha256": "1"}
    write_facts(folder, facts)
    engine_for(folder, bundle, Wish(), fresh=False)
    engine_for(folder, bundle, Wish(precision="bfloat16"), fresh=False)
    engine_for(folder, bundle, Wish(), fresh=True)
    write_facts(folder, {**facts, "model": {"sha256": "of another"}})
    engine_for(folder, bundle, Wish(), fresh=False)
    kept = Wish("openvino", "float32", "cpu")
    assert wishes == [Wish(), kept, Wish("openvino", "bfloat16", "cpu"), Wish(), Wish()]


def test_an_engine_that_is_missing_now_is_named_with_the_ways_out(
    tmp_path: Path, wishes: list[Wish]
) -> None:
    folder, bundle = RunFolder(tmp_path), make_bundle()
    engine = {**OPENVINO, "engine": "onnx"}
    facts = {"model": {"sha256": bundle.sha256}, "engine": engine, "settings_sha256": "1"}
    write_facts(folder, facts)
    with pytest.raises(
        EnvironmentFault,
        match=r"was run with onnx float32, which cannot be used here .*--fresh .*--out",
    ):
        engine_for(folder, bundle, Wish(), fresh=False)


def test_what_differs_is_said_in_words() -> None:
    before = {
        "voxtile": "0.1.0",
        "model": {"sha256": "1f3a" * 16},
        "engine": {**OPENVINO, "reason": "the fastest"},
        "plan": [{"tile": [16, 16], "overlap": [8, 8]}],
        "settings": {"policy": {"nan": "refuse"}, "label_map": {}},
    }
    assert differences(before, {**before, "engine": {**OPENVINO, "reason": "chosen"}}) == []
    after = {
        "voxtile": "0.2.0",
        "model": {"sha256": "9c02" * 16},
        "engine": {**OPENVINO, "precision": "int8"},
        "plan": [{"tile": (16, 16), "overlap": (4, 4)}],
        "settings": {"policy": {"nan": "fill"}, "label_map": {}},
    }
    assert differences(before, after) == [
        "voxtile 0.1.0 -> 0.2.0",
        "model 1f3a… -> 9c02…",
        "engine openvino float32 -> openvino int8",
        "plan of tiles (overlap)",
        "settings (policy)",
    ]
    newer = {**before, "engine": {**OPENVINO, "openvino": "2026.2"}}
    assert differences(before, newer) == ["openvino 2026.1 -> 2026.2"]


def test_cases_that_are_done_again_are_named_and_others_are_not_touched(tmp_path: Path) -> None:
    manifest, out = valid_cases(tmp_path, 4), tmp_path / "out"
    settings = RunSettings(exports=("binary",))
    run_faulty(manifest, out, settings=settings)
    before = hashes_of(out)
    (tmp_path / "c000.nii.gz").write_bytes((tmp_path / "c001.nii.gz").read_bytes())
    (out / "masks/c001.nii.gz").unlink()
    (out / "cases/c002.json").write_bytes(b"{}")
    assert run_faulty(manifest, out, settings=settings).kept == 1
    (said,) = events(out, "done_again")
    assert said["why"] == (
        "3 cases to be run again: an input was changed (c000); its mask was changed or removed "
        "(c001); its record is damaged (c002)"
    )
    after = hashes_of(out)
    kept = [name for name in before if "c003" in name]
    assert len(kept) >= 4
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_finished_cases_of_an_unknown_run_are_not_replaced(tmp_path: Path) -> None:
    manifest, out = valid_cases(tmp_path, 2), tmp_path / "out"
    run_faulty(manifest, out)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    for damaged in (b"{", None):
        (out / "run.json").unlink()
        if damaged is not None:
            (out / "run.json").write_bytes(damaged)
        with pytest.raises(ManifestError, match=r"no valid run\.json, so it is not a run folder"):
            run_faulty(manifest, out)
    del before[out / "run.json"]
    assert {path: path.read_bytes() for path in before} == before


def test_a_folder_of_an_evaluation_is_not_run_in(tmp_path: Path) -> None:
    manifest, out = valid_cases(tmp_path, 1), tmp_path / "run"
    run_faulty(manifest, out)
    words = ("--predictions", out / "masks", "--out", tmp_path / "scores")
    assert invoke("evaluate", manifest, *words)[0] == 0
    with pytest.raises(ManifestError, match="holds an evaluation; name another folder"):
        run_faulty(manifest, tmp_path / "scores")


def test_exports_that_finished_cases_lack_are_written_and_probabilities_are_refused(
    tmp_path: Path,
) -> None:
    manifest, out = valid_cases(tmp_path, 2), tmp_path / "out"
    run_faulty(manifest, out)
    assert run_faulty(manifest, out, settings=RunSettings(exports=("seg.nrrd", "bids"))).kept == 2
    exports = [path for path in (out / "exports").rglob("*") if path.is_file()]
    assert len([path for path in exports if path.name.endswith(".seg.nrrd")]) == 2
    assert len([path for path in exports if path.name.endswith("_dseg.nii.gz")]) == 2
    probable = RunSettings(exports=("probabilities",))
    with pytest.raises(ManifestError, match=r"2 finished cases have no probabilities .*--fresh"):
        run_faulty(manifest, out, settings=probable)
    code, said = invoke("export", out, "--to", "probabilities")
    assert code == 2
    assert "--export probabilities --fresh" in " ".join(said.replace("│", "").split())
    assert run_faulty(manifest, out, BatchSettings(fresh=True), settings=probable).kept == 0
    assert run_faulty(manifest, out, settings=probable).kept == 2


def test_shards_of_different_engines_are_told_the_options_that_make_them_agree(
    tmp_path: Path,
) -> None:
    manifest, out = valid_cases(tmp_path, 2), tmp_path / "out"
    for index, engine in ((1, OPENVINO), (2, {**OPENVINO, "engine": "keras"})):
        run_faulty(manifest, out, BatchSettings(shard=Shard(index, 2)))
        path = out / f"run-{index}-of-2.json"
        facts = json.loads(path.read_text())
        path.write_text(json.dumps(sealed({**facts, "engine": {**engine, "reason": str(index)}})))
        if index == 1:
            kept = path.read_text()
            path.unlink()
            for other in out.iterdir():  # so that the next shard begins in an empty folder
                other.rename(tmp_path / other.name)
    (out / "run-1-of-2.json").write_text(kept)
    for other in (tmp_path / "cases").iterdir():
        other.rename(out / "cases" / other.name)
    with pytest.raises(
        ManifestError,
        match=r"in engine; they have engine openvino and keras; run its shard again with "
        "--engine openvino --precision float32 --device cpu --fresh",
    ):
        merge_shards(out)
