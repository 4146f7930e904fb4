"""Reviews of people: read in any spreadsheet's form, and turned into the right manifest."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import invoke
from hypothesis import given
from hypothesis import strategies as st
from phantoms import ball
from runs import add_case, write_manifest

from voxtile.errors import ManifestError
from voxtile.machine.spreadsheet import csv_lines
from voxtile.manifest.review import COLUMNS, Chosen, read_review, write_reviewed
from voxtile.manifest.rows import read_manifest
from voxtile.run_folder.fingerprint import content_hash
from voxtile.training.data.splits import split_cases
from voxtile.writing.nifti import write_mask

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=20)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Four scans without references, and masks of a run."""
    rows = [add_case(tmp_path, f"c{number}", label=False) for number in range(4)]
    rows[0]["scanner"] = "A"
    (tmp_path / "masks").mkdir()
    for number in range(4):
        write_mask(tmp_path / f"masks/c{number}.nii.gz", ball()[1])
    return write_manifest(tmp_path, rows)


def review_of(folder: Path, **decisions: str) -> Path:
    path = folder / "review.csv"
    rows = [
        [case_id, decision, "AB", "", content_hash(folder / f"masks/{case_id}.nii.gz"), ""]
        for case_id, decision in decisions.items()
    ]
    path.write_text(csv_lines([COLUMNS, *rows]))
    return path


@given(st.lists(st.tuples(st.sampled_from(["accepted", "rejected", ""]), TEXT, TEXT), min_size=1))
def test_a_review_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, rows) -> None:
    path = tmp_path_factory.getbasetemp() / "review.csv"
    cells = [
        [f"c{number}", decision, reviewer.strip(), note.strip(), "", ""]
        for number, (decision, reviewer, note) in enumerate(rows)
    ]
    path.write_text(csv_lines([COLUMNS, *cells]), encoding="utf-8")
    found = [[each.decision, each.reviewer, each.note] for each in read_review(path).values()]
    assert found == [[row[1] or "open", *row[2:4]] for row in cells]


def test_each_decision_has_its_manifest_and_together_they_are_all(pool: Path) -> None:
    review = review_of(pool.parent, c0="accepted", c2="rejected", c3="")
    ids = {}
    for keep in ("accepted", "rejected", "open"):
        out = pool.parent / "new" / f"{keep}.csv"
        write_reviewed(pool, review, out, Chosen(keep))
        cases = read_manifest(out)  # another folder, and the scans are found
        ids[keep] = [case.case_id for case in cases]
    assert ids == {"accepted": ["c0"], "rejected": ["c2"], "open": ["c1", "c3"]}


def test_corrected_masks_come_back_as_references_that_training_uses(pool: Path) -> None:
    folder = pool.parent
    (folder / "old").mkdir()
    old = [
        add_case(folder / "old", "t1") | {"split": "train"},
        add_case(folder / "old", "v1") | {"split": "val"},
    ]
    train = write_manifest(folder / "old", old)
    review = review_of(folder, c0="rejected", c1="accepted", c2="rejected")
    for case_id in ("c0", "c2"):
        truth = ball()[1]
        corrected = truth.with_array(np.roll(truth.array, 1, axis=0))
        write_mask(folder / f"corrected/{case_id}.nii.gz", corrected)
    words = ["--review", review, "--keep", "rejected", "--labels", folder / "corrected"]
    words += ["--split", "train", "--add-to", train, "--out", folder / "next.csv"]
    code, said = invoke("manifest", "review", pool, *words)
    assert (code, said.splitlines()[:2]) == (
        0,
        ["2 cases rejected, 2 with a reference", "added to 2 cases"],
    )
    training, validation = split_cases(read_manifest(folder / "next.csv"), folder / "next.csv")
    assert [case.case_id for case in training] == ["t1", "c0", "c2"]
    assert [case.case_id for case in validation] == ["v1"]
    assert training[1].label == folder / "corrected/c0.nii.gz"
    assert dict(training[1].extras)["scanner"] == "A"


def test_a_rejected_mask_without_a_change_is_refused(pool: Path) -> None:
    folder = pool.parent
    review = review_of(folder, c0="rejected", c1="rejected", c2="accepted")
    shutil.copytree(folder / "masks", folder / "corrected")
    (folder / "corrected/c1.nii.gz").unlink()
    with pytest.raises(ManifestError) as raised:
        write_reviewed(
            pool, review, folder / "a.csv", Chosen("rejected", labels=folder / "corrected")
        )
    assert "c0.nii.gz is the mask that was rejected, without a change" in str(raised.value)
    assert "has no mask c1.nii.gz" in str(raised.value)
    assert not (folder / "a.csv").exists()
    # An accepted mask may become a reference as it is.
    write_reviewed(pool, review, folder / "a.csv", Chosen("accepted", labels=folder / "masks"))
    assert read_manifest(folder / "a.csv")[0].label == folder / "masks/c2.nii.gz"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case_id,note\nc0,x\n", "has no column review; export it"),
        ("case_id,review\nc0,maybe\n", "line 2: review 'maybe' must be accepted, rejected"),
        ("case_id,review\nc0,accepted\nc0,rejected\n", "line 3: case_id 'c0' is missing or repeat"),
        ("case_id,review\nx9,accepted\n", "has 1 case that the run or manifest does not have: x9"),
        ("case_id,review\nc0,accepted\n", "the review of no case of .* is rejected"),
    ],
)
def test_a_review_that_cannot_be_used_is_refused(pool: Path, text: str, message: str) -> None:
    review = pool.parent / "review.csv"
    review.write_text(text)
    with pytest.raises(ManifestError, match=message):
        write_reviewed(pool, review, pool.parent / "new.csv", Chosen("rejected"))


def test_a_case_of_both_manifests_and_an_existing_file_are_refused(pool: Path) -> None:
    review = review_of(pool.parent, c0="accepted")
    with pytest.raises(ManifestError, match="already has c0; remove these rows"):
        write_reviewed(pool, review, pool.parent / "new.csv", Chosen("accepted"), add_to=pool)
    with pytest.raises(ManifestError, match=r"cases\.csv exists"):
        write_reviewed(pool, review, pool, Chosen("accepted"))
