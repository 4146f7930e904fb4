"""The methods text: true to what ran, in three forms."""

import re
from dataclasses import replace
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import Notice
from voxtile.report.methods import methods_bibtex, methods_markdown, methods_text
from voxtile.run_folder.case_report import CaseReport, failed_report
from voxtile.scoring.overlap import plain_labels
from voxtile.scoring.rows import LabelRow

DATA = "@misc{simpson2019,\n  title = {A large data set}\n}"
RUN = {
    "voxtile": "9.9",
    "case_ids": ["a", "b", "f", "later"],
    "model": {"name": "net", "sha256": "ab" * 32, "citations": [DATA]},
    "engine": {"engine": "onnx", "precision": "float32"},
}


def done(case_id: str, status: str, **metrics) -> CaseReport:
    case = Case(case_id, (("image", Path()),))
    return CaseReport.of(case, (LabelRow(1, "one", status, **metrics),))


FAILED = failed_report(
    Case("f", (("image", Path()),)), plain_labels({1: "one"}), Notice("empty_file", "x")
)
SCORED = [done("a", "ok", dice=0.9, nsd={"nsd_2mm": 1.0}), done("b", "both_empty"), FAILED]


def test_a_run_says_model_failures_references_and_dice() -> None:
    text = methods_text(RUN, SCORED)
    for part in (
        "2 of 4 scans were segmented with voxtile 9.9 (voxtile) and its model net (SHA-256 "
        "abababababab) (simpson2019), run with onnx in float32.",
        "1 case failed (1 empty_file). 1 case had no result.",
        "2 of 2 masks needed no look and 0 did",
        "2 masks were compared with references by the Dice coefficient (dice1945)",
        "The surface Dice (nikolov2021) counts surface voxels within 2 mm.",
        "1 label of a case was empty in at least one mask",
        "(efron1993)): one 0.900, n = 1.",
    ):
        assert part in text


def test_nothing_is_said_about_what_did_not_happen() -> None:
    text = methods_text(RUN, [replace(done("a", "no_reference"), qc={"flags": []})])
    assert not re.search(r"reference by|Dice coefficient|failed|jackknife|surface", text)
    calibrated = {**RUN, "model": {**RUN["model"], "quality": "0" * 64}}
    assert "jackknife+ (barber2021)" in methods_text(calibrated, SCORED)
    assert "it did not make them" in methods_text({"voxtile": "9.9"}, SCORED)


def test_every_citation_has_its_bibtex_and_no_other_entry_is_given() -> None:
    cited = set(re.findall(r"\[@([\w-]+)\]", methods_markdown(RUN, SCORED)))
    given = set(re.findall(r"@\w+\{([\w-]+),", methods_bibtex(RUN, SCORED)))
    assert cited == given
    assert {"voxtile", "simpson2019", "dice1945", "efron1993"} <= given
    assert methods_markdown(RUN, SCORED).startswith("## Methods\n\n2 of 4 scans")
