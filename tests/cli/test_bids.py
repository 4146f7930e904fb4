"""`voxtile bids`, as a BIDS App is called."""

from pathlib import Path

from bundles import write_bundle
from commands import invoke
from phantoms import ball

from voxtile.writing.nifti import write_volume


def test_participants_then_the_group(tmp_path: Path, network: bytes) -> None:
    model = write_bundle(tmp_path / "model", network)
    for name in ("01", "02"):
        write_volume(tmp_path / f"bids/sub-{name}/anat/sub-{name}_T1w.nii.gz", ball()[0])
    (tmp_path / "bids/sub-02/anat/sub-02_T1w.nii.gz").write_bytes(b"")
    words = (tmp_path / "bids", tmp_path / "out")
    options = ("--model", model, "--participant-label")
    assert invoke("bids", *words, "participant", *options, "01")[0] == 0
    mask = tmp_path / "out/sub-01/anat/sub-01_desc-threshold_dseg.nii.gz"
    assert mask.is_file()
    code, said = invoke("bids", *words, "participant", *options, "sub-02")
    assert (code, "empty_file" in said) == (3, True)
    code, said = invoke("bids", *words, "group", "--model", model)
    scores = tmp_path / "out/desc-threshold_scores.tsv"
    assert (code, said) == (0, f"scores of 2 scans: {scores}\n")
    lines = scores.read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["participant_id", "sub-01", "sub-02"]
    code, said = invoke("bids", *words, "participant", *options, "03")
    assert (code, "no participant '03'; it has 01, 02" in said) == (4, True)
