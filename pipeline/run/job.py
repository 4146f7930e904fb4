"""What is the same for all cases of a run: the model, how it is run, and the folder.

A `Job` is made from the `RunSettings`, which a user chooses.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.engines import Engine, Model
from voxtile.errors import ManifestError, UsageError, first_few
from voxtile.export import Finished, forget_exports
from voxtile.inference.segmenter import Segmenter, load_segmenter
from voxtile.machine.files import remove
from voxtile.machine.memory import free_memory_mb
from voxtile.manifest.listing import Listed
from voxtile.manifest.rows import read_manifest
from voxtile.models.bundle import Bundle
from voxtile.models.quality import Quality
from voxtile.models.thresholds import changed_thresholds, with_thresholds
from voxtile.preparation.plan import PLANNED_SHARE, Plan, PlanWish
from voxtile.reading.channels import policy_of, scan_paths
from voxtile.reading.nifti import channel_paths
from voxtile.report.summary_columns import check_columns
from voxtile.run_folder.fingerprint import case_fingerprint
from voxtile.run_folder.layout import RunFolder
from voxtile.scoring.measures import Measures
from voxtile.version import __version__

from .settings import RunSettings as RunSettings


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for every case of a run; it is sent to the workers."""

    bundle: Bundle
    plans: tuple[Plan, ...]  # one for each of ``bundle.members``
    settings: RunSettings
    out: Path  # the run folder
    engine: Engine
    models: tuple[Model, ...] | None = None  # called instead of the bundle's networks, one for each
    # Hash of the manifest and of the cases that were chosen from it; empty without a manifest.
    cases_sha256: str = ""
    quality: Quality | None = None  # predicts the Dice of masks; None without a calibration

    def __post_init__(self) -> None:
        if self.thresholds and self.quality:  # it was made with the model's own thresholds
            object.__setattr__(self, "quality", None)
        for label in self.bundle.spec.labels:
            if self.measures.ignore in label.values:
                raise UsageError(
                    f"--ignore {self.measures.ignore} is a value of the model's label "
                    f"{label.value} ({label.name}); ignore another value, or leave --ignore out"
                )

    @property
    def folder(self) -> RunFolder:
        """The run folder with its paths."""
        return RunFolder(self.out)

    @property
    def decided(self) -> Bundle:
        """The bundle with the thresholds of the settings; UsageError if it cannot have them."""
        return with_thresholds(self.bundle, self.settings.thresholds)

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds that differ from the model's, by the label's name."""
        return changed_thresholds(self.bundle, self.decided)

    @property
    def measures(self) -> Measures:
        """What is measured; references may have the value that the model's training ignored."""
        chosen = self.settings.measures
        if chosen.ignore is not None:
            return chosen
        return replace(chosen, ignore=self.bundle.spec.ignore)

    def finished(self, case: Case) -> Finished:
        """Return what exporters need to know about a case, whose mask may not be written yet."""
        spec = self.bundle.spec
        return Finished(
            case.case_id,
            self.out,
            spec.labels,
            self.bundle.name,
            next(iter(scan_paths(case, spec.channels, spec.absent).values())),
            policy_of(case, self.settings.policy),
        )

    def load(self) -> Segmenter:
        """Return the networks, ready to run."""
        return load_segmenter(
            self.decided, self.plans, self.engine, models=self.models, scratch=self.out
        )

    def fingerprint(self, case: Case) -> str:
        """Return the hash of everything that decides a case's result.

        CaseError if an input cannot be read.
        """
        return case_fingerprint(case, self._decisive())

    @property
    def settings_sha256(self) -> str:
        """Hash that identifies this run.

        It covers everything that decides results except the inputs of a case.
        It also covers the choice of cases, because a record of another manifest
        may be of other inputs, or of a patient who has withdrawn. A later run
        takes over the records that are still valid.
        """
        parts = {"settings": self._decisive(), "version": __version__, "cases": self.cases_sha256}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _decisive(self) -> dict[str, Any]:
        """Return model, plan, engine and settings, as far as they change a result."""
        return {
            "model": self.bundle.sha256,
            "plans": [plan.decisive() for plan in self.plans],
            "engine": self.engine.decisive(),
            "settings": self.settings_facts(),
            **({} if self.quality is None else {"quality": self.quality.sha256}),
        }

    def settings_facts(self) -> dict[str, Any]:
        """Return the settings that change a result, without thresholds that are the model's."""
        changed = self.thresholds
        return self.settings.decisive() | ({"thresholds": changed} if changed else {})

    def forget(self, case_id: str) -> None:
        """Remove all files of a case from the folder except its record.

        EnvironmentFault if a file cannot be removed.
        """
        remove(self.folder.mask(case_id))
        remove(self.folder.picture(case_id))
        self.forget_beside(case_id)

    def forget_beside(self, case_id: str) -> None:
        """Remove what belongs to an earlier mask of a case: its image and exports."""
        for path in channel_paths(self.folder.image(case_id), self.bundle.spec.channels):
            remove(path)
        forget_exports(self.out, case_id, self.bundle.spec.labels)


def chosen_cases(
    manifest: str | Path | Listed, root: str | Path | None, settings: RunSettings
) -> tuple[Case, ...]:
    """Return the manifest's cases of the chosen splits and ids.

    ManifestError if the manifest has problems, or lacks a split or id.
    """
    cases = manifest.cases if isinstance(manifest, Listed) else read_manifest(manifest, root=root)
    check_columns(settings.by, cases)
    if settings.splits:
        cases = tuple(case for case in cases if case.split in settings.splits)
        if not cases:
            raise ManifestError(f"{manifest} has no case of split {', '.join(settings.splits)}")
    if settings.cases:
        known = [case.case_id for case in cases]
        if unknown := [name for name in settings.cases if name not in known]:
            of_split = f" of split {', '.join(settings.splits)}" if settings.splits else ""
            raise ManifestError(
                f"{manifest} has no case {first_few(unknown)}{of_split}; the cases are "
                f"{first_few(known)}"
            )
        cases = tuple(case for case in cases if case.case_id in settings.cases)
    return cases


def with_memory(wish: PlanWish, workers: int | None = None) -> PlanWish:
    """Return tiling options with the memory of each worker: given, or a part of the free memory."""
    if wish.memory_mb is not None:
        return wish
    return replace(wish, memory_mb=PLANNED_SHARE * free_memory_mb() / max(1, workers or 1))
