"""The stages of one case, from a row of a manifest to its report.

The only file that knows all of them. What happens to many cases is the
business of `voxtile.batch`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from voxtile.case import Case, Split
from voxtile.engines import Engine, Model, Wish
from voxtile.errors import CaseError, EnvironmentFault, Notice, place_of
from voxtile.export import (
    Finished,
    check_formats,
    export_case,
    forget_exports,
    keeping_probabilities,
)
from voxtile.inference.entropy import EntropyWatch
from voxtile.inference.segmenter import Segmenter, load_segmenter
from voxtile.machine.files import remove
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Label
from voxtile.preparation.plan import Plan, PlanWish
from voxtile.reading.channels import policy_of, read_channels, scan_paths
from voxtile.reading.nifti import channel_paths, write_channels, write_mask
from voxtile.reading.reference import read_reference
from voxtile.reading.scan import ReadPolicy
from voxtile.report.montage import montage, write_montage
from voxtile.report.qc import inspect_case
from voxtile.run_folder.case_report import CaseReport, failed_report, label_rows
from voxtile.run_folder.fingerprint import case_fingerprint, content_hash
from voxtile.scoring.score import Measures
from voxtile.version import __version__
from voxtile.volume import Volume
from voxtile.writing.read_back import check_written

from .journal import Journal, peak_memory_mb


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
    plan : PlanWish
        How planes are tiled; what is left open follows from the bundle.
    engine : Wish
        What runs the networks.
    splits : tuple of str
        Run only cases of these splits; empty means all.
    exports : tuple of str
        Formats to write each mask in as well, of `voxtile.export`.
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
    plan: PlanWish = field(default_factory=PlanWish)
    engine: Wish = field(default_factory=Wish)
    splits: tuple[Split, ...] = ()
    exports: tuple[str, ...] = ()
    measures: Measures = field(default_factory=Measures)
    by: tuple[str, ...] = ()
    montages: bool = True

    def __post_init__(self) -> None:
        if self.exports:
            object.__setattr__(self, "exports", check_formats(self.exports, running=True))

    def decisive(self) -> dict[str, Any]:
        """Return what changes a result, beside engine and plan."""
        return {
            "policy": asdict(self.policy),
            "label_map": {str(key): value for key, value in sorted(self.label_map.items())},
            "ignore_bad_labels": self.ignore_bad_labels,
            "measures": asdict(self.measures),
        }


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for every case of a run; travels to the workers.

    Parameters
    ----------
    bundle : Bundle
    plans : tuple of Plan
        One for each of ``bundle.members``.
    settings : RunSettings
    out : Path
        The run folder.
    engine : Engine
        What runs the networks.
    models : tuple of callables, optional
        To run instead of the bundle's networks, one for each.
    cases_sha256 : str
        Hash of the manifest and of the cases that were chosen from it; empty
        where there is no manifest.
    """

    bundle: Bundle
    plans: tuple[Plan, ...]
    settings: RunSettings
    out: Path
    engine: Engine
    models: tuple[Model, ...] | None = None
    cases_sha256: str = ""

    def load(self) -> Segmenter:
        """Return the networks, ready to run."""
        return load_segmenter(
            self.bundle, self.plans, self.engine, models=self.models, scratch=self.out
        )

    def fingerprint(self, case: Case) -> str:
        """Return the hash of all that decides a case's result.

        Raises
        ------
        CaseError
            If an input cannot be read.
        """
        return case_fingerprint(case, self._decisive())

    @property
    def settings_sha256(self) -> str:
        """The hash of all that tells this run's records from another's.

        All that decides the result of every case beside its inputs, and which
        cases there are: a record of another manifest may be of other inputs, or
        of a patient who has withdrawn. A record that still holds is taken over.
        """
        parts = {
            "settings": self._decisive(),
            "version": __version__,
            "cases": self.cases_sha256,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _decisive(self) -> dict[str, Any]:
        """Return model, plan, engine and settings, as far as they change a result."""
        return {
            "model": self.bundle.sha256,
            "plans": [plan.decisive() for plan in self.plans],
            "engine": self.engine.decisive(),
            "settings": self.settings.decisive(),
        }

    def mask_path(self, case_id: str) -> Path:
        """Return where a case's mask goes."""
        return self.out / "masks" / f"{case_id}.nii.gz"

    def image_path(self, case_id: str) -> Path:
        """Return where the image goes that a mask lies on, if its scan has no such grid."""
        return self.out / "images" / f"{case_id}.nii.gz"

    def picture_path(self, case_id: str) -> Path:
        """Return where a case's picture goes."""
        return self.out / "qc" / f"{case_id}.png"

    def forget(self, case_id: str) -> None:
        """Remove everything that the folder has of a case but its record.

        Raises
        ------
        EnvironmentFault
            If it cannot be removed.
        """
        remove(self.mask_path(case_id))
        remove(self.picture_path(case_id))
        self.forget_beside(case_id)

    def forget_beside(self, case_id: str) -> None:
        """Remove what goes with a case's mask and would not fit another: image and exports."""
        for path in channel_paths(self.image_path(case_id), self.bundle.spec.channels):
            remove(path)
        forget_exports(self.out, case_id, self.bundle.spec.labels)


def run_case(case: Case, job: Job, segmenter: Segmenter, journal: Journal) -> CaseReport:
    """Read a scan, segment it, write the mask on the scan's own grid, and score it.

    Raises
    ------
    CaseError
        With the reason why the case cannot be done.
    """
    spec = job.bundle.spec
    settings = job.settings
    with journal.stage("read"):
        scan = read_channels(case, spec.channels, settings.policy)
        journal.note(scan.notices)
        job.forget_beside(case.case_id)
    with journal.stage("read_label"):
        # Before the network runs: a label that cannot be scored is known in a second.
        reference = _reference(case, scan.volume, spec.labels, settings, journal)
    entropy = EntropyWatch(spec.activation)
    finished = Finished(
        case.case_id,
        job.out,
        spec.labels,
        job.bundle.name,
        scan_paths(case, spec.channels)[0],
        policy_of(case, settings.policy),
    )
    with (
        journal.stage("infer"),
        keeping_probabilities(
            finished, scan.volume, spec, segmenter.view, settings.exports
        ) as keep,
    ):
        # Without probabilities to keep, a GPU need not hand them over.
        watch = entropy if keep is iter else lambda planes: keep(entropy(planes))
        mask = segmenter(scan.volume, watch)
    journal.note(segmenter.notices())
    path = job.mask_path(case.case_id)
    with journal.stage("write"):
        write_mask(path, mask)
        if scan.regridded:
            # The source has no such grid, so a viewer needs the image that the mask lies on.
            write_channels(job.image_path(case.case_id), scan.volume, spec.channels)
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
            write_montage(job.picture_path(case.case_id), picture)
    with journal.stage("export"):
        journal.note(export_case(finished, mask, settings.exports))
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
    case: Case,
    image: Volume,
    labels: Sequence[Label],
    settings: RunSettings,
    journal: Journal,
) -> Volume | None:
    """Return the reference of a case on the scan's grid, or None where there is none to use."""
    if case.label is None:
        return None
    try:
        mask, notices = read_reference(case.label, image, labels, settings.label_map)
    except CaseError as error:
        if not settings.ignore_bad_labels:
            raise
        journal.note([Notice(error.code, f"{error.sentence}; scored without it, as told")])
        return None
    journal.note(notices)
    return mask


def attempt_case(case: Case, job: Job, segmenter: Segmenter, journal: Journal) -> CaseReport:
    """Return the report of a case, whatever happens to it.

    Raises
    ------
    EnvironmentFault
        If results cannot be written: no other case would fare better.
    """
    fingerprint = ""
    try:
        with journal.stage("fingerprint"):
            fingerprint = job.fingerprint(case)
        report = run_case(case, job, segmenter, journal)
        return replace(report, fingerprint=fingerprint, settings_sha256=job.settings_sha256)
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
            f"{type(error).__name__} in stage {journal.stage_name} ({place_of(error)}); "
            "this is a bug of voxtile: please report it with this line",
        )
    job.forget(case.case_id)
    return failed_report(
        case,
        job.bundle.spec.labels,
        reason,
        measures=job.settings.measures,
        warnings=journal.notices,
        fingerprint=fingerprint,
        settings_sha256=job.settings_sha256,
        timings_s=dict(journal.seconds),
        seconds=journal.total_seconds,
        peak_memory_mb=peak_memory_mb(),
    )
