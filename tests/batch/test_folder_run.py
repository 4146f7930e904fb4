"""A run of a folder of scans: its manifest, its case ids, what is new and what is gone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patients import add_series
from phantoms import ball, make_bundle, threshold_model

from voxtile.batch import drive
from voxtile.batch.drive import rehearse_run, run_manifest
from voxtile.batch.settings import BatchSettings
from voxtile.case import Case
from voxtile.engines import CALLABLE
from voxtile.errors import ManifestError, UsageError
from voxtile.manifest.build import Outputs, build_manifest
from voxtile.manifest.listing import is_source, list_source, with_earlier_ids
from voxtile.manifest.rows import read_manifest
from voxtile.run.settings import RunSettings
from voxtile.writing.nifti import write_mask, write_volume


def add(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(path, ball(shape=(12, 12, 4 + number))[0])
    return folder


def run(source, out: Path, **options):
    return run_manifest(source, make_bundle(), out, models=[threshold_model], **options)


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def ids(result) -> list[str]:
    return [report.case_id for report in result.reports]


@given(st.data())
def test_a_scan_that_stays_keeps_its_id_and_no_two_scans_have_one(data: st.DataObject) -> None:
    paths = st.lists(st.integers(0, 9), unique=True, min_size=1)

    def numbered(found: list[int]) -> list[Case]:
        return [
            Case(f"case{place:03d}", (("image", Path(f"/x/{one}")),), group=f"patient{place:03d}")
            for place, one in enumerate(sorted(found), start=1)
        ]

    names = data.draw(st.sampled_from([True, False]))
    known: dict[tuple, str] = {}
    earlier: tuple[Case, ...] = ()
    for found in data.draw(st.lists(paths, min_size=2, max_size=4)):
        now = with_earlier_ids(numbered(found), earlier, known.values(), numbered=names)
        chosen = {case.images: case.case_id for case in now}
        assert len({*chosen.values()}) == len(found) == len({case.group for case in now})
        before = {case.images: case.case_id for case in earlier}
        assert all(chosen[one] == before[one] for one in chosen.keys() & before.keys())
        if names:  # a pseudonym never changes its owner
            assert not {*chosen.values()} & {
                name for one, name in known.items() if one not in chosen and one not in before
            }
            new = [one for one in chosen if earlier and one not in before]
            assert not {chosen[one] for one in new} & {*known.values()}
        known |= chosen
        earlier = now


def test_a_folder_gives_the_manifest_that_build_writes_and_keeps_it(tmp_path: Path) -> None:
    add(tmp_path / "my scäns", "images/p1.nii.gz", "images/p 2.nii.gz")
    write_mask(tmp_path / "my scäns/labels/p1.nii.gz", ball(shape=(12, 12, 4))[1])
    result = run(tmp_path / "my scäns", tmp_path / "out")
    assert ids(result) == ["p1", "p_2"]
    kept = read_manifest(tmp_path / "out/manifest.csv")
    build_manifest(tmp_path / "my scäns", Outputs(tmp_path / "m.csv"), kind="nifti")
    built = read_manifest(tmp_path / "m.csv")
    assert [(one.case_id, one.split, one.line) for one in kept] == [
        (one.case_id, one.split, one.line) for one in built
    ]
    for one, other in zip(kept, built, strict=True):
        assert one.images[0][1].samefile(other.images[0][1])
        assert (one.label is None) == (other.label is None)
    assert "my scäns/images/p1.nii.gz" in (tmp_path / "out/manifest.csv").read_text()
    # The kept manifest is a manifest as any other, also for the run folder that it is in.
    assert run(tmp_path / "out/manifest.csv", tmp_path / "out").kept == 2
    assert run(tmp_path / "my scäns", tmp_path / "out").kept == 2


def test_a_new_scan_is_one_new_case_and_a_scan_that_is_gone_is_named(tmp_path: Path) -> None:
    source, out = add(tmp_path / "s", "b.nii.gz", "c/x.nii.gz"), tmp_path / "out"
    assert run(source, out).kept == 0
    add(source, "a/x.nii.gz")  # `manifest build` would now rename c/x.nii.gz
    result = run(source, out)
    assert (result.kept, {*ids(result)}) == (2, {"b", "x", "a_x"})
    (source / "b.nii.gz").unlink()
    notices = list_source(source, out).notices
    assert any("1 case of the last run is no longer there: b" in line for line in notices)
    assert (run(source, out).kept, (out / "masks/b.nii.gz").exists()) == (2, True)
    assert list_source(source, out).notices == ()


def test_a_new_patient_does_not_rename_the_others(tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    for name in ("Mia", "Zoe"):
        add_series(tree / name, PatientID=name)
    run(tree, out)
    add_series(tree / "Ben", PatientID="Ben")
    add_series(tree / "Mia 2", PatientID="Mia")
    found = list_source(tree, out).cases
    rows = {case.images[0][1].name: (case.case_id, case.group) for case in found}
    assert rows == {
        "Ben": ("case003", "patient003"),
        "Mia": ("case001", "patient001"),
        "Mia 2": ("case004", "patient001"),
        "Zoe": ("case002", "patient002"),
    }
    assert run(tree, out).kept == 2


def test_a_run_folder_below_the_scans_is_no_data(tmp_path: Path) -> None:
    source = add(tmp_path / "s", "p1.nii.gz")
    for _ in range(2):
        result = run(source, source / "out")
        assert [report.labels[0].dice for report in result.reports] == [None]
    assert result.kept == 1
    other = run(source, tmp_path / "other")
    assert other.reports[0].labels[0].dice is None  # the mask of the other run is no reference
    (notice,) = list_source(source, tmp_path / "other").notices
    assert "left out out: results of voxtile" in notice
    with pytest.raises(ManifestError, match="out is the folder of a run; name the folder of its"):
        run(source / "out", tmp_path / "again")


def test_an_output_folder_inside_a_series_is_refused(tmp_path: Path) -> None:
    add_series(tmp_path / "s")
    with pytest.raises(ManifestError, match="contains the output"):
        run(tmp_path / "s", tmp_path / "s/out")
    add_series(tmp_path / "two/a")
    add_series(tmp_path / "two/b")
    assert len(run(tmp_path / "two", tmp_path / "two/out").reports) == 2


def test_a_manifest_that_somebody_changed_is_not_replaced(tmp_path: Path) -> None:
    source, out = add(tmp_path / "s", "p1.nii.gz"), tmp_path / "out"
    run(source, out)
    manifest = out / "manifest.csv"
    edited = manifest.read_text().replace("\n", ",site\n", 1).rstrip() + ",A\n"
    manifest.write_text(edited)
    with pytest.raises(ManifestError, match=r"manifest\.csv was not written by a run, or was chan"):
        run(source, out)
    assert manifest.read_text() == edited
    assert run(manifest, out).reports[0].extras == {"site": "A"}
    with pytest.raises(ManifestError, match="was changed afterwards"):
        run(source, out)


def test_a_folder_with_only_somebodys_manifest_is_no_run_folder(tmp_path: Path) -> None:
    source = add(tmp_path / "s", "p1.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/manifest.csv").write_text("case_id,image\np1,../s/p1.nii.gz\n")
    for manifest in (source, tmp_path / "out/manifest.csv"):
        with pytest.raises(ManifestError, match="not a run folder"):
            run(manifest, tmp_path / "out")


@pytest.mark.parametrize("between", ["facts", "manifest"])
def test_a_run_killed_at_its_start_is_continued(tmp_path: Path, monkeypatch, between: str) -> None:
    from voxtile.batch import case_loop

    source, out = add(tmp_path / "s", "p1.nii.gz"), tmp_path / "out"
    run(source, out)
    add(source, "p2.nii.gz")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(case_loop, "write_text" if between == "facts" else "ProgressFile", killed)
        with pytest.raises(KeyboardInterrupt):
            run(source, out)
    add(source, "p3.nii.gz")
    assert (run(source, out).kept, len(read_manifest(out / "manifest.csv"))) == (1, 3)


def test_shards_of_a_folder_agree_on_its_manifest(tmp_path: Path) -> None:
    from voxtile.batch.merge import merge_shards
    from voxtile.run_folder.shard import Shard

    source = add(tmp_path / "s", "p1.nii.gz", "p2.nii.gz")
    for index in (1, 2):
        run(source, tmp_path / "out", batch=BatchSettings(shard=Shard(index, 2)))
    assert len(merge_shards(tmp_path / "out").reports) == 2
    assert run(source, tmp_path / "out").kept == 2


def test_one_file_is_one_case(tmp_path: Path) -> None:
    add(tmp_path, "p1_seg.nii.gz")
    add_series(tmp_path / "d")
    for path, name in ((tmp_path / "p1_seg.nii.gz", "p1_seg"), (tmp_path / "d", "case001")):
        assert is_source(path)
        assert ids(run(path, tmp_path / f"out {name}")) == [name]
    (case,) = list_source(next((tmp_path / "d").iterdir()), tmp_path / "out").cases
    assert (case.case_id, case.images[0][1].parent) == ("case001", tmp_path / "d")
    (tmp_path / "m.csv").write_text("case_id,image\n")
    assert not is_source(tmp_path / "m.csv")
    assert not is_source(tmp_path / "none")


def test_cases_are_chosen_by_id(tmp_path: Path) -> None:
    source = add(tmp_path / "s", "p1.nii.gz", "p2.nii.gz")
    assert ids(run(source, tmp_path / "out", settings=RunSettings(cases=("p2",)))) == ["p2"]
    assert len(read_manifest(tmp_path / "out/manifest.csv")) == 2
    assert run(source, tmp_path / "out").kept == 1
    with pytest.raises(ManifestError, match="has no case p3; the cases are p1, p2"):
        run(source, tmp_path / "out", settings=RunSettings(cases=("p1", "p3")))


def test_a_rehearsal_writes_nothing_and_finds_what_a_run_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The bundle of this test has no network file.
    monkeypatch.setattr("voxtile.batch.agreement.engine_for", lambda *_, **__: CALLABLE)
    plans = drive.make_plans
    monkeypatch.setattr(drive, "make_plans", lambda *given, known: plans(*given, known=False))
    source, model = add(tmp_path / "s", "p1.nii.gz"), make_bundle()
    before = listing(tmp_path)
    assert [case.case_id for case in rehearse_run(source, model, source / "out")] == ["p1"]
    with pytest.raises(ManifestError, match="inside the output folder"):
        rehearse_run(source, model, tmp_path)
    with pytest.raises(UsageError, match="--root is for the paths of a manifest"):
        rehearse_run(source, model, tmp_path / "out", root=tmp_path)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "message", "way_out"),
    [
        ("notes.txt", "holds no scan of a format that voxtile reads .* among 1 file", "; name the"),
        ("labels/p1.nii.gz", "its files have names of labels", "`voxtile manifest build"),
    ],
)
def test_a_folder_without_scans_is_refused_with_the_way_out(
    tmp_path: Path, name: str, message: str, way_out: str
) -> None:
    (tmp_path / "s" / name).parent.mkdir(parents=True)
    (tmp_path / "s" / name).touch()
    with pytest.raises(ManifestError, match=message) as caught:
        run(tmp_path / "s", tmp_path / "out")
    assert way_out in caught.value.problems[-1]
    assert not (tmp_path / "out").exists()
