"""Cells that look like formulas are defused, and read back as they were."""

import csv
from io import StringIO

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.machine.spreadsheet import escaped, unescaped
from voxtile.manifest.table import Table
from voxtile.report.tables import csv_text

SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b"
cells = st.one_of(
    st.text(),
    st.builds(
        "{}{}{}".format,
        st.text(alphabet="' \t\r\n\u00a0\u3000\u200b\ufeff", max_size=3),
        st.sampled_from(SIGNS),
        st.text(max_size=5),
    ),
)


@given(cells)
def test_a_cell_is_read_back_as_it_was(cell: str) -> None:
    assert unescaped(escaped(cell)) == cell


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("blank", ["", " ", "\t", "\r", "\n", "\u00a0", "\u3000", "\ufeff"])
def test_a_formula_never_begins_a_cell(sign: str, blank: str) -> None:
    assert escaped(f"{blank}{sign}1+cmd|x") == f"'{blank}{sign}1+cmd|x"


@pytest.mark.parametrize("cell", ["-5", "+0.25", "-1e-07", "-.5", "a=b", "'quoted'", "", " a", "5"])
def test_numbers_and_other_words_stay(cell: str) -> None:
    assert escaped(cell) == cell


@given(
    st.lists(cells, min_size=1),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
)
def test_tables_are_read_back_to_the_last_bit(words: list[str], numbers: list[float]) -> None:
    count = min(len(words), len(numbers))
    frame = pd.DataFrame({"word": words[:count], "number": numbers[:count]})
    for text in (
        csv_text(frame),
        Table(("word", "number"), tuple(zip(words, map(repr, numbers), strict=False))).csv(),
    ):
        _, *rows = csv.reader(StringIO(text, newline=""))
        assert [unescaped(word) for word, _ in rows] == words[:count]
        assert [float(number) for _, number in rows] == numbers[:count]
