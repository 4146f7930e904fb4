"""Write `report.html` and its side files, from a run folder and its manifest.

    report.html
    report_files/
      niivue.umd.js            the viewer, with its licence
      sections/<case_id>.js    three sections of a case
      volumes/<case_id>.js     its image, mask and reference, made small

The side files are scripts, because a page opened from a disk may load scripts
but not data. They hold patient images.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from voxtile.writing.nifti import nifti_bytes

from .cohort import cohort_data, worst_first
from .explanations import FLAGS
from .page import VIEWER, build_page, json_text, resource
from .pictures import Picture, read_picture
from .sections import make_sections

# Version of the side files, which is part of their stamp. Before version 2 they could show another
# volume or series of the scan than the row of the case names.
_FORMAT = "2"
_KINDS = ("sections", "volumes")
_STAMP = "// voxtile "
_VIEWER = (VIEWER, "LICENSE-niivue.txt")
# Stored instead of the hash of the inputs if the stamp covers the inputs.
_NO_INPUTS = "-"


@dataclass(frozen=True, slots=True)
class PageFacts:
    """A page that was written."""

    path: Path
    pictured: tuple[str, ...]  # ids of the cases that have pictures
    # Case id and sentence: cases whose pictures could not be made, and why.
    problems: tuple[tuple[str, str], ...]


def parse_cases(text: str) -> int | None:
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
    if word != "worst" or not number.isascii() or not number.isdigit():
        raise UsageError(f"--cases {text!r} must be worst:N, such as worst:20, or all, or none")
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
    album = _Album(folder.page_files, masks, labels, facts, found)
    if most == 0:
        album.remove_all()
    album.remove_stale(reports)
    ordered = [
        report
        for report in worst_first(reports, report_table(reports))
        if report.status != "failed"
    ]
    problems = album.add_all(ordered[:most])
    pictured = [report.case_id for report in ordered if album.has(report.case_id)]

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
    inlined = album.inlined(pictured) if single_file else {}
    if pictured and not single_file:
        _write_viewer(folder.page_files)
    write_text(folder.page, build_page(data, inlined))
    if single_file:
        album.remove_all()
    return PageFacts(folder.page, tuple(pictured), tuple(problems.items()))


def _run_key(folder: RunFolder, facts: RunFacts) -> str:
    """Return a hash by which a browser tells the reviews of one run from those of another."""
    # Without its path, so that a folder that was moved keeps its reviews.
    names = (folder.path.resolve().name, facts.content.get("manifest"), facts.content.get("model"))
    return hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Album:
    """The side files of a page: pictures of cases, each with a hash of its sources."""

    folder: Path
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
        if report.fingerprint and self.has(report.case_id):
            return
        mask = _mask_path(self.masks, report.case_id)
        scored = report.mask.get("sha256")
        if scored and mask.is_file() and content_hash(mask) != scored:
            raise CaseError(
                "mask_changed",
                f"{mask.name} is not the mask that was scored; run or evaluate the case again",
            )
        picture = read_picture(
            self.cases[report.case_id],
            mask,
            self.labels,
            policy=self.facts.policy(),
            label_map=self.facts.label_map(),
            channels=self.facts.channels,
        )
        inputs = self._inputs(report.case_id) or _NO_INPUTS
        stamp = f"{_STAMP}{self._stamp(report)} {inputs}"
        self._write("sections", report.case_id, stamp, make_sections(picture))
        self._write("volumes", report.case_id, stamp, _volumes(picture))

    def has(self, case_id: str) -> bool:
        """Whether a case has pictures."""
        return all(self._path(kind, case_id).is_file() for kind in _KINDS)

    def remove_stale(self, reports: Iterable[CaseReport]) -> None:
        """Remove pictures whose case is gone or whose sources have changed.

        A case whose record is missing is processed again, and may have the same pictures.
        """
        reports = tuple(reports)
        missing = {*self.facts.case_ids} - {report.case_id for report in reports}
        stamps = {
            report.case_id: self._stamp(report) for report in reports if report.status != "failed"
        }
        paths = [path for path in self._side_files() if path.stem not in missing]
        valid = {path: self._is_valid(path.stem, stamps.get(path.stem)) for path in paths}
        for path in paths:
            if not valid[path]:
                path.unlink(missing_ok=True)

    def remove_all(self) -> None:
        """Remove the pictures and the viewer; files that voxtile did not write are not removed."""
        for path in (*self._side_files(), *(self.folder / name for name in _VIEWER)):
            path.unlink(missing_ok=True)
        for folder in (*(self.folder / kind for kind in _KINDS), self.folder):
            with suppress(OSError):  # missing, or not empty
                folder.rmdir()

    def _side_files(self) -> list[Path]:
        """Return the side files that exist; their stamps show which they are."""
        paths = (path for kind in _KINDS for path in (self.folder / kind).glob("*.js"))
        return [path for path in paths if _has_stamp(path)]

    def _is_valid(self, case_id: str, stamp: str | None) -> bool:
        """Whether both pictures of a case exist and, as far as is known, have current sources."""
        if stamp is None or not self.has(case_id):
            return False
        made_from = {self._made_from(kind, case_id) for kind in _KINDS}
        if {part for part, _ in made_from} != {stamp}:
            return False
        inputs = self._inputs(case_id)
        return not inputs or {part for _, part in made_from} == {inputs}

    def inlined(self, case_ids: Iterable[str]) -> dict[str, str]:
        """Return the contents of the side files, for a page without side files."""
        blocks = {}
        for case_id in case_ids:
            for kind in _KINDS:
                call = self._path(kind, case_id).read_text("utf-8").split("\n", 1)[1]
                blocks[f"{kind}/{case_id}"] = call[call.index("(") + 1 : call.rindex(")")]
        if blocks:
            # As JSON text, so that the page reads all blocks in the same way.
            viewer = base64.b64encode(resource(f"vendor/{VIEWER}").encode()).decode()
            blocks["viewer-script"] = json.dumps(viewer)
        return blocks

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

    def _made_from(self, kind: str, case_id: str) -> tuple[str, str]:
        """Return the stamp of a side file and the hash of its inputs; empty if it was changed."""
        line, _, call = self._path(kind, case_id).read_bytes().partition(b"\n")
        words = line.decode("utf-8", "replace").strip().removeprefix(_STAMP).split(" ")
        whole = call.startswith(b"receive(") and call.endswith(b");\n")
        # Version 0.1.0 wrote no digest.
        if not whole or (len(words) > 2 and words[2] != hashlib.sha256(call).hexdigest()):
            return "", ""
        return words[0], "" if words[1:2] in ([], [_NO_INPUTS]) else words[1]

    def _path(self, kind: str, case_id: str) -> Path:
        """Return the path of a side file."""
        return self.folder / kind / f"{case_id}.js"

    def _write(self, kind: str, case_id: str, stamp: str, content: Any) -> None:
        """Write a side file: a script that passes its content to the page."""
        call = f"receive({json_text({'id': f'{kind}/{case_id}', 'content': content})});\n"
        digest = hashlib.sha256(call.encode()).hexdigest()
        write_text(self._path(kind, case_id), f"{stamp} {digest}\n{call}")


def _volumes(picture: Picture) -> dict[str, Any]:
    """Return the volumes of a picture as base64 NIfTI, with its window and notes."""
    volumes = {name: getattr(picture, name) for name in ("image", "prediction", "reference")}
    encoded = {
        name: None if volume is None else base64.b64encode(nifti_bytes(volume)).decode()
        for name, volume in volumes.items()
    }
    return {**encoded, "window": picture.window, "notes": picture.notes}


def _mask_path(folder: Path, case_id: str) -> Path:
    """Return the path of a mask: ``.nii.gz``, or ``.nii`` if only that exists."""
    compressed, plain = folder / f"{case_id}.nii.gz", folder / f"{case_id}.nii"
    return plain if plain.is_file() and not compressed.is_file() else compressed


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


def _has_stamp(path: Path) -> bool:
    """Whether a file begins as a side file does."""
    with path.open("rb") as file:
        return file.read(len(_STAMP)) == _STAMP.encode()


def _write_viewer(folder: Path) -> None:
    """Write NiiVue and its licence beside the page, unless they exist already."""
    for name in _VIEWER:
        content = resource(f"vendor/{name}")
        path = folder / name
        if not path.is_file() or path.read_bytes() != content.encode():
            write_text(path, content)
