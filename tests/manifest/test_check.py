"""A manifest is held against its files: each thing that is wrong is found, fast, and no other."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from patients import add_series
from phantoms import ball, make_spec
from runs import write_manifest
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.errors import ManifestError
from voxtile.manifest.check import CheckResult, CheckSettings, check_manifest
from voxtile.models.spec import Label
from voxtile.reading.channels import read_scan, survey_scan
from voxtile.reading.nifti import survey_nifti
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask, write_volume

runner = CliRunner()


def add_case(folder: Path, name: str, value: int = 1, **ball_options) -> dict[str, str]:
    """Write image and label of a ball, and return its row."""
    image, truth = ball(**ball_options)
    # A corner that differs from case to case, or all images would be copies.
    voxels = image.array.copy()
    voxels[0, 0, 0] = sum(map(ord, name)) % 30000
    write_volume(folder / f"{name}.nii.gz", image.with_array(voxels))
    write_mask(folder / f"{name}_l.nii.gz", truth.with_array(truth.array * np.uint8(value)))
    return {"case_id": name, "image": f"{name}.nii.gz", "label": f"{name}_l.nii.gz"}


def check(folder: Path, rows, deep: bool = False, **options) -> CheckResult:
    settings = CheckSettings(deep=deep, **options.pop("settings", {}))
    return check_manifest(write_manifest(folder, rows), settings=settings, **options)


def codes(result: CheckResult) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in result.findings]


def test_a_valid_manifest_has_facts_and_no_findings(tmp_path: Path) -> None:
    result = check(tmp_path, [add_case(tmp_path, "a"), add_case(tmp_path, "b", axes="LPS")])
    assert codes(result) == []
    first = result.cases[0]
    assert (first.shape, first.orientation, first.has_label) == ((24, 20, 12), "RAS", True)
    assert first.spacing_mm == pytest.approx((1.2, 1.5, 2.5))
    assert first.label_values is None
    deep = check(tmp_path, [add_case(tmp_path, "a")], deep=True)
    assert deep.cases[0].label_values == (1,)


def test_all_problems_are_found_at_once_and_valid_rows_are_still_checked(tmp_path: Path) -> None:
    good = add_case(tmp_path, "a")
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    (tmp_path / "none.dcm").write_bytes(b"x" * 200)
    rows = [
        good,
        {**good, "case_id": "b", "image": "missing.nii.gz"},
        {**good, "case_id": "a"},
        {**good, "case_id": "c", "image": "bad.nii.gz"},
        {**good, "case_id": "d", "image": "none.dcm"},
        {**good, "case_id": "e", "label": "bad.nii.gz"},
    ]
    result = check(tmp_path, rows)
    errors = [(finding.line, finding.code) for finding in result.errors]
    assert errors == [
        (0, "manifest"),
        (0, "manifest"),
        (5, "empty_file"),
        (6, "not_dicom"),
        (7, "empty_file"),
    ]
    assert "line 3: image 'missing.nii.gz' does not exist" in result.errors[0].sentence


def test_a_label_on_another_grid_is_found_without_reading_voxels(tmp_path: Path) -> None:
    a, b = add_case(tmp_path, "a"), add_case(tmp_path, "b", shape=(20, 20, 12))
    assert codes(check(tmp_path, [{**a, "label": b["label"]}])) == [("label_grid", "error")]
    flipped = add_case(tmp_path, "c", axes="LAS")
    assert codes(check(tmp_path, [{**a, "label": flipped["label"]}])) == [
        ("label_reoriented", "warning")
    ]


def test_channels_are_compared_with_the_model_and_each_other(tmp_path: Path) -> None:
    a, b = add_case(tmp_path, "a"), add_case(tmp_path, "b", spacing_mm=(1.2, 1.5, 2.0))
    row = {"case_id": "x", "image_t1": a["image"], "image_t2": b["image"]}
    assert codes(check(tmp_path, [row])) == [("channel_grid", "error")]
    row["image_t2"] = a["image"]
    assert codes(check(tmp_path, [row])) == []
    both, other = make_spec(channels=("t1", "t2")), make_spec(channels=("t1", "flair"))
    assert codes(check(tmp_path, [row], spec=both)) == []
    assert codes(check(tmp_path, [row], spec=other)) == [("missing_channel", "error")]


def test_a_channel_of_another_name_is_refused(tmp_path: Path) -> None:
    image = add_case(tmp_path, "a")["image"]
    t1, plain = {"case_id": "x", "image_t1": image}, {"case_id": "x", "image": image}
    (finding,) = check(tmp_path, [t1], spec=make_spec(channels=("flair",))).errors
    assert finding.code == "missing_channel"
    assert "add column image_flair" in finding.sentence
    for row, channel in ((t1, "t1"), (t1, "image"), (plain, "flair"), (plain, "image")):
        assert codes(check(tmp_path, [row], spec=make_spec(channels=(channel,)))) == []


def test_one_group_in_two_splits_or_folds_is_an_error(tmp_path: Path) -> None:
    rows = [
        {**add_case(tmp_path, name), "group": "P", "split": split, "fold": fold}
        for name, split, fold in (("a", "train", "0"), ("b", "val", "0"), ("c", "", ""))
    ]
    (finding,) = check(tmp_path, rows).errors
    assert finding.code == "group_divided"
    assert "train (line 2) and val (line 3)" in finding.sentence
    rows[1]["split"], rows[1]["fold"] = "train", "1"
    (finding,) = check(tmp_path, rows).errors
    assert "in fold 0 (line 2) and 1 (line 3)" in finding.sentence


def test_copies_are_found_by_path_and_deep_by_content(tmp_path: Path) -> None:
    a = add_case(tmp_path, "a")
    twice = [{**a, "split": "train"}, {**a, "case_id": "b", "split": "train"}]
    assert codes(check(tmp_path, twice)) == [("same_image", "warning"), ("same_label", "warning")]
    twice[1]["split"] = "val"
    assert ("same_image", "error") in codes(check(tmp_path, twice))
    # The same scan, stored otherwise: other type, other order of axes, not compressed.
    scan = read_scan(tmp_path / a["image"]).volume
    turned = Volume(
        scan.array[::-1].astype(np.float32),
        scan.affine
        @ np.array([[-1, 0, 0, scan.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    )
    write_volume(tmp_path / "copy.nii", turned)
    copied = [{**a, "split": "train"}, {"case_id": "b", "image": "copy.nii", "split": "test"}]
    assert codes(check(tmp_path, copied)) == []
    assert codes(check(tmp_path, copied, deep=True)) == [("same_content", "error")]


def test_deep_reads_label_values_and_checksums(tmp_path: Path) -> None:
    two = add_case(tmp_path, "a", value=2)
    spec = make_spec()
    assert codes(check(tmp_path, [two], spec=spec)) == []
    assert codes(check(tmp_path, [two], spec=spec, deep=True)) == [("label_values", "error")]
    renamed = check(tmp_path, [two], spec=spec, deep=True, settings={"label_map": {2: 1}})
    assert codes(renamed) == []
    known = make_spec(
        labels=(*spec.labels, Label(value=2, name="two", color="#000000")), name="both"
    )
    assert codes(check(tmp_path, [two], spec=known, deep=True)) == []
    content = bytearray((tmp_path / "a.nii.gz").read_bytes())
    content[-5] ^= 1  # the checksum
    (tmp_path / "a.nii.gz").write_bytes(content)
    assert codes(check(tmp_path, [two])) == []
    assert codes(check(tmp_path, [two], deep=True)) == [("corrupt", "error")]


def test_probabilities_are_refused_as_labels(tmp_path: Path) -> None:
    row = add_case(tmp_path, "a")
    _, truth = ball()
    write_volume(tmp_path / row["label"], truth.with_array(truth.array * np.float32(0.5)))
    assert codes(check(tmp_path, [row], deep=True)) == [("label_not_integral", "error")]


def test_training_cases_without_a_label_give_a_warning(tmp_path: Path) -> None:
    row = {**add_case(tmp_path, "a"), "label": "", "split": "val"}
    assert codes(check(tmp_path, [row])) == [("no_label", "warning")]
    assert codes(check(tmp_path, [{**row, "split": "test"}])) == []


def test_a_header_that_promises_too_much_and_4d_are_found(tmp_path: Path) -> None:
    image, _ = ball()
    write_volume(tmp_path / "a.nii", image)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[40:56] = np.array([4, 24, 20, 6, 2, 1, 1, 1], "<i2").tobytes()
    (tmp_path / "four.nii").write_bytes(content)
    (tmp_path / "short.nii").write_bytes(content[:-500])
    rows = [{"case_id": name, "image": f"{name}.nii"} for name in ("four", "short")]
    assert codes(check(tmp_path, rows)) == [("several_volumes", "error"), ("truncated", "error")]
    chosen = check(tmp_path, rows[:1], settings={"policy": ReadPolicy(volume=1)})
    assert chosen.cases[0].shape == (24, 20, 6)
    assert codes(check(tmp_path, [{**rows[0], "volume": "1"}])) == []
    assert codes(check(tmp_path, [{**rows[0], "volume": "2"}])) == [("no_such_volume", "error")]


def test_reading_headers_alone_agrees_with_reading_voxels(data_dir: Path) -> None:
    paths = [
        *sorted((data_dir / "real_labelled").glob("*/image.nii.gz")),
        *sorted((data_dir / "edge_cases/nifti").iterdir()),
        *sorted((data_dir / "dicom_to_nifti").glob("*/dicom")),
    ]
    compared = 0
    for path in paths:
        policy = ReadPolicy(volume=0, tilt="resample", missing_slices="interpolate", nan="fill")
        try:
            scan = read_scan(path, policy)
        except Exception as error:
            if getattr(error, "code", "") in ("not_finite", "corrupt", "too_long"):
                continue  # what only voxels tell
            with pytest.raises(type(error)):
                survey_scan(path, policy)
            continue
        survey = survey_scan(path, policy)
        assert survey.volume.shape == scan.volume.shape, path
        np.testing.assert_array_equal(survey.volume.affine, scan.volume.affine)
        assert survey.volume.codes == scan.volume.codes
        compared += 1
    assert compared > 30


def test_reading_headers_alone_allocates_no_voxels(tmp_path: Path) -> None:
    header = bytearray(352)
    image, _ = ball()
    write_volume(tmp_path / "a.nii", image)
    header[:] = (tmp_path / "a.nii").read_bytes()[:352]
    header[40:48] = np.array([3, 4000, 4000, 4000], "<i2").tobytes()
    header[70:74] = np.array([4, 16], "<i2").tobytes()
    path = tmp_path / "huge.nii"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(352 + 2 * 4000**3)  # sparse: 128 GB that take no room
    assert survey_nifti(path).volume.shape == (4000, 4000, 4000)


def test_dicom_is_checked_by_its_headers(tmp_path: Path) -> None:
    add_series(tmp_path / "s")
    add_series(tmp_path / "two/a")
    add_series(tmp_path / "two/b")
    rows = [{"case_id": name, "image": name} for name in ("s", "two")]
    result = check(tmp_path, rows)
    assert result.cases[0].shape == (6, 5, 3)
    assert codes(result) == [("several_series", "error")]
    assert "slice0" not in json.dumps(result.as_json())


def test_a_hundred_cases_are_checked_without_reading_voxels(tmp_path: Path, monkeypatch) -> None:
    rows = [add_case(tmp_path, f"c{number}", shape=(20, 16, 8)) for number in range(80)]
    add_series(tmp_path / "s")
    for number in range(20):
        folder = tmp_path / f"d{number}"
        folder.symlink_to(tmp_path / "s")
        rows.append({"case_id": f"d{number}", "image": folder.name, "label": ""})
    monkeypatch.setattr(
        "voxtile.reading.nifti.read_voxels", lambda *_: pytest.fail("voxels were read")
    )
    result = check(tmp_path, rows)
    assert len(result.cases) == 100
    assert not result.errors


def test_the_real_manifest_is_valid(data_dir: Path) -> None:
    manifest = data_dir / "hippocampus/cases.csv"
    result = check_manifest(manifest)
    assert (len(result.cases), result.findings) == (217, ())


def test_the_derived_edge_cases_are_found(data_dir: Path, tmp_path: Path) -> None:
    base = data_dir / "edge_cases/derived"
    rows = [
        {"case_id": path.name.split(".")[0], "image": str(path)}
        for path in sorted(base.glob("*.nii.gz"))
        if "label" not in path.name
    ]
    result = check_manifest(write_manifest(tmp_path, rows), settings=CheckSettings(deep=True))
    found = {finding.case_id: finding.code for finding in result.errors}
    assert found["bad_crc"] == "corrupt"


# The command


def test_the_command_has_exit_code_4_only_for_errors(tmp_path: Path) -> None:
    good = {**add_case(tmp_path, "a"), "split": "train"}
    path = write_manifest(tmp_path, [{**good, "label": ""}])
    done = runner.invoke(app, ["manifest", "check", str(path)])
    assert done.exit_code == 0, done.output
    assert "warning: line 2 case a: no_label" in done.output
    assert "0 errors, 1 warning" in done.output
    path = write_manifest(tmp_path, [{**good, "image": "none.nii"}])
    done = runner.invoke(app, ["manifest", "check", str(path), "--json"])
    assert done.exit_code == 4
    said = json.loads(done.output)
    assert (said["ok"], said["errors"], said["findings"][0]["code"]) == (False, 1, "manifest")
    done = runner.invoke(app, ["manifest", "check", str(tmp_path / "nothing.csv")])
    assert (done.exit_code, "cannot be read" in done.output) == (4, True)
    done = runner.invoke(app, ["manifest", "check", str(path), "--model", "nothing"])
    assert done.exit_code == 5


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        check_manifest(tmp_path / "none.csv")


def test_a_damaged_gzip_header_is_found_without_reading_voxels(tmp_path: Path) -> None:
    row = add_case(tmp_path, "a")
    (tmp_path / row["image"]).write_bytes(gzip.compress(b"not a scan" * 100))
    assert codes(check(tmp_path, [row])) == [("not_nifti", "error")]
