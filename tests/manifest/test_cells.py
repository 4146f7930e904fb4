"""A manifest's file is read as spreadsheets write it; nothing is guessed without a word."""

import sys
import zipfile
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.errors import ManifestError
from voxtile.manifest.cells import read_cells
from voxtile.manifest.rows import read_manifest

TEXT = "case_id,image,site\np1,a.nii,Zürich\n\np2,b.nii,\n"
ROWS = [["case_id", "image", "site"], ["p1", "a.nii", "Zürich"], ["p2", "b.nii", ""]]


def write(folder: Path, content: bytes, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refused(path: Path) -> str:
    """The one sentence of the refusal."""
    with pytest.raises(ManifestError) as caught:
        read_cells(path)
    (problem,) = caught.value.problems
    return problem


cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8)


@given(
    st.lists(st.tuples(cells, cells), max_size=4),
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_separators_encodings_and_line_ends_do_not_change_cells(
    tmp_path_factory, rows, mark, encoding, end
) -> None:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    table = [("case_id", "image"), *rows]
    text = end.join(mark.join(map(quoted, row)) for row in table)
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    path.write_bytes(text.encode(encoding))
    found = read_cells(path)
    expected = [list(row) for row in table if any(cell.strip() for cell in row)]
    assert [row for _, row in found.rows] == expected
    assert (found.notices, found.problems) == ((), ())


@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.parametrize("before", ["", "sep={mark}\r\n"])
def test_other_separators_are_found_by_the_header(tmp_path: Path, mark, before) -> None:
    text = before.format(mark=mark) + TEXT.replace(",", mark)
    found = read_cells(write(tmp_path, text.encode()))
    assert [row for _, row in found.rows] == ROWS
    first = 2 if before else 1
    assert [line for line, _ in found.rows] == [first, first + 1, first + 3]


def test_a_comma_in_a_cell_is_not_a_separator_if_others_are(tmp_path: Path) -> None:
    content = b"case_id;image;note, or age\np1;a.nii;1,5\n"
    assert read_cells(write(tmp_path, content)).rows[1] == (2, ["p1", "a.nii", "1,5"])


def test_windows_1252_is_read_and_said(tmp_path: Path) -> None:
    found = read_cells(write(tmp_path, TEXT.encode("cp1252")))
    assert [row for _, row in found.rows] == ROWS
    (notice,) = found.notices
    assert notice.code == "manifest_encoding"
    assert "line 2: byte 0xfc is not UTF-8; the file was read as Windows-1252 ('Zürich')" in str(
        notice
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("utf-16")[:-1], "is not a text file"),
        (TEXT.encode("utf-16-le"), "is not a text file"),
        (bytes(range(256)) * 400, "is not a text file; save the table as CSV UTF-8, or as an Exc"),
        (b"PK\x03\x04" + bytes(2000), "is not a text file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "is not a text file"),
        (b"", "is empty"),
        (b"\n\r\n ,\n", "is empty"),
    ],
)
def test_what_is_not_one_table_of_text_is_refused_in_one_sentence(
    tmp_path: Path, content, message
) -> None:
    assert message in refused(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            TEXT.encode() + b"p3,c.nii,Z\xfcrich\n",
            "line 5: byte 0xfc is not UTF-8, but other bytes are",
        ),
        (
            b"\xef\xbb\xbfcase_id,image\nx\xfc,a\n",
            "line 2: byte 0xfc is not UTF-8, but other bytes are",
        ),
        (b"case_id,image\nx\x81,a\n", "byte 0x81 is not UTF-8, nor is it Windows-1252"),
    ],
)
def test_an_encoding_that_cannot_be_guessed_is_a_problem(tmp_path: Path, content, message) -> None:
    (problem,) = read_cells(write(tmp_path, content)).problems
    assert message in problem


def test_a_folder_or_a_scan_is_refused_with_the_command_for_it(tmp_path: Path) -> None:
    assert f"`voxtile manifest build {tmp_path} --out cases.csv`" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / "none.csv")
    assert "is a scan, but" in refused(write(tmp_path, b"\x1f\x8b" + bytes(99), "a.nii.gz"))
    assert "is a scan, but" in refused(write(tmp_path, bytes(128) + b"DICM", "IM1"))


def test_a_workbook_without_openpyxl_names_the_extra(tmp_path: Path, monkeypatch) -> None:
    with zipfile.ZipFile(tmp_path / "m.xlsx", "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    said = refused(tmp_path / "m.xlsx")
    assert 'save the sheet as CSV UTF-8, or install `pip install "voxtile[excel]"`' in said


def workbook(path: Path, *rows, sheets=("cases",)):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = sheets[0]
    for row in rows:
        book.active.append(row)
    for name in sheets[1:]:
        book.create_sheet(name)
    book.save(path)
    return book


def test_a_workbook_is_read_as_excel_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "m.xlsx"
    rows = (
        ["case_id", "image", "volume", "age", "day", "ok", None],
        [],
        [7, "a.nii", 2.0, 1.5, date(2026, 1, 2), True],
        ["p2", "b.nii", None, None, None, None],
    )
    book = workbook(path, *rows, sheets=("cases", "notes"))
    book.active["A3"].number_format = "000"
    book.save(path)
    for name in "ab":
        (tmp_path / f"{name}.nii").touch()
    found = read_cells(path)
    assert found.rows == [
        (1, ["case_id", "image", "volume", "age", "day", "ok"]),
        (3, ["007", "a.nii", "2", "1.5", "2026-01-02T00:00:00", "TRUE"]),
        (4, ["p2", "b.nii", "", "", "", ""]),
    ]
    assert "only the first sheet of the workbook, 'cases', was read; not 'notes'" in str(
        found.notices[0]
    )
    one, _ = read_manifest(path)
    assert (one.case_id, one.volume, one.line) == ("007", 2, 3)


def test_a_formula_without_a_result_is_no_empty_cell(tmp_path: Path) -> None:
    workbook(tmp_path / "m.xlsx", ["case_id", "image", "label"], ["p1", "a.nii", '="a"&".nii"'])
    (tmp_path / "a.nii").touch()
    with pytest.raises(ManifestError, match=r"cell C2: the formula has no stored result"):
        read_manifest(tmp_path / "m.xlsx")


def test_a_damaged_workbook_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")

    with zipfile.ZipFile(tmp_path / "n.xlsx", "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    assert "is a damaged Excel workbook" in refused(tmp_path / "n.xlsx")
