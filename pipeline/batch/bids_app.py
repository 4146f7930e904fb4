"""A BIDS App: the masks and scores of a BIDS data set, as a derivative of it.

    OUT/dataset_description.json, desc-<model>_dseg.tsv     what the masks are
    OUT/sub-01/anat/sub-01_desc-<model>_dseg.nii.gz         a mask
    OUT/sub-01/sub-01_desc-<model>_scores.tsv               its participant's scans and labels
    OUT/desc-<model>_scores.tsv                             those of all participants
    OUT/voxtile/<model>/sub-01/                             the run folder of a participant
    OUT/voxtile/<model>/report.csv, summary.*               tables of all participants

Each participant has a run folder of its own, so that several processes or jobs may work on
participants of one data set at the same time; the level `group` comes after them (Gorgolewski et
al. 2017, "BIDS apps", PLOS Computational Biology 13(3), "Design and implementation").
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from voxtile.errors import CaseError, ManifestError, UsageError
from voxtile.export.bids import bids_entities, bids_label, write_derivative
from voxtile.export.finished import finished_cases, read_finished_mask
from voxtile.machine.files import write_new, write_text
from voxtile.manifest.bids import read_bids, subjects_of
from voxtile.manifest.build_options import BidsChoice
from voxtile.manifest.listing import Listed
from voxtile.manifest.table import table_of
from voxtile.models.bundle import Bundle
from voxtile.report.tables import report_table, tsv_text, write_reports
from voxtile.run.settings import RunSettings
from voxtile.run_folder.case_report import CaseReport, collect
from voxtile.run_folder.facts import read_facts
from voxtile.run_folder.layout import RunFolder

from .drive import run_manifest
from .settings import BatchSettings

_IGNORE = "voxtile/\n*_scores.tsv\n"


def run_participants(
    source: Path,
    model: Bundle,
    out: Path,
    *,
    choice: BidsChoice | None = None,
    settings: RunSettings | None = None,
    batch: BatchSettings | None = None,
    on_case: Callable[[CaseReport, int, int], None] | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> int:
    """Segment and score the images of participants; return how many images have no mask.

    Parameters
    ----------
    source, out : Path
        The data set, and the folder of the derivative, such as ``derivatives/voxtile`` in it.
    choice : BidsChoice, optional
        Which images; all by default.
    on_case, say : callable, optional
        As of `run_manifest`; and called with notes, and with the problems of a participant, which
        cost only this participant.

    Raises
    ------
    ManifestError
        If no participant has an image that can be used.
    UsageError
        If `out` is the data set itself, or a data set of another program.
    """
    _refuse_foreign(source, out)
    choice = choice or BidsChoice()
    names = dict.fromkeys(choice.entities.get("sub", ())) or subjects_of(source)
    lost, problems = 0, []
    for name in names:
        try:
            listed = _listed(source, choice, name, run_folder(out, model.name, name))
        except ManifestError as error:
            problems.append(str(error))
            say(f"left out sub-{name}: {error}")
            continue
        for notice in listed.notices:
            say(f"note: {notice}")
        folder = run_folder(out, model.name, name)
        run_manifest(listed, model, folder, settings=settings, batch=batch, on_case=on_case)
        lost += _publish(folder, out, model.name, f"sub-{name}", say)
    if len(problems) == len(names):
        raise ManifestError(problems)
    return lost + len(problems)


def write_group(out: Path, model: str) -> tuple[Path, int, Mapping[str, str]]:
    """Write the tables of all participants that were run.

    Return the path of the scores, the number of scans in them, and why scans are missing, by case
    id. ManifestError if no participant was run, or two with other models or settings.
    """
    home = run_folder(out, model, "").parent
    reports: list[CaseReport] = []
    missing: dict[str, str] = {}
    first = None
    for folder in map(RunFolder, sorted(home.glob("sub-*"))):
        facts = read_facts(folder.facts(), "run this participant again")
        first = first or facts
        for key in ("voxtile", "model", "settings"):
            if facts.content.get(key) != first.content.get(key):
                raise ManifestError(
                    f"{folder.path} and {first.path.parent} were run with another {key}; run both "
                    "with the same command, into another folder"
                )
        records = collect(folder, facts)
        reports += records.reports
        missing |= records.missing
    if first is None:
        raise ManifestError(f"{home} has no participant; run the level participant first")
    write_reports(home, reports)
    path = out / f"desc-{bids_label(model)}_scores.tsv"
    write_text(path, _scores(reports))
    return path, len(reports), missing


def run_folder(out: Path, model: str, participant: str) -> Path:
    """Return the run folder of a participant."""
    return out / "voxtile" / bids_label(model) / f"sub-{participant}"


def _refuse_foreign(source: Path, out: Path) -> None:
    """Refuse to write among the images, or into the data set of another program."""
    if out.resolve() == source.resolve():
        raise UsageError(
            f"{out} is the data set itself; name another folder, such as {out}/derivatives/voxtile"
        )
    description = out / "dataset_description.json"
    if description.is_file() and b'"voxtile"' not in description.read_bytes():
        raise UsageError(f"{out} is a data set of another program; name a new folder")


def _listed(source: Path, choice: BidsChoice, name: str, folder: Path) -> Listed:
    """Return the cases of a participant."""
    found = read_bids(
        source,
        suffixes=choice.suffixes,
        label_pattern=choice.label_pattern,
        entities={**choice.entities, "sub": (name,)},
    )
    cases = tuple(replace(case, line=line) for line, case in enumerate(found.cases, start=2))
    return Listed(source, "bids", cases, found.notices, table_of(cases, folder).csv())


def _publish(
    folder: Path, out: Path, model: str, participant: str, say: Callable[[str], object]
) -> int:
    """Write the masks and scores of a run folder into the derivative; return how many lack."""
    write_new(out / ".bidsignore", _IGNORE)
    facts = read_facts(RunFolder(folder).facts(), "run this participant again")
    reports = collect(RunFolder(folder), facts).reports
    failed = [report for report in reports if report.status == "failed"]
    lost = len(failed)
    for case in finished_cases(folder) if len(failed) < len(reports) else ():
        try:
            read_finished_mask(case)
            write_derivative(case, out)
        except CaseError as error:
            lost += 1
            say(f"no mask of {case.case_id}: {error.code}: {error.sentence}")
    scores = out / participant / f"{participant}_desc-{bids_label(model)}_scores.tsv"
    write_text(scores, _scores(reports))
    return lost


def _scores(reports: Sequence[CaseReport]) -> str:
    """Return the rows of ``report.csv`` with the participant of each."""
    table = report_table(reports)
    table.insert(0, "participant_id", [bids_entities(name)[0] for name in table["case_id"]])
    return tsv_text(table)
