"""No command changes an input, whichever of its inputs is named as an output, in any spelling."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from bundles import write_bundle
from commands import invoke
from phantoms import ball
from runs import add_case, run, write_manifest

from voxtile.cli import app
from voxtile.phantoms.dicom import write_series
from voxtile.writing.nifti import write_mask

SCANS = ["cases.csv", "c1.nii.gz", "series"]
MODEL, DATA, OUT = "{}/model", "{}/cases.csv", "{out}"
# The words of each command, where {} is the folder of all inputs and {out} an output; its inputs.
COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "run": ([DATA, MODEL, "--out", OUT], [*SCANS, "model"]),
    "segment": (["{}/series", MODEL, OUT], ["series", "model"]),
    "convert": (["{}/c1.nii.gz", OUT], ["c1.nii.gz"]),
    "evaluate": (
        [DATA, "--predictions", "{}/predictions", "--labels", "{}/labels.json", "--out", OUT],
        [*SCANS, "predictions/c1.nii.gz", "labels.json"],
    ),
    "compare": (
        f"{{}}/run {{}}/run --manifest {DATA} --predictions {{0}}/predictions,{{0}}/predictions "
        f"--out {OUT}".split(),
        ["run", *SCANS, "predictions/c1.nii.gz"],
    ),
    "train": (
        f"{DATA} --recipe {{}}/recipe.toml --labels {{}}/labels.json --licence {{}}/LICENSE "
        f"--init {MODEL} --steps 1 --out {OUT}".split(),
        [*SCANS, "model", "labels.json", "recipe.toml", "LICENSE"],
    ),
    "bench": ([MODEL, DATA, "--cases", "1", "--repeats", "1", "--json", OUT], [*SCANS, "model"]),
    "manifest build": (["{}/series", "--key", "{key}", "--out", OUT], ["series"]),
    "manifest split": ([DATA, "--folds", "2", "--out", OUT], SCANS),
    "manifest review": (
        f"{DATA} --review {{}}/review.csv --keep rejected --labels {{}}/predictions "
        f"--out {OUT}".split(),
        [*SCANS, "review.csv", "predictions/c1.nii.gz"],
    ),
    "manifest export": (
        [DATA, "--to", "monai", "--labels", "{}/labels.json", "--out", OUT],
        [*SCANS, "labels.json"],
    ),
    "models export": ([MODEL, "--format", "savedmodel", "--out", OUT], ["model"]),
    "models pack": ([MODEL, "--out", OUT], ["model"]),
    "models import": (
        ["{}/model/n.keras", "--spec", "{}/spec.json", "--out", OUT],
        ["model/n.keras", "spec.json"],
    ),
}
# Tested elsewhere: these write nothing, or in a folder of their own whose parts are named below.
OTHERS = {"plan", "status", "manifest check", "models list", "models verify", "doctor", "demo"}
OTHERS |= {"export", "report", "merge", "bids"}
OTHERS |= {f"models {name}" for name in ("calibrate", "card", "get")}
SPELLINGS = ("same", "other spelling", "link", "hard link", "inside", "inside a link", "parent")


def test_each_command_is_walked() -> None:
    def names(group, before: str = "") -> Iterator[str]:
        for name, command in group.commands.items():
            nested = hasattr(command, "commands")
            yield from names(command, f"{name} ") if nested else [before + name]

    assert set(names(typer.main.get_command(app))) == OTHERS | set(COMMANDS)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, network: bytes) -> Path:
    """One input of each kind."""
    folder = tmp_path_factory.mktemp("walked") / "inputs"
    folder.mkdir()
    write_series(folder / "series", ball()[0])
    rows = [add_case(folder, "c1") | {"split": "train"}, add_case(folder, "c2") | {"split": "val"}]
    rows.append({"case_id": "c3", "image": "series", "split": "train"})
    rows[-1]["label"] = rows[0]["label"]
    run(write_manifest(folder, rows), folder / "run")
    write_bundle(folder / "model", network)
    shutil.copy(folder / "model/spec.json", folder)
    write_mask(folder / "predictions/c1.nii.gz", ball()[1])
    (folder / "review.csv").write_text("case_id,review\nc1,rejected\n")
    (folder / "labels.json").write_text('{"1": "ball"}')
    (folder / "recipe.toml").write_text("filters = 2\ndepth = 2\n")
    (folder / "LICENSE").write_text("free")
    return folder


def spelled(path: Path, how: str, beside: Path) -> Path:
    """Name an input, or a place in or above it, in some way."""
    other = beside / path.name
    match how:
        case "same":
            return path
        case "other spelling":
            return path.parent / ".." / path.parent.name / path.name
        case "link":
            other.symlink_to(path)
        case "hard link":
            os.link(path, other)
        case "inside":
            return path / "new.nii.gz"
        case "inside a link":
            other.symlink_to(path if path.is_dir() else path.parent)
            return other / ("new.nii.gz" if path.is_dir() else path.name)
        case "parent":
            return path.parent
    return other


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, with its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("command", list(COMMANDS))
def test_an_input_named_as_an_output_stays(command: str, inputs: Path, tmp_path: Path) -> None:
    before = contents(inputs)
    words, read = COMMANDS[command]
    for name in read:
        for how in SPELLINGS:
            if (how, (inputs / name).is_dir()) in (("hard link", True), ("inside", False)):
                continue
            beside = tmp_path / f"{name.replace('/', ' ')} {how}"
            beside.mkdir()
            out = str(spelled(inputs / name, how, beside))
            filled = [word.format(inputs, out=out, key=beside / "key.csv") for word in words]
            code, said = invoke(*command.split(), *filled)
            what = f"{command} --out {name}, {how}: exit code {code}: {said[-400:]}"
            assert code in (2, 4, 5, 6) and "Usage:" not in said, what
            assert contents(inputs) == before, what


@pytest.mark.parametrize("part", ["masks", "exports", "exports/seg.nrrd", "report_files", "qc"])
@pytest.mark.parametrize("command", ["report", "export", "merge"])
def test_a_part_of_a_run_folder_that_leads_to_inputs_stays(
    command: str, part: str, inputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(inputs / "run", out)
    shutil.rmtree(out / part, ignore_errors=True)
    (out / part).parent.mkdir(exist_ok=True)
    (out / part).symlink_to(inputs)
    before = contents(inputs)
    given = {"export": ["--to", "seg.nrrd"], "merge": []}.get(command, ["--cases", "all"])
    given += [] if command == "merge" else ["--manifest", inputs / "cases.csv"]
    code, said = invoke(command, out, *given)
    now = contents(inputs)
    assert code != 1, said
    assert {name: now.get(name) for name in before} == before
    for name in now.keys() - before.keys():
        (inputs / name).unlink()


@pytest.mark.parametrize("how", ["same", "link", "hard link"])
def test_saving_evidence_does_not_replace_an_input(how: str, inputs: Path, tmp_path: Path) -> None:
    model = shutil.copytree(inputs / "model", tmp_path / "model")
    manifest = tmp_path / "cases.csv"
    readme = model / "README.md"
    shutil.copy(inputs / "cases.csv", readme if how == "same" else manifest)
    if how == "link":
        readme.symlink_to(manifest)
    elif how == "hard link":
        os.link(manifest, readme)
    named = readme if how == "same" else manifest
    code, said = invoke("models", "verify", model, named, "--root", inputs, "--save")
    assert (code, "would be replaced; leave --save out" in said) == (4, True), said


@pytest.mark.parametrize("command", ["export", "import"])
def test_what_a_killed_export_left_holds_no_input(
    command: str, inputs: Path, tmp_path: Path
) -> None:
    left = tmp_path / ".new.abcd1234.old"
    shutil.copytree(inputs / "model", left)
    words = {
        "export": [left, "--format", "savedmodel"],
        "import": [left / "n.keras", "--spec", inputs / "spec.json"],
    }
    code, said = invoke("models", command, *words[command], "--out", tmp_path / "new")
    assert (code, "inside the output folder" in said) == (4, True), said
    assert contents(left) == contents(inputs / "model")


def test_a_demo_does_not_replace_other_files(tmp_path: Path) -> None:
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort/phantom01.nii.gz").write_text("mine")
    assert invoke("demo", "--out", tmp_path)[0] == 2
    assert contents(tmp_path) == {"cohort/phantom01.nii.gz": b"mine"}


@pytest.mark.parametrize("name", ["seg.nrrd/c1.seg.nrrd", "glb/c1.glb", "binary/c1/1_ball.nii.gz"])
def test_an_export_that_another_program_wrote_stays(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(inputs / "run", tmp_path / "run")
    path = out / "exports" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"NRRD0004\n# Complete NRRD file format specification\ntype: uchar")
    form = name.partition("/")[0]
    code, said = invoke("export", out, "--to", form)
    assert (code, f"{path.name} in exports/{form} is not from voxtile" in said) == (3, True), said
    before = path.read_bytes()
    (out / "masks/c1.nii.gz").unlink()
    run(inputs / "cases.csv", out)
    assert path.read_bytes() == before
    path.unlink()
    assert [invoke("export", out, "--to", form)[0] for _ in range(2)] == [0, 0]
