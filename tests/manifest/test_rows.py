"""A manifest is read completely, or all of its problems are reported at once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.case import Case
from voxtile.errors import ManifestError
from voxtile.manifest.rows import KNOWN, read_manifest


def write(folder: Path, text: str | bytes, files=("a.nii", "b.nii", "l.nii")) -> Path:
    for name in files:
        (folder / name).touch()
    path = folder / "m.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(path: Path, **options) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, **options)
    return "\n".join(caught.value.problems)


def test_a_row_becomes_a_case(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "case_id,image,label,split,group,site\np1,a.nii,l.nii,val,P,north\np2,b.nii,,,,\n",
    )
    one, two = read_manifest(path)
    assert one == Case(
        "p1",
        (("image", tmp_path / "a.nii"),),
        tmp_path / "l.nii",
        "val",
        "P",
        extras=(("site", "north"),),
        line=2,
    )
    assert (two.label, two.split, two.group) == (None, None, None)


def test_bom_crlf_blank_lines_and_quoted_line_ends_are_accepted(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbfcase_id,image,note\r\np1,a.nii,"two\r\nlines"\r\n\r\np2,b.nii,x\r\n'
    one, two = read_manifest(write(tmp_path, text))
    assert dict(one.extras)["note"] == "two\r\nlines"
    assert (one.line, two.line) == (2, 5)


def test_a_row_may_choose_its_series_and_volume(tmp_path: Path) -> None:
    text = "case_id,image,series,volume\np1,a.nii,slices>=20,2\np2,b.nii,,\n"
    one, two = read_manifest(write(tmp_path, text))
    assert (one.series, one.volume, one.extras) == ("slices>=20", 2, ())
    assert (two.series, two.volume) == (None, None)


def test_several_channels_are_found_below_a_root(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("t1.nii", "t2.nii"):
        (data / name).touch()
    path = write(tmp_path, "case_id,image_t1,image_t2\np1,t1.nii,t2.nii\n")
    (case,) = read_manifest(path, root=data)
    assert case.images == (("t1", data / "t1.nii"), ("t2", data / "t2.nii"))


def test_all_problems_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    text = (
        b"case_id,image,split\n"
        b"ok,a.nii,train\n"
        b"ok,a.nii,train\n"
        b"../up,a.nii,train\n"
        b"q,none.nii,train\n"
        b"r,a.nii,dev\n"
        b"s,a.nii\n"
        b"t\xff,a.nii,\xc3\xbc\n"
        b"u,,train\n"
        b"OK,a.nii,\n"
    )
    said = problems(write(tmp_path, text))
    for expected in (
        "line 3: case_id 'ok' is already on line 2",
        "line 4: case_id '../up' must have",
        "line 5: image 'none.nii' does not exist (looked in",
        "line 6: split 'dev' is not one of train, val, test",
        "line 7: 2 cells, but the header has 3",
        "line 8: byte 0xff is not UTF-8",
        "line 9: image is empty",
        "line 10: case_id 'OK' is already on line 2",
    ):
        assert expected in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("case_id,image\n", "has a header but no case"),
        ("id,image\nx,a.nii\n", "column case_id is missing"),
        ("case_id\nx\n", "column image is missing"),
        ("ID;File\nx;a.nii\n", "did you mean 'ID'? Then rename it to case_id; the columns are ID,"),
        ("ID;File\nx;a.nii\n", "did you mean 'File'? Then rename it to image"),
        ("patient|scan\nx|a.nii\n", "column case_id is missing; the columns are patient|scan"),
        ("case_id,image,image\nx,a.nii,a.nii\n", "column 'image' appears again as column 3"),
        ("case_id,image,image_t1\nx,a.nii,a.nii\n", "exclude each other"),
        ("case_id,image,Group\nx,a.nii,P\n", "column 'Group' must be written group"),
        ("case_id,Image_T1\nx,a.nii\n", "column 'Image_T1' must be written image_T1"),
        (
            "case_id,image,dice\nx,a.nii,1\n",
            "line 1: column 3, 'dice', has the name of a column",
        ),
        ('case_id,image\nx,"a.nii\n', "not valid CSV"),
        ("case_id,image,volume\nx,a.nii,-1\n", "volume '-1' is not a whole number"),
        ("case_id,image\n..,a.nii\n", "not only dots"),
        ("case_id,image\na/b,a.nii\n", "case_id 'a/b'"),
        (f"case_id,image\n{'x' * 101},a.nii\n", "1 to 100"),
        ("case_id,image,label\nx,a.nii,no.nii\n", "label 'no.nii' does not exist"),
    ],
)
def test_an_invalid_manifest_is_refused_with_the_reason(tmp_path: Path, text, message) -> None:
    assert message in problems(write(tmp_path, text))


@pytest.mark.parametrize("name", ["case_id", "image", "label", "split", "series", "volume"])
def test_a_known_column_in_other_case_is_refused(tmp_path: Path, name) -> None:
    path = write(tmp_path, f"case_id,image, {name.title()} \nx,a.nii,\n")
    assert f"{name.title()!r} must be written {name}" in problems(path)


def test_upper_case_is_kept_in_further_columns_and_channels(tmp_path: Path) -> None:
    (case,) = read_manifest(write(tmp_path, "case_id,image_T1,Site,images_A\nx,a.nii,1,2\n"))
    assert case.images == (("T1", tmp_path / "a.nii"),)
    assert case.extras == (("Site", "1"), ("images_A", "2"))


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in problems(tmp_path / "none.csv")


def test_a_path_may_begin_at_home_or_at_a_variable(tmp_path: Path, monkeypatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for folder in (tmp_path, data):
        for name in ("a.nii", "$b.nii", "~c.nii"):
            (folder / name).touch()
    monkeypatch.setenv("HOME", str(data))
    monkeypatch.setenv("SCANS", str(data))
    text = "case_id,image,label\np,~/a.nii,$SCANS/a.nii\nq,${SCANS}/a.nii,$b.nii\nr,~c.nii,\n"
    p, q, r = read_manifest(write(tmp_path, text))
    assert [case.images[0][1] for case in (p, q, r)] == [
        data / "a.nii",
        data / "a.nii",
        tmp_path / "~c.nii",  # files that have such names are meant by them
    ]
    assert (p.label, q.label) == (data / "a.nii", tmp_path / "$b.nii")
    said = problems(write(tmp_path, "case_id,image\np,$NOT_SET_1/a.nii\n"))
    assert "'$NOT_SET_1/a.nii' does not exist (the variable $NOT_SET_1 is not set)" in said


def test_a_whole_number_may_be_written_as_spreadsheets_do(tmp_path: Path) -> None:
    text = "case_id;image;volume\np;a.nii;2,0\nq;a.nii;1.0\nr;b.nii;3\n"
    assert [case.volume for case in read_manifest(write(tmp_path, text))] == [2, 1, 3]
    assert "volume '1,5' is not a whole" in problems(
        write(tmp_path, "case_id;image;volume\np;a.nii;1,5\n")
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    with pytest.raises(ManifestError):
        read_manifest(path)


@pytest.mark.parametrize("name", ["dice", "status", "nsd_2mm", "qc_flags"])
def test_a_column_of_the_report_is_refused_with_its_number_and_a_way_out(tmp_path, name) -> None:
    said = problems(write(tmp_path, f"case_id,image,site,{name}\nx,a.nii,1,2\n"))
    assert f"m.csv line 1: column 4, '{name}', has the name of a column of report.csv" in said
    assert f"rename it, for example to {name}_given" in said


def test_the_guide_names_every_known_column_with_its_meaning() -> None:
    guide = (Path(__file__).parents[2] / "manifests/README.md").read_text()
    rows = [line.split(" | ") for line in guide.splitlines() if line.startswith("| `")]
    meanings = {row[0].strip("| `"): row[-1].removesuffix(" |") for row in rows}
    assert {name: column.meaning for name, column in KNOWN.items()}.items() <= meanings.items()
    assert meanings.keys() == {"case_id", "image", "image_<channel>", *KNOWN}


def test_ids_that_are_one_file_on_some_disks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    manifest = tmp_path / "m.csv"
    manifest.write_text("case_id,image\nA01,a.nii\na01,a.nii\nAUX,a.nii\nb.,a.nii\n")
    with pytest.raises(ManifestError) as refused:
        read_manifest(manifest)
    assert [problem.split(": ")[1][:20] for problem in refused.value.problems] == [
        "case_id 'a01' is alr",
        "case_id 'AUX' is a d",
        "case_id 'b.' ends in",
    ]
