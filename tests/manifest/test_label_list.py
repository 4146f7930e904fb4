"""Lists of labels that people write."""

from pathlib import Path

import pytest

from voxtile.errors import ManifestError
from voxtile.manifest.label_list import read_labels


def test_labels_are_read_from_csv_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("value,name,color\n2,liver,#123456\n3,spleen,\n")
    assert [(x.value, x.name) for x in read_labels(path)] == [(2, "liver"), (3, "spleen")]
    assert read_labels(path)[0].color == "#123456"
    path.write_text("number,name\n2,liver\n")
    with pytest.raises(ManifestError, match="is not a list of labels"):
        read_labels(path)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_labels(tmp_path / "none.json")


def test_a_colour_is_checked_before_anything_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("value,name,color\n2,liver,#FF00aB\n")
    assert read_labels(path)[0].color == "#ff00ab"
    path.write_text("value,name,color\n2,liver,#123456\n3,spleen,red\n")
    said = r"l\.csv: label 3 \(spleen\) has color 'red', but #rrggbb is needed; write one such as #"
    with pytest.raises(ManifestError, match=said):
        read_labels(path)


def test_codes_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(
        "value,name,concept,modifier\n1,head,SCT:5366008:Hippocampus,SCT:255549009:Anterior\n2,b,,\n"
    )
    head, other = read_labels(path)
    assert (head.concept.value, head.modifier.meaning) == ("5366008", "Anterior")
    assert (other.concept, other.modifier) == (None, None)
    path.write_text("value,name,concept\n1,head,5366008\n")
    with pytest.raises(ManifestError, match=r"has concept '5366008', but scheme:code:meaning"):
        read_labels(path)
