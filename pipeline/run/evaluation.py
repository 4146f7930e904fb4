"""Score finished masks, from any tool, against the references of a manifest."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from secrets import token_hex

from voxtile.case import Case
from voxtile.errors import CaseError, EnvironmentFault, ManifestError, Notice, counted
from voxtile.label_values import MOST_LABELS, label_values
from voxtile.machine.files import write_text
from voxtile.manifest.rows import read_manifest
from voxtile.models.spec import Label
from voxtile.reading.formats import SUFFIXES, find_volume
from voxtile.reading.reference import integral, on_grid_of, read_label_map
from voxtile.report.qc import inspect_case
from voxtile.report.summary_columns import check_columns
from voxtile.report.tables import write_reports
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.facts import KEY, NUMBER, new_facts, next_number, refuse_run, write_facts
from voxtile.run_folder.fingerprint import InputWatch, case_fingerprint, content_hash
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.lock import locked
from voxtile.run_folder.protection import (
    Input,
    inputs_of,
    protect,
    refuse_foreign,
    refuse_tables,
    refuse_unnamed,
)
from voxtile.scoring.overlap import plain_labels
from voxtile.scoring.rows import label_rows
from voxtile.scoring.score import Measures
from voxtile.volume import Volume

from .attempt import Result, attempt
from .journal import Journal


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """A prediction and its reference on one grid."""

    prediction: Volume
    reference: Volume | None
    notices: tuple[Notice, ...]


def evaluate(
    manifest: str | Path,
    predictions: str | Path,
    out: str | Path,
    *,
    root: str | Path | None = None,
    labels: Sequence[Label] | None = None,
    measures: Measures | None = None,
    by: Sequence[str] = (),
    unlabelled: Sequence[int] = (),
    on_case: Callable[[CaseReport, int, int], None] | None = None,
) -> tuple[CaseReport, ...]:
    """Score existing masks, and write the same report as a run.

    Parameters
    ----------
    manifest : str or Path
        Its column `label` names the references; images need not exist.
    predictions : str or Path
        Folder with ``<case_id>.nii.gz`` or ``<case_id>.nii``.
    out : str or Path
        Run folder. An earlier evaluation in it is replaced.
    root : str or Path, optional
        Folder that the manifest's relative paths start from.
    labels : sequence of Label, optional
        The labels to score; a warning names other values. By default, all values.
    measures : Measures, optional
        What to measure in addition, and which value of the references is ignored.
    by : sequence of str
        Columns of the manifest to summarise by.
    unlabelled : sequence of int
        Values that count as background, without a warning.
    on_case : callable, optional
        Called with each report, its number from 1, and the number of all cases.

    Returns
    -------
    tuple of CaseReport
        In the manifest's order. A missing prediction is a failed case.

    Raises
    ------
    ManifestError
        If the manifest has problems, there is no label or more than 1000, an input
        would be lost, or `out` has files that no evaluation wrote; nothing was written.
    EnvironmentFault
        If a run holds the folder, or it cannot be written.
    """
    run_folder, folder, measures = RunFolder(Path(out)), Path(predictions), measures or Measures()
    cases = read_manifest(manifest, root=root, need_images=False)
    check_columns(by, cases)
    _protect_inputs(Path(manifest), cases, folder, run_folder)
    ids = [case.case_id for case in cases]
    with locked(run_folder.path):
        _refuse_others(run_folder, ids)
        if labels is None:
            labels = _labels_of_cohort(cases, folder, measures.ignore)
        _refuse_labels(labels, measures.ignore)
        settings = _write_facts(run_folder, Path(manifest), ids, labels, measures)
        reports = []
        for case in cases:
            work = partial(_evaluate_case, case, folder, labels, measures, unlabelled)
            found = attempt(case, labels, work, measures=measures)
            reports.append(replace(found, settings_sha256=settings))
            write_text(run_folder.record(case.case_id), reports[-1].dump())
            if on_case is not None:
                on_case(reports[-1], len(reports), len(cases))
        write_reports(run_folder.path, reports, by)
    return tuple(reports)


def _refuse_others(folder: RunFolder, ids: Sequence[str]) -> None:
    """Refuse the folder of a run, and files that no evaluation of these cases wrote."""
    refuse_run(folder)
    refuse_unnamed(folder, ids, lambda case_id: [folder.record(case_id)])
    refuse_tables(folder)


def _write_facts(
    folder: RunFolder,
    manifest: Path,
    ids: Sequence[str],
    labels: Sequence[Label],
    measures: Measures,
) -> str:
    """Write ``run.json``; return the hash that the records of this evaluation hold."""
    # Random, so that no record of an earlier evaluation counts for this evaluation.
    settings = token_hex(32)
    facts = {
        **new_facts(manifest, content_hash(manifest), len(ids)),
        "labels": [label.model_dump(mode="json") for label in labels],
        "measures": measures.facts(),
        "case_ids": list(ids),
        KEY: settings,
        NUMBER: next_number(folder),
    }
    write_facts(folder, facts)
    return settings


def _protect_inputs(
    manifest: Path, cases: Sequence[Case], folder: Path, run_folder: RunFolder
) -> None:
    """Refuse missing predictions, and a folder that no evaluation wrote or that has an input."""
    if not folder.is_dir():
        raise ManifestError(f"predictions folder {folder} does not exist; check the path")
    refuse_run(run_folder)
    inputs = [Input("the manifest", manifest), *inputs_of(cases)]
    inputs.append(Input("the predictions folder", folder, whole=False))
    for case in cases:
        path = find_volume(folder, case.case_id)
        if path is not None:
            inputs.append(Input(f"case {case.case_id}: prediction", path))
    protect(inputs, run_folder.path)
    refuse_foreign(run_folder)


def _evaluate_case(
    case: Case,
    folder: Path,
    labels: Sequence[Label],
    measures: Measures,
    unlabelled: Sequence[int],
    journal: Journal,
) -> Result:
    """Score the prediction of one case."""
    with journal.stage("fingerprint"):
        path = _prediction_path(case, folder)
        watch = InputWatch.of({"prediction": path, "label": case.label})
        scored = content_hash(path)
        settings = {
            "prediction": scored,
            "labels": [label.model_dump(mode="json") for label in labels],
            "measures": measures.facts(),
        }
        fingerprint = case_fingerprint(case, settings, images=False)
    with journal.stage("read"):
        pair = _read_pair(case, path, labels)
        watch.check()
        journal.note(pair.notices)
        known = {0, *unlabelled, *(value for label in labels for value in label.values)}
        journal.note(_not_scored(pair, known, measures.ignore))
    with journal.stage("score"):
        rows = label_rows(pair.prediction, pair.reference, labels, measures)
        qc = inspect_case(pair.prediction, labels, rows)
    # Set only now, because a failed case of an evaluation has no fingerprint.
    journal.fingerprint = fingerprint
    grid = pair.prediction
    geometry = {
        "shape": list(grid.shape),
        "spacing_mm": list(grid.spacing_mm),
        "orientation": grid.orientation,
        "affine": grid.affine.tolist(),
    }
    return Result(rows, geometry, {"file": path.name, "sha256": scored}, qc)


def _prediction_path(case: Case, folder: Path) -> Path:
    """Return the prediction of a case."""
    path = find_volume(folder, case.case_id)
    if path is None:
        raise CaseError(
            "no_prediction",
            f"there is no {case.case_id}.nii.gz among the predictions (nor with another suffix: "
            f"{', '.join(SUFFIXES[1:])})",
        )
    return path


def _read_pair(case: Case, path: Path, labels: Sequence[Label]) -> _Pair:
    """Read a prediction and its reference, on the grid of the reference."""
    scan = read_label_map(path, "prediction", labels=labels)
    array, notices = integral(scan.volume.array, "prediction")
    prediction = scan.volume.with_array(array)
    notices = (*scan.notices, *notices)
    if case.label is None:
        return _Pair(prediction, None, notices)
    reference_scan = read_label_map(case.label, "label", labels=labels, pixel_mm=case.pixel_mm)
    array, more = integral(reference_scan.volume.array, "label")
    reference = reference_scan.volume.with_array(array)
    placed, moved = on_grid_of(prediction, reference, "prediction")
    return _Pair(placed, reference, (*notices, *reference_scan.notices, *more, *moved))


def _not_scored(pair: _Pair, scored: Collection[int], ignore: int | None) -> list[Notice]:
    """Return a warning for each mask with values that are not scored."""
    known = slice(None)
    if pair.reference is not None and ignore is not None:
        known = pair.reference.array != ignore
    notices = []
    masks: Mapping[str, Volume | None] = {
        "prediction": pair.prediction,
        "reference": pair.reference,
    }
    for what, mask in masks.items():
        others = (
            [] if mask is None else sorted(set(label_values(mask.array[known])).difference(scored))
        )
        if others:
            shown = ", ".join(map(str, others[:10])) + (", ..." if len(others) > 10 else "")
            notices.append(
                Notice(
                    "values_not_scored",
                    f"values {shown} of the {what} are not among the labels to score",
                )
            )
    return notices


def _labels_of_cohort(cases: Sequence[Case], folder: Path, ignore: int | None) -> tuple[Label, ...]:
    """Return a label for each value of any readable mask; ManifestError if there is no value.

    References count even if their prediction is missing: the case fails, with a row for each of its
    labels. ManifestError also if there are too many values.
    """
    values: set[int] = set()
    found = 0
    for case in cases:
        try:
            prediction = _prediction_path(case, folder)
        except CaseError:
            prediction = None
        found += prediction is not None
        for path, what in ((prediction, "prediction"), (case.label, "label")):
            if path is None:
                continue
            try:
                values.update(_values_in(case, path, what, ignore))
            except EnvironmentFault:
                raise
            except Exception:
                continue  # the report of the case says why
            if len(values - {0}) > MOST_LABELS:
                name = "prediction" if what == "prediction" else "reference"
                came = (
                    f"with the {name} of {case.case_id}, the masks have {len(values - {0})} values"
                )
                raise ManifestError(_too_many(came))
    if values <= {0}:
        raise ManifestError(_nothing_to_score(cases, folder, found))
    return plain_labels({value: f"label {value}" for value in sorted(values - {0})})


def _values_in(case: Case, path: Path, what: str, ignore: int | None) -> set[int]:
    """Return the values of a mask, outside the voxels that are ignored."""
    if ignore is not None and what == "prediction" and case.label is not None:
        pair = _read_pair(case, path, ())
        if pair.reference is not None:
            return set(label_values(pair.prediction.array[pair.reference.array != ignore]))
    array, _ = integral(read_label_map(path, what).volume.array, what)
    return {value for value in label_values(array) if what == "prediction" or value != ignore}


def _refuse_labels(labels: Sequence[Label], ignore: int | None) -> None:
    """Refuse labels if there are too many or one is ignored."""
    for label in labels:
        if ignore in label.values:
            raise ManifestError(
                f"label {label.value} ({label.name}) has the value {ignore}, which --ignore leaves "
                "out of the scores; leave out one of them"
            )
    if len(labels) > MOST_LABELS:
        raise ManifestError(_too_many(f"--labels names {len(labels)} values"))


def _too_many(came: str) -> str:
    """Return why so many labels are not scored, and what to do."""
    return (
        f"{came} other than 0, but at most {MOST_LABELS} labels can be scored; check that every "
        "mask is a label map and not a scan, or name the labels to score with --labels"
    )


def _nothing_to_score(cases: Sequence[Case], folder: Path, found: int) -> str:
    """Return why no mask of a cohort has a label, and what to do."""
    if found:
        return (
            f"no value other than 0 was found in the {counted(found, 'prediction')} of {folder} "
            "and in the references; name the labels to score with --labels"
        )
    wanted = ", ".join(f"{case.case_id}.nii.gz" for case in cases[:3])
    more = ", ..." if len(cases) > 3 else ""
    return (
        f"{folder} has no prediction of any case (looked for {wanted}{more}, or another suffix), "
        "and no reference says what to score; name the predictions like the cases"
    )
