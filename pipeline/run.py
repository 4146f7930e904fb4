"""The whole line, for one case and for a manifest. The only file that knows all stages."""

import os
import platform
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from voxtile.models.bundle import Bundle, load_bundle

from . import __version__
from .case import Case, Split, read_manifest
from .confidence import EntropyWatch
from .engine import Model, engine_facts, load_models
from .errors import CaseError, EnvironmentFault, ManifestError
from .files import write_json, write_text
from .fingerprint import case_fingerprint, content_hash
from .inference import Watch, infer
from .journal import Journal, peak_memory_mb
from .montage import montage, write_montage
from .nifti import write_mask
from .plan import Plan, make_plan
from .qc import inspect_case
from .reading import read_channels
from .reference import read_reference
from .report import (
    COLUMNS,
    CaseReport,
    check_columns,
    failed_report,
    label_rows,
    write_reports,
)
from .scan import Notice, ReadPolicy
from .scoring import Measures
from .verification import check_written
from .volume import Volume

_PACKAGES = ("numpy", "scipy", "nibabel", "pydicom", "highdicom", "isal", "keras", "tensorflow")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run treats its cases.

    Parameters
    ----------
    policy : ReadPolicy
        What to do where a scan leaves a choice.
    label_map : mapping of int to int
        Reference values to rename.
    ignore_bad_labels : bool
        Whether a bad reference costs only the scores, not the case.
    tile, overlap, batch
        As in `voxtile.plan.make_plan`; None means the spec's.
    splits : tuple of str
        Run only cases of these splits; empty means all.
    measures : Measures
        What to measure beside the metrics that always are.
    by : tuple of str
        Columns of the manifest to summarise by.
    montages : bool
        Whether to draw a picture of each case into ``qc/``.
    """

    policy: ReadPolicy = field(default_factory=ReadPolicy)
    label_map: Mapping[int, int] = field(default_factory=dict)
    ignore_bad_labels: bool = False
    tile: tuple[int, int] | None = None
    overlap: float | None = None
    batch: int | None = None
    splits: tuple[Split, ...] = ()
    measures: Measures = field(default_factory=Measures)
    by: tuple[str, ...] = ()
    montages: bool = True


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A bundle that is ready to run: its networks loaded for one plan."""

    bundle: Bundle
    models: tuple[Model, ...]
    plan: Plan

    def __call__(self, volume: Volume, watch: Watch = iter) -> Volume:
        """Return the label map of a volume."""
        return infer(volume, self.bundle.spec, self.models, self.plan, watch)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to.

    Parameters
    ----------
    out : Path
        The run folder.
    reports : tuple of CaseReport
        In the manifest's order.
    """

    out: Path
    reports: tuple[CaseReport, ...]

    @property
    def failed(self) -> tuple[CaseReport, ...]:
        """Cases that failed."""
        return tuple(report for report in self.reports if report.status == "failed")


def run_manifest(
    manifest: str | Path,
    model: str | Path | Bundle,
    out: str | Path,
    *,
    root: str | Path | None = None,
    settings: RunSettings | None = None,
    models: Sequence[Model] | None = None,
    on_case: Callable[[CaseReport, int, int], None] | None = None,
) -> RunResult:
    """Segment and score every case of a manifest.

    Parameters
    ----------
    manifest : str or Path
    model : str, Path or Bundle
        Name of a shipped bundle, folder of another, or a loaded one.
    out : str or Path
        Run folder; made where it is missing.
    root : str or Path, optional
        Where the manifest's relative paths begin.
    settings : RunSettings, optional
    models : sequence of callables, optional
        To run instead of the bundle's networks, one for each.
    on_case : callable, optional
        Called with each finished report, its number from 1, and how many
        there will be.

    Returns
    -------
    RunResult
        A case that fails is a report with a reason; it never stops the rest.

    Raises
    ------
    ManifestError
        If the manifest has problems; nothing was run.
    ModelError
        If the bundle is refused; nothing was run.
    EnvironmentFault
        If results cannot be written.
    """
    settings = settings or RunSettings()
    out = Path(out)
    cases = read_manifest(manifest, root=root, reserved=(*COLUMNS, *settings.measures.columns))
    check_columns(settings.by, cases)
    if settings.splits:
        cases = tuple(case for case in cases if case.split in settings.splits)
        if not cases:
            raise ManifestError([f"{manifest} has no case of split {', '.join(settings.splits)}"])
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    plan = make_plan(
        bundle.spec, tile=settings.tile, overlap=settings.overlap, batch=settings.batch
    )
    engine = {"engine": "callable"} if models is not None else engine_facts()
    segmenter = Segmenter(
        bundle, tuple(load_models(bundle, plan) if models is None else models), plan
    )
    facts: dict[str, Any] = {
        "voxtile": __version__,
        "started": _now(),
        "manifest": {"file": Path(manifest).name, "sha256": content_hash(Path(manifest))},
        "cases": len(cases),
        "model": {"name": bundle.spec.name, "sha256": bundle.sha256},
        "plan": asdict(plan),
        "engine": engine,
        "settings": _decisive(settings),
        "labels": [label.model_dump(mode="json") for label in bundle.spec.labels],
        "versions": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }
    write_json(out / "run.json", facts)
    reports: list[CaseReport] = []
    try:
        for number, case in enumerate(cases, start=1):
            report = _attempt(case, segmenter, out, settings, engine)
            write_text(out / "cases" / f"{case.case_id}.json", report.dump())
            reports.append(report)
            if on_case is not None:
                on_case(report, number, len(cases))
    finally:
        write_reports(out, reports, settings.by)
    failed = sum(report.status == "failed" for report in reports)
    counts = {"done": len(reports) - failed, "failed": failed}
    write_json(out / "run.json", {**facts, "finished": _now(), **counts})
    return RunResult(out, tuple(reports))


def run_case(
    case: Case, segmenter: Segmenter, out: Path, settings: RunSettings, journal: Journal
) -> CaseReport:
    """Read a scan, segment it, write the mask on the scan's own grid, and score it.

    Raises
    ------
    CaseError
        With the reason why the case cannot be done.
    """
    spec = segmenter.bundle.spec
    with journal.stage("read"):
        scan = read_channels(case, spec.channels, settings.policy)
        journal.note(scan.notices)
    with journal.stage("read_label"):
        # Before the network runs: a label that cannot be scored is known in a second.
        reference = _reference(case, scan.volume, segmenter, settings, journal)
    entropy = EntropyWatch(spec.activation)
    with journal.stage("infer"):
        mask = segmenter(scan.volume, entropy)
    path = out / "masks" / f"{case.case_id}.nii.gz"
    with journal.stage("write"):
        write_mask(path, mask)
    with journal.stage("verify"):
        geometry = check_written(path, mask)
    with journal.stage("score"):
        rows = label_rows(mask, reference, spec.labels, settings.measures)
    with journal.stage("qc"):
        qc = inspect_case(
            mask, spec.labels, rows, image=scan.volume, spec=spec, entropy=entropy.mean
        )
        if settings.montages:
            picture = montage(scan.volume, mask, spec.labels, reference=reference)
            write_montage(out / "qc" / f"{case.case_id}.png", picture)
    return CaseReport(
        case_id=case.case_id,
        status="done",
        reason=None,
        warnings=tuple(journal.notices),
        fingerprint="",
        labels=rows,
        geometry=geometry,
        mask={"file": f"masks/{path.name}", "sha256": content_hash(path)},
        timings_s=dict(journal.seconds),
        seconds=journal.total_seconds,
        peak_memory_mb=peak_memory_mb(),
        split=case.split,
        group=case.group,
        extras=dict(case.extras),
        qc=qc,
    )


def _reference(
    case: Case, image: Volume, segmenter: Segmenter, settings: RunSettings, journal: Journal
) -> Volume | None:
    """Return the reference of a case on the scan's grid, or None where there is none to use."""
    if case.label is None:
        return None
    try:
        mask, notices = read_reference(
            case.label, image, segmenter.bundle.spec.labels, settings.label_map
        )
    except CaseError as error:
        if not settings.ignore_bad_labels:
            raise
        journal.note([Notice(error.code, f"{error.sentence}; scored without it, as told")])
        return None
    journal.note(notices)
    return mask


def _attempt(
    case: Case,
    segmenter: Segmenter,
    out: Path,
    settings: RunSettings,
    engine: Mapping[str, str],
) -> CaseReport:
    """Return the report of a case, whatever happens to it."""
    journal = Journal()
    fingerprint = ""
    try:
        with journal.stage("fingerprint"):
            fingerprint = case_fingerprint(
                case,
                {
                    "model": segmenter.bundle.sha256,
                    "plan": segmenter.plan.decisive(),
                    "engine": dict(engine),
                    "settings": _decisive(settings),
                },
            )
        report = run_case(case, segmenter, out, settings, journal)
        return replace(report, fingerprint=fingerprint)
    except EnvironmentFault:
        raise
    except CaseError as error:
        reason = Notice(error.code, error.sentence)
    except MemoryError:
        reason = Notice(
            "out_of_memory",
            f"memory ran out in stage {journal.stage_name}; use a smaller --batch, or more memory",
        )
    except Exception as error:
        # Only its type and place: a foreign message may quote patient text.
        reason = Notice(
            "unexpected",
            f"{type(error).__name__} in stage {journal.stage_name} ({_place(error)}); "
            "this is a bug of voxtile: please report it with this line",
        )
    (out / "masks" / f"{case.case_id}.nii.gz").unlink(missing_ok=True)
    return failed_report(
        case,
        segmenter.bundle.spec.labels,
        reason,
        measures=settings.measures,
        warnings=journal.notices,
        fingerprint=fingerprint,
        timings_s=dict(journal.seconds),
        seconds=journal.total_seconds,
        peak_memory_mb=peak_memory_mb(),
    )


def _place(error: BaseException) -> str:
    """Return the file and line where an exception was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else "unknown"


def _decisive(settings: RunSettings) -> dict[str, Any]:
    """Return the settings that change a result; tile and overlap are in the plan."""
    return {
        "policy": asdict(settings.policy),
        "label_map": {str(key): value for key, value in sorted(settings.label_map.items())},
        "ignore_bad_labels": settings.ignore_bad_labels,
        "measures": asdict(settings.measures),
    }


def _now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
