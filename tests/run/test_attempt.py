"""A case has exactly one report, whatever happens to it."""

from pathlib import Path

import pytest

from voxtile.case import Case
from voxtile.errors import CaseError, EnvironmentFault, Notice
from voxtile.models.spec import Label
from voxtile.run.attempt import Result, attempt
from voxtile.run.journal import Journal
from voxtile.run_folder.case_report import CaseReport
from voxtile.scoring.score import Measures

CASE = Case("a", (("image", Path("a.nii")),), split="val", group="p1", extras=(("site", "A"),))
LABELS = (
    Label(value=1, name="organ", color="#ff0000"),
    Label(value=2, name="lesion", color="#00ff00"),
)


def outcome(error: BaseException | None) -> CaseReport:
    """The report of a case that notes a warning and then ends in some way."""

    def do(journal: Journal) -> Result:
        journal.fingerprint = "f"
        with journal.stage("infer"):
            journal.note([Notice("odd_spacing", "spacing is uneven")])
            if error is not None:
                raise error
        return Result((), {"shape": [1, 2, 3]}, {"file": "masks/a.nii.gz"}, {"flags": []})

    return attempt(CASE, LABELS, do, measures=Measures(), more_memory="use fewer workers")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CaseError("truncated", "the file ends early", "pass --x"), "the file ends early, or pass"),
        (MemoryError(), "memory ran out in stage infer; use fewer workers"),
        (KeyError("Doe^John"), "KeyError in stage infer (attempt.py line"),
    ],
)
def test_a_failed_case_has_a_reason_and_all_its_rows(error: Exception, reason: str) -> None:
    report = outcome(error)
    assert report.status == "failed"
    assert report.reason is not None
    assert report.reason.sentence.startswith(reason)
    assert "Doe" not in report.dump()
    assert [row.status for row in report.labels] == ["failed", "failed"]
    assert list(report.labels[0].nsd) == list(Measures().columns)
    assert (report.mask, report.geometry, report.qc) == ({}, {}, {})


def test_an_error_of_ours_for_a_lack_of_memory_is_named_as_that() -> None:
    error = CaseError("unreadable", "the file cannot be read")
    error.__cause__ = OSError(12, "Cannot allocate memory")
    assert "out_of_memory: memory ran out in stage infer" in str(outcome(error).reason)
    own = CaseError("too_large", "the file has 9 GiB of voxels")
    own.__cause__ = MemoryError()
    assert str(outcome(own).reason) == "too_large: the file has 9 GiB of voxels"


@pytest.mark.parametrize("error", [None, MemoryError()])
def test_every_report_has_the_manifests_columns_and_the_journal(error: Exception | None) -> None:
    report = outcome(error)
    assert (report.case_id, report.split, report.group) == ("a", "val", "p1")
    assert report.extras == {"site": "A"}
    assert report.fingerprint == "f"
    assert [notice.code for notice in report.warnings] == ["odd_spacing"]
    assert list(report.timings_s) == ["infer"]


SECRET = Path("/scans/DOE JANE/doe_jane")


@pytest.mark.parametrize(
    ("images", "label", "came", "written"),
    [
        ({"image": "{}.nii.gz"}, None, "{}.nii.gz ends", "the scan ends"),
        ({"image": "{}.nii.gz"}, "{}.nii", "doe_jane.nii: bad", "the file: bad"),
        ({"image": "x.nii"}, "{}.nii", "at doe_jane.nii, (doe_jane.nii)", "at the reference, (the"),
        ({"t1": "x.nii", "t2": "{}.hdr"}, None, "doe_jane.img.gz is gone", "channel t2 is gone"),
        ({"image": "{}"}, None, "[Errno 5] '{}/slice'", "[Errno 5] 'the scan/slice'"),
        (
            {"image": "{}.nii"},
            None,
            "doe_jane.py line 3, mydoe_jane.nii",
            "doe_jane.py line 3, mydoe",
        ),
        ({"image": "a.nii"}, "a.nii", "no a.nii.gz here", "no a.nii.gz here"),
    ],
)
@pytest.mark.parametrize("kind", ["reason", "warning"])
def test_a_record_never_has_the_name_of_a_file_of_its_case(
    images, label, came, written, kind
) -> None:
    def path(text: str) -> Path:
        return Path(text.format(SECRET))

    def do(journal: Journal) -> Result:
        if kind == "warning":
            journal.note([Notice("truncated", came.format(SECRET))])
            return Result(())
        raise CaseError("truncated", came.format(SECRET))

    case = Case(
        "a", tuple((name, path(text)) for name, text in images.items()), label and path(label)
    )
    report = attempt(case, LABELS, do, measures=Measures())
    (notice,) = report.warnings if kind == "warning" else [report.reason]
    assert written in notice.sentence


def test_a_case_that_is_done_has_its_result() -> None:
    report = outcome(None)
    assert (report.status, report.reason) == ("done", None)
    assert report.mask == {"file": "masks/a.nii.gz"}
    assert report.geometry == {"shape": [1, 2, 3]}


@pytest.mark.parametrize("error", [EnvironmentFault("disk full"), KeyboardInterrupt()])
def test_faults_of_the_machine_and_interrupts_are_no_outcome(error: BaseException) -> None:
    with pytest.raises(type(error)):
        outcome(error)


def test_a_lack_of_threads_is_not_of_the_case() -> None:
    with pytest.raises(EnvironmentFault, match=r"fewer --workers, or raise .* \(ulimit -u\)"):
        outcome(RuntimeError("can't start new thread"))
