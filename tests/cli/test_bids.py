"""`voxtile bids`, as a BIDS App is called."""

from pathlib import Path

import pytest
from bundles import write_bundle
from commands import invoke
from phantoms import ball

from voxtile.cli.bids import with_commas
from voxtile.writing.nifti import write_volume


def test_participants_then_the_group(tmp_path: Path, network: bytes) -> None:
    model = write_bundle(tmp_path / "model", network)
    for name in ("01", "02", "03"):
        write_volume(tmp_path / f"bids/sub-{name}/anat/sub-{name}_T1w.nii.gz", ball()[0])
    (tmp_path / "bids/sub-02/anat/sub-02_T1w.nii.gz").write_bytes(b"")
    words = (tmp_path / "bids", tmp_path / "out")
    options = ("--model", model, "--participant-label")
    assert invoke("bids", *words, "participant", *options, "01", "03")[0] == 0
    mask = tmp_path / "out/sub-01/anat/sub-01_desc-threshold_dseg.nii.gz"
    assert mask.is_file()
    code, said = invoke("bids", *words, "participant", *options, "sub-02")
    assert (code, "empty_file" in said) == (3, True)
    code, said = invoke("bids", *words, "group", "--model", model)
    scores = tmp_path / "out/desc-threshold_scores.tsv"
    assert (code, said) == (0, f"scores of 3 scans: {scores}\n")
    lines = scores.read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        "participant_id",
        "sub-01",
        "sub-02",
        "sub-03",
    ]
    code, said = invoke("bids", *words, "participant", *options, "04")
    assert (code, "no participant '04'; it has 01, 02, 03" in said) == (4, True)


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        ("b o participant --participant-label 01 sub-02 --model m", "01,sub-02"),
        ("b o participant --participant-label 01,02 03 -h", "01,02,03"),
        ("b o participant --model m --session-label pre post", "pre,post"),
        ("--participant-label 01 b o participant --model m", "01"),
        ("b o --run-label 1 participant --model m", "1"),
    ],
)
def test_blanks_in_a_list_are_commas_after_the_level(words: str, joined: str) -> None:
    args = with_commas(words.split())
    (place,) = (place for place, word in enumerate(args) if word.endswith("-label"))
    assert args[place + 1] == joined
    assert " ".join(args).replace(",", " ") == words.replace(",", " ")
