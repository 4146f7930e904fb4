"""A BIDS App: masks by name, scores of each participant, tables of all; jobs do not meet."""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from phantoms import ball, make_bundle, threshold_model

from voxtile.batch import bids_app
from voxtile.batch.bids_app import run_participants, write_group
from voxtile.batch.drive import run_manifest
from voxtile.errors import ManifestError, UsageError
from voxtile.manifest.bids import read_bids
from voxtile.manifest.build_options import BidsChoice
from voxtile.reading.nifti import read_nifti
from voxtile.run.settings import RunSettings
from voxtile.scoring.measures import Measures
from voxtile.writing.nifti import write_mask, write_volume

PATTERN = "derivatives/manual/{folder}/{entities}_label-*_mask.nii.gz"
NAMES = ("sub-01/ses-a", "sub-01/ses-b", "sub-02/ses-a")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two participants with three scans of a ball, and its reference."""
    monkeypatch.setattr(bids_app, "run_manifest", partial(run_manifest, models=[threshold_model]))
    image, mask = ball()
    for name in NAMES:
        stem = name.replace("/", "_")
        write_volume(tmp_path / f"bids/{name}/anat/{stem}_T1w.nii.gz", image)
        place = f"bids/derivatives/manual/{name}/anat/{stem}_label-ball_mask.nii.gz"
        write_mask(tmp_path / place, mask)
    (tmp_path / "bids/dataset_description.json").write_text('{"Name": "phantoms"}')
    return tmp_path / "bids"


def segment(data: Path, out: Path, said: list[str] | None = None, **choice) -> int:
    chosen = BidsChoice(label_pattern=PATTERN, **choice)
    say = (said if said is not None else []).append
    return run_participants(data, make_bundle(), out, choice=chosen, say=say)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_masks_and_scores_are_named_by_bids(data: Path) -> None:
    out = data / "derivatives/voxtile"
    assert segment(data, out) == 0
    _, reference = ball()
    for name in NAMES:
        stem = f"{name.replace('/', '_')}_desc-threshold_dseg"
        mask = read_nifti(out / name / "anat" / f"{stem}.nii.gz").volume
        assert np.array_equal(mask.array, reference.array)
        assert (out / name / "anat" / f"{stem}.json").is_file()
    described = json.loads((out / "dataset_description.json").read_text())
    assert (described["DatasetType"], described["GeneratedBy"][0]["Name"]) == (
        "derivative",
        "voxtile",
    )
    scores = rows(out / "sub-01/sub-01_desc-threshold_scores.tsv")
    assert [(row["participant_id"], row["case_id"], row["dice"]) for row in scores] == [
        ("sub-01", "sub-01_ses-a", "1.0"),
        ("sub-01", "sub-01_ses-b", "1.0"),
    ]
    # The derivative inside the data set is not taken for images of it.
    assert len(read_bids(data).cases) == 3
    assert (out / ".bidsignore").read_text().split() == ["voxtile/", "*_scores.tsv"]


def test_the_group_has_the_scans_of_all_participants_wherever_they_were_run(
    data: Path, tmp_path: Path
) -> None:
    for number in ("02", "01"):
        assert segment(data, tmp_path / "out", participants=(number,)) == 0
    path, count, missing = write_group(tmp_path / "out", "threshold")
    assert (count, missing) == (3, {})
    assert [row["case_id"] for row in rows(path)] == [name.replace("/", "_") for name in NAMES]
    assert segment(data, tmp_path / "together") == 0
    together, _, _ = write_group(tmp_path / "together", "threshold")
    dices = [[row["dice"] for row in rows(one)] for one in (path, together)]
    assert dices[0] == dices[1]
    assert (tmp_path / "out/voxtile/threshold/summary.csv").is_file()


def test_a_second_call_keeps_what_is_done(data: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    for _ in range(2):
        run_participants(
            data,
            make_bundle(),
            tmp_path / "out",
            choice=BidsChoice(participants=("sub-02",)),
            on_case=lambda report, *_: seen.append(report.case_id),
        )
    record = tmp_path / "out/voxtile/threshold/sub-02/run.json"
    assert json.loads(record.read_text())["case_ids"] == ["sub-02_ses-a"]
    assert {*seen} == {"sub-02_ses-a"}
    assert not (tmp_path / "out/sub-01").exists()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"participants": ("03",)}, "has no participant '03'; it has 01, 02"),
        ({"sessions": ("c",)}, "has no image with ses-c; it has ses-a"),
        ({"runs": ("1",)}, "has no image with run-1; it has no such entity"),
    ],
)
def test_labels_that_no_image_has_are_refused(
    data: Path, tmp_path: Path, choice: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        segment(data, tmp_path / "out", **choice)


def test_sessions_are_chosen(data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert segment(data, tmp_path / "out", said, sessions=("b",)) == 1
    assert said == [f"left out sub-02: {data} has no image with ses-b; it has ses-a"]
    assert [path.name for path in tmp_path.glob("out/sub-*/*/anat/*.nii.gz")] == [
        "sub-01_ses-b_desc-threshold_dseg.nii.gz"
    ]


def test_a_damaged_scan_costs_only_its_own_mask(data: Path, tmp_path: Path) -> None:
    damaged = data / "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    (data / "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz").write_bytes(b"")
    assert segment(data, tmp_path / "out") == 2
    assert len([*tmp_path.glob("out/sub-*/*/anat/*.nii.gz")]) == 1
    path, count, _ = write_group(tmp_path / "out", "threshold")
    assert [row["status"] for row in rows(path)] == ["ok", "failed", "failed"]
    assert count == 3


def test_a_foreign_folder_is_not_written(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is the data set itself; name another folder"):
        segment(data, data / "derivatives/..")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/dataset_description.json").write_text('{"Name": "fmriprep"}')
    with pytest.raises(UsageError, match="is a data set of another program"):
        segment(data, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dataset_description.json"]


def test_a_group_needs_participants_of_one_kind(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="has no participant; run the level participant first"):
        write_group(tmp_path / "out", "threshold")
    segment(data, tmp_path / "out", participants=("01",))
    run_participants(
        data,
        make_bundle(),
        tmp_path / "out",
        choice=BidsChoice(participants=("02",)),
        settings=RunSettings(measures=Measures(nsd_mm=(3,))),
    )
    with pytest.raises(ManifestError, match=r"sub-02 and \S+sub-01 were run with another settings"):
        write_group(tmp_path / "out", "threshold")
