"""The stages of one case, from a row of a manifest to its report.

This is the only file that calls all stages; `voxtile.batch` runs many cases.
"""

from collections.abc import Sequence
from dataclasses import replace

from voxtile.case import Case
from voxtile.errors import CaseError, Notice
from voxtile.export import export_case, keeping_probabilities
from voxtile.inference.entropy import EntropyWatch
from voxtile.inference.infer import Watch
from voxtile.inference.segmenter import Segmenter
from voxtile.reading.channels import constant_channels, present_channels, read_channels
from voxtile.reading.reference import read_reference
from voxtile.report.montage import montage, write_montage
from voxtile.report.qc import inspect_case
from voxtile.report.quality import predict_dice
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.fingerprint import CHANGED, UNREADABLE, InputWatch, content_hash
from voxtile.scoring.rows import label_rows
from voxtile.volume import Volume
from voxtile.writing.nifti import write_channels, write_mask
from voxtile.writing.read_back import check_written

from .attempt import Result, attempt
from .job import Job
from .journal import Journal


def attempt_case(case: Case, job: Job, segmenter: Segmenter, journal: Journal) -> CaseReport:
    """Return the report of a case, also if it fails; a failed case has no mask.

    EnvironmentFault if results cannot be written, because then the next case would fail too.
    """

    def do(journal: Journal) -> Result:
        with journal.stage("fingerprint"):
            watch = InputWatch.of_case(case)
            journal.fingerprint = job.fingerprint(case)
        try:
            return run_case(case, job, segmenter, journal, watch)
        except CaseError as error:
            # The files that were read may have another hash. Without one, the next run tries again.
            if error.code in (CHANGED, UNREADABLE):
                journal.fingerprint = ""
            raise

    report = attempt(
        case,
        job.bundle.spec.labels,
        do,
        measures=job.settings.measures,
        journal=journal,
        more_memory="use a smaller --batch, or more memory",
    )
    if report.status == "failed":
        job.forget(case.case_id)
    return replace(report, settings_sha256=job.settings_sha256, thresholds=job.thresholds)


def run_case(
    case: Case, job: Job, segmenter: Segmenter, journal: Journal, watch: InputWatch
) -> Result:
    """Read a scan, segment it, write the mask on the scan's grid, and score the mask.

    `watch` was made before the inputs were hashed. CaseError with the reason why the case failed;
    also if an input was changed while it was read.
    """
    spec = job.decided.spec
    settings, folder = job.settings, job.folder
    with journal.stage("read"):
        scan = read_channels(case, spec.channels, settings.policy, spec.absent)
        constant = constant_channels(scan.volume, spec.channels, case.missing)
        journal.note((*scan.notices, *constant))
        job.forget_beside(case.case_id)
    with journal.stage("read_label"):
        # Before the network runs, so that an unusable reference is reported within a second.
        reference = _reference(case, scan.volume, job, journal)
        watch.check()
    entropy = EntropyWatch(spec.activation, spec.thresholds)
    finished = job.finished(case)
    with (
        journal.stage("infer"),
        keeping_probabilities(
            finished, scan.volume, spec, segmenter.view, settings.exports
        ) as keep,
    ):
        # If no probabilities are stored, a GPU need not send them to the CPU.
        seen: Watch = entropy if keep is iter else lambda planes: keep(entropy(planes))
        mask = segmenter(scan.volume, seen)
    journal.note(segmenter.notices())
    path = folder.mask(case.case_id)
    with journal.stage("write"):
        write_mask(path, mask)
        if scan.regridded:
            # No source file has this grid, so a viewer needs the scan on the grid of the mask.
            image = folder.image(case.case_id)
            write_channels(image, scan.volume, spec.channels, case.missing)
    with journal.stage("verify"):
        geometry = check_written(path, mask)
    with journal.stage("score"):
        rows = label_rows(mask, reference, spec.labels, job.measures)
    with journal.stage("qc"):
        qc = inspect_case(
            mask,
            spec.labels,
            rows,
            image=scan.volume,
            missing=case.missing,
            spec=spec,
            entropy=entropy.mean,
            dice=predict_dice(job.quality, spec.labels, entropy.expected_dice),
        )
        if settings.montages:
            shown = _shown(scan.volume, case, spec.channels)
            picture = montage(shown, mask, spec.labels, reference=reference)
            write_montage(folder.picture(case.case_id), picture)
    with journal.stage("export"):
        journal.note(export_case(finished, mask, settings.exports))
        if settings.exports:
            watch.check()  # some formats read the scan again
    return Result(
        rows, geometry, {"file": folder.mask_entry(case.case_id), "sha256": content_hash(path)}, qc
    )


def _shown(image: Volume, case: Case, channels: Sequence[str]) -> Volume:
    """Return the first channel of a scan that is not missing."""
    if not case.missing:
        return image
    return image.with_array(image.array[..., channels.index(present_channels(case, channels)[0])])


def _reference(case: Case, image: Volume, job: Job, journal: Journal) -> Volume | None:
    """Return the reference of a case on the scan's grid; None if it is missing or unusable."""
    if case.label is None:
        return None
    settings = job.settings
    try:
        mask, notices = read_reference(
            case.label,
            image,
            job.bundle.spec.labels,
            settings.label_map,
            job.measures.ignore,
            job.bundle.spec.unlabelled,
        )
    except CaseError as error:
        if not settings.ignore_bad_labels:
            raise
        sentence = f"{error.sentence}; scored without it (--ignore-bad-labels)"
        journal.note([Notice(error.code, sentence)])
        return None
    journal.note(notices)
    return mask
