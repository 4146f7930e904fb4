"""A case id names files, so it must be a name that any file system takes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.case import Case, id_problem


@given(st.from_regex(r"[A-Za-z0-9._-]{1,100}", fullmatch=True))
def test_an_id_names_a_file_in_its_folder(case_id: str) -> None:
    try:
        Case(case_id, (("image", Path("a")),))
    except ValueError:
        device = case_id.split(".")[0].lower().rstrip("0123456789")
        assert case_id.endswith(".") or device in ("con", "prn", "aux", "nul", "com", "lpt")
        return
    assert (Path("/out/masks") / f"{case_id}.nii.gz").parent == Path("/out/masks")


@pytest.mark.parametrize("name", ["aux", "CON", "nul.nii", "Com1", "LPT9.a.b", "c1.", "c1.."])
def test_a_name_that_windows_cannot_have_is_refused(name: str) -> None:
    problem = id_problem(name)
    assert problem is not None
    assert "Windows" in problem


@pytest.mark.parametrize("name", ["auxiliary", "con_1", "com", "com10", "a.con", "_aux", ".c1"])
def test_a_name_like_a_device_is_not_refused(name: str) -> None:
    assert id_problem(name) is None


@pytest.mark.parametrize("name", ["caf\u00e9", "cafe\u0301", "c1 ", "c\u0661"])
def test_a_name_that_disks_spell_in_two_ways_is_refused(name: str) -> None:
    assert "only letters, digits" in (id_problem(name) or "")
