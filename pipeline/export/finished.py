"""The finished cases of a run folder, with their labels and their unchanged masks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import CaseError, ManifestError
from voxtile.models.spec import Label
from voxtile.reading.channels import policy_of, present_channels, scan_paths
from voxtile.reading.nifti import read_nifti
from voxtile.reading.reference import integral
from voxtile.reading.scan import ReadPolicy
from voxtile.run_folder.case_report import collect, read_case_report
from voxtile.run_folder.facts import newest, read_facts, strict_facts
from voxtile.run_folder.fingerprint import content_hash
from voxtile.run_folder.layout import RunFolder
from voxtile.volume import Volume

from .formats import PLACES


@dataclass(frozen=True, slots=True)
class Finished:
    """A case that a run finished in the folder `out`, with the bundle's name and labels."""

    case_id: str
    out: Path
    labels: tuple[Label, ...]
    model: str
    image: Path | None = None  # its scan (the model's first channel), if a manifest names it
    # The options with which the run read the scan.
    policy: ReadPolicy = field(default_factory=ReadPolicy)
    sealed: bool = True  # whether its record must hold the digest of its content

    @property
    def mask_path(self) -> Path:
        """The mask of the run."""
        return RunFolder(self.out).mask(self.case_id)

    def target(self, format_name: str) -> Path:
        """Return the file or folder of the case in a format, or the format's folder."""
        folder = RunFolder(self.out).export(format_name)
        return folder / PLACES[format_name].format(self.case_id)


def finished_cases(out: Path, cases: Iterable[Case] | None = None) -> tuple[Finished, ...]:
    """Return the finished cases of a run folder, without the missing cases."""
    return finished_and_missing(out, cases)[0]


def finished_and_missing(
    out: Path, cases: Iterable[Case] | None = None
) -> tuple[tuple[Finished, ...], Mapping[str, str]]:
    """Return the finished cases of a run folder, and why others are missing, by case id.

    If the cases of a manifest are given, other cases are left out. ManifestError if the folder is
    not the folder of a run, or holds no finished case, or the manifest lacks a channel of the
    run's model.
    """
    folder = RunFolder(out)
    facts = read_facts(folder.facts(), "name the folder of a run")
    if not facts.is_segmentation:
        raise ManifestError(f"{facts.path} is of an evaluation; name the folder of a run")
    latest = newest(strict_facts(folder))
    if latest is not None and latest.settings_sha256 != facts.settings_sha256:
        raise ManifestError(
            f"{out}/run.json is of an earlier run than its shards; run `voxtile merge` first"
        )
    labels, run_policy = facts.labels(), facts.policy()
    named = None if cases is None else {case.case_id: case for case in cases}
    found = []
    records = collect(folder, facts)
    for report in sorted(records.reports, key=lambda report: report.case_id):
        if report.status != "done":
            continue
        one = Finished(
            report.case_id, out, labels, facts.model, policy=run_policy, sealed=facts.seals_records
        )
        if named is None:
            found.append(one)
        elif report.case_id in named:
            case = named[report.case_id]
            policy = policy_of(case, run_policy)
            found.append(replace(one, image=_image(case, facts.channels), policy=policy))
    if not found:
        which = "" if named is None else " that the manifest names"
        raise ManifestError(f"{out} has no finished case{which}, so there is nothing to export")
    missing = {
        case_id: why
        for case_id, why in records.missing.items()
        if named is None or case_id in named
    }
    return tuple(found), missing


def _image(case: Case, channels: Sequence[str]) -> Path:
    """Return the scan of the model's first channel; the first image if the run has no names."""
    try:
        wanted = present_channels(case, channels or case.images[0][:1])
        return next(iter(scan_paths(case, wanted[:1]).values()))
    except CaseError as error:
        raise ManifestError(f"case {case.case_id}: {error.sentence}") from error


def read_finished_mask(case: Finished) -> Volume:
    """Read the mask of a case.

    CaseError if the mask is missing, damaged, or not the one that the run wrote.
    """
    path, folder = case.mask_path, RunFolder(case.out)
    try:
        report = read_case_report(folder.record(case.case_id), sealed=case.sealed)
    except (OSError, ValueError):
        raise CaseError("record_changed", "its record was changed; run the case again") from None
    # Check the name too: an earlier evaluation in this folder names masks of another folder.
    if report.mask != {"file": folder.mask_entry(case.case_id), "sha256": content_hash(path)}:
        raise CaseError(
            "mask_changed",
            f"{path.name} is not the mask that the run wrote; run the case again, or copy the "
            "run folder again",
        )
    volume = read_nifti(path).volume
    array, _ = integral(volume.array, "mask")
    return volume.with_array(array)
