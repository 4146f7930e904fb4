"""Write `report.html` and its side files, from a run folder and its manifest.

    report.html
    report_files/
      niivue.umd.js            the viewer, with its licence
      sections/<case_id>.js    three sections of a case
      volumes/<case_id>.js     its image, mask and reference, made small

They hold patient images.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import CaseError, Notice, UsageError
from voxtile.machine.files import write_text
from voxtile.manifest.review import read_review, refuse_unknown
from voxtile.manifest.rows import read_manifest
from voxtile.models.spec import Label
from voxtile.report.tables import report_table
from voxtile.run_folder.anonymous import without_names
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.facts import RunFacts, read_facts
from voxtile.run_folder.fingerprint import case_fingerprint, content_hash
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.protection import Input, inputs_of, manifest_input, protect, refuse_tables
from voxtile.scoring.overlap import plain_labels

from .cohort import cohort_data, worst_first
from .explanations import FLAGS
from .page import REPORT, build_page
from .pictures import read_picture
from .sections import make_sections
from .side_files import KINDS, NO_INPUTS, SideFiles, volumes_of

# Version of the side files, which is part of their stamp. Before version 2 they could show another
# volume or series of the scan than the row of the case names.
_FORMAT = "2"


@dataclass(frozen=True, slots=True)
class PageFacts:
    """A page that was written."""

    path: Path
    pictured: tuple[str, ...]  # ids of the cases that have pictures
    # Case id and sentence: cases whose pictures could not be made, and why.
    problems: tuple[tuple[str, str], ...]


def parse_cases(text: str, first: str = "worst") -> int | None:
    """Return how many cases get pictures: ``worst:20``, ``none`` (0) or ``all`` (None).

    Examples
    --------
    >>> parse_cases("worst:20")
    20
    """
    if text == "all":
        return None
    if text == "none":
        return 0
    word, _, number = text.partition(":")
    if word != first or not number.isascii() or not number.isdigit():
        raise UsageError(f"--cases {text!r} must be {first}:N, such as {first}:20, or all, or none")
    return int(number)


def write_page(
    out: str | Path,
    reports: Sequence[CaseReport],
    *,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    predictions: str | Path | None = None,
    cases: str = "worst:20",
    single_file: bool = False,
    review: Path | None = None,
) -> PageFacts:
    """Write the page of a run.

    The manifest has the paths of the scans; without it no new pictures are made, and existing ones
    are retained. `predictions` is the folder of masks, by default ``masks/``. `cases` get
    pictures: ``worst:N``, ``all`` or ``none``. Valid pictures of other cases are retained; ``none``
    removes all. With `single_file`, viewer and pictures become part of the page itself. `review`
    is a file of decisions that the page shows. ManifestError if the manifest or the review has
    problems, or the folder is not a run folder.
    """
    folder = RunFolder(Path(out))
    most = parse_cases(cases)
    protect_report(folder, manifest, root, predictions, review)
    reviews = {} if review is None else read_review(review)
    if review is not None:
        refuse_unknown(review, reviews, [report.case_id for report in reports])
    facts = read_facts(folder.facts(), "a run folder has one")
    # If run.json lacks the labels, the labels of the reports are used.
    labels = facts.labels() or plain_labels(
        {row.label: row.label_name for report in reports for row in report.labels}
    )
    # If an image is missing, only the pictures of its case are missing.
    cases_of = () if manifest is None else read_manifest(manifest, root=root, need_images=False)
    found = {case.case_id: case for case in cases_of}
    masks = Path(predictions) if predictions else folder.masks
    album = _Album(SideFiles(folder.page_files), masks, labels, facts, found)
    if most == 0:
        album.files.remove_all()
    album.remove_stale(reports)
    ordered = [
        report
        for report in worst_first(reports, report_table(reports))
        if report.status != "failed"
    ]
    problems = album.add_all(ordered[:most])
    pictured = [report.case_id for report in ordered if album.files.has(report.case_id)]

    masks_sha256 = {report.case_id: report.mask.get("sha256", "") for report in reports}
    data = cohort_data(folder.path, reports, labels, facts.content)
    for case in data["cases"]:
        case["pictures"] = case["id"] in pictured
        case["problem"] = problems.get(case["id"])
        case["montage"] = _montage(folder, case["id"], embedded=single_file)
        case["mask"] = masks_sha256.get(case["id"], "")
        case["review"] = asdict(reviews[case["id"]]) if case["id"] in reviews else None
    data["flags"] = FLAGS
    data["key"] = _run_key(folder, facts)
    data["folder"] = folder.page_files.name
    inlined = album.files.inlined(pictured) if single_file else {}
    if pictured and not single_file:
        album.files.write_viewer()
    write_text(folder.page, build_page(REPORT, data, inlined))
    if single_file:
        album.files.remove_all()
    return PageFacts(folder.page, tuple(pictured), tuple(problems.items()))


def _run_key(folder: RunFolder, facts: RunFacts) -> str:
    """Return a hash by which a browser tells the reviews of one run from those of another."""
    # Without its path, so that a folder that was moved keeps its reviews.
    names = (folder.path.resolve().name, facts.content.get("manifest"), facts.content.get("model"))
    return hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Album:
    """The side files of a page: pictures of cases, each with a hash of its sources."""

    files: SideFiles
    masks: Path
    labels: Sequence[Label]
    facts: RunFacts
    cases: Mapping[str, Case]  # cases of the manifest

    def add_all(self, reports: Iterable[CaseReport]) -> dict[str, str]:
        """Make the missing pictures of cases of the manifest; return the problems by case id."""
        problems = {}
        for report in reports:
            if report.case_id in self.cases:
                try:
                    self._add(report)
                except CaseError as error:
                    said = Notice(error.code, error.sentence)
                    case = self.cases[report.case_id]
                    problems[report.case_id] = without_names(case, said).sentence
        return problems

    def _add(self, report: CaseReport) -> None:
        """Make the pictures of a case of the manifest if they are missing."""
        # Without a fingerprint it is unknown whether the masks are the same.
        if report.fingerprint and self.files.has(report.case_id):
            return
        picture = read_picture(
            self.cases[report.case_id],
            scored_mask(self.masks, report),
            self.labels,
            policy=self.facts.policy(),
            label_map=self.facts.label_map(),
            channels=self.facts.channels,
        )
        inputs = self._inputs(report.case_id) or NO_INPUTS
        stamp = f"{self._stamp(report)} {inputs}"
        self.files.write("sections", report.case_id, make_sections(picture), stamp)
        self.files.write("volumes", report.case_id, volumes_of(picture), stamp)

    def remove_stale(self, reports: Iterable[CaseReport]) -> None:
        """Remove pictures whose case is gone or whose sources have changed.

        A case whose record is missing is processed again, and may have the same pictures.
        """
        reports = tuple(reports)
        missing = {*self.facts.case_ids} - {report.case_id for report in reports}
        stamps = {
            report.case_id: self._stamp(report) for report in reports if report.status != "failed"
        }
        paths = [path for path in self.files.all() if path.stem not in missing]
        valid = {path: self._is_valid(path.stem, stamps.get(path.stem)) for path in paths}
        for path in paths:
            if not valid[path]:
                path.unlink(missing_ok=True)

    def _is_valid(self, case_id: str, stamp: str | None) -> bool:
        """Whether both pictures of a case exist and, as far as is known, have current sources."""
        if stamp is None or not self.files.has(case_id):
            return False
        made_from = {self.files.made_from(kind, case_id) for kind in KINDS}
        if {part for part, _ in made_from} != {stamp}:
            return False
        inputs = self._inputs(case_id)
        return not inputs or {part for _, part in made_from} == {inputs}

    def _stamp(self, report: CaseReport) -> str:
        """Return the hash of all sources of pictures that the report names."""
        parts = [
            _FORMAT,
            report.fingerprint,
            report.mask.get("sha256", ""),
            *self.facts.channels,
            *(f"{label.value}{label.name}{label.color}" for label in self.labels),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _inputs(self, case_id: str) -> str:
        """Return the hash of scan and reference of an evaluated case; empty if it is unknown."""
        # The fingerprint of a run covers both.
        if self.facts.is_segmentation or case_id not in self.cases:
            return ""
        try:
            return case_fingerprint(self.cases[case_id], {})
        except CaseError:
            return ""


def scored_mask(folder: Path, report: CaseReport) -> Path:
    """Return the path of a mask; CaseError if it is not the mask that was scored."""
    compressed, plain = folder / f"{report.case_id}.nii.gz", folder / f"{report.case_id}.nii"
    mask = plain if plain.is_file() and not compressed.is_file() else compressed
    scored = report.mask.get("sha256")
    if scored and mask.is_file() and content_hash(mask) != scored:
        raise CaseError(
            "mask_changed",
            f"{mask.name} is not the mask that was scored; run or evaluate the case again",
        )
    return mask


def _montage(folder: RunFolder, case_id: str, *, embedded: bool) -> str | None:
    """Return the address of the PNG that the run drew of a case, if it exists."""
    path = folder.picture(case_id)
    if not path.is_file():
        return None
    if embedded:
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return f"{path.parent.name}/{path.name}"


def protect_report(
    folder: RunFolder,
    manifest: str | Path | None,
    root: str | Path | None,
    predictions: str | Path | None,
    review: Path | None = None,
) -> None:
    """Refuse to write tables and page if an input or somebody's file would be replaced.

    ManifestError with the paths of these files; also if the folder is not a run folder.
    """
    read_facts(folder.facts(), "a run folder has one")
    inputs: list[Input] = []
    if manifest is not None:
        inputs += manifest_input(Path(manifest), folder)
        inputs += inputs_of(read_manifest(manifest, root=root, need_images=False))
    if predictions is not None:
        inputs.append(Input("the predictions folder", Path(predictions), whole=False))
    if review is not None:
        inputs.append(Input("the review", review))
    outputs = [path for path, _ in folder.derived()]
    protect(inputs, *outputs, folder.page_files, advice="move it out of the run folder")
    refuse_tables(folder)
