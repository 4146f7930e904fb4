"""A case id names files, so it must be a name that any file system takes."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from voxtile.case import Case


@given(st.from_regex(r"[A-Za-z0-9._-]{1,100}", fullmatch=True))
def test_an_id_names_a_file_in_its_folder(case_id: str) -> None:
    try:
        Case(case_id, (("image", Path("a")),))
    except ValueError:
        assert not case_id.strip(".")
        return
    assert (Path("/out/masks") / f"{case_id}.nii.gz").parent == Path("/out/masks")
