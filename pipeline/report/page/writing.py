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
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import CaseError, UsageError
from voxtile.machine.files import remove, write_text
from voxtile.manifest.rows import read_manifest
from voxtile.models.spec import Label
from voxtile.report.tables import report_table
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.facts import RunFacts, read_facts
from voxtile.run_folder.fingerprint import case_fingerprint, content_hash
from voxtile.run_folder.layout import RunFolder
from voxtile.scoring.overlap import plain_labels
from voxtile.writing.nifti import nifti_bytes

from .cohort import cohort_data, worst_first
from .page import VIEWER, build_page, json_text, viewer_script
from .pictures import Picture, read_picture
from .sections import make_sections

# Version of the side files, which is part of their stamp. Before version 2 they could show another
# volume or series of the scan than the row of the case names.
_FORMAT = "2"
_KINDS = ("sections", "volumes")
_STAMP = "// voxtile "
# In the place of the hash of inputs, where the stamp covers them.
_NO_INPUTS = "-"


@dataclass(frozen=True, slots=True)
class PageFacts:
    """A page that was written.

    Parameters
    ----------
    pictured : tuple of str
        Ids of the cases that have pictures.
    problems : tuple of (case_id, sentence)
        Cases whose pictures could not be made, and why.
    """

    path: Path
    pictured: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]


def parse_cases(text: str) -> int | None:
    """Return how many cases get pictures: ``worst:20``, ``none`` (0) or ``all`` (None).

    Raises
    ------
    ValueError
        If it is something else.

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
) -> PageFacts:
    """Write the page of a run.

    Parameters
    ----------
    out : str or Path
        The run folder, with ``run.json``.
    manifest : str or Path, optional
        Manifest with the paths of the scans. Without it no new pictures are
        made; existing ones are retained.
    root : str or Path, optional
        Folder that relative paths of the manifest start from.
    predictions : str or Path, optional
        Folder of masks; by default that of the run.
    cases : str, default "worst:20"
        Which cases get pictures: ``worst:N``, ``all`` or ``none``. Valid
        pictures of other cases are retained; ``none`` removes all.
    single_file : bool, default False
        Whether viewer and pictures become part of the page itself.

    Raises
    ------
    ManifestError
        If the manifest has problems, or the folder is not a run folder.
    ValueError
        If `cases` is invalid.
    EnvironmentFault
        If a file cannot be written.
    """
    folder = RunFolder(Path(out))
    most = parse_cases(cases)
    facts = read_facts(folder.facts(), "a run folder has one")
    labels = _labels(facts, reports)
    found = {} if manifest is None else _manifest_cases(manifest, root)
    masks = Path(predictions) if predictions else folder.masks
    album = _Album(folder.page_files, masks, labels, facts, found)
    if most == 0:
        shutil.rmtree(folder.page_files, ignore_errors=True)
    album.remove_stale(reports)
    ordered = [
        report
        for report in worst_first(reports, report_table(reports))
        if report.status != "failed"
    ]
    problems = album.add_all(ordered[:most])
    pictured = [report.case_id for report in ordered if album.has(report.case_id)]

    data = cohort_data(folder.path, reports, labels, facts.content)
    for case in data["cases"]:
        case["pictures"] = case["id"] in pictured
        case["problem"] = problems.get(case["id"])
        case["montage"] = _montage(folder, case["id"], embedded=single_file)
    data["folder"] = folder.page_files.name
    inlined = album.inlined(pictured) if single_file else {}
    if pictured and not single_file:
        _write_viewer(folder.page_files)
    write_text(folder.page, build_page(data, inlined))
    if single_file:
        shutil.rmtree(folder.page_files, ignore_errors=True)
    return PageFacts(folder.page, tuple(pictured), tuple(problems.items()))


@dataclass(frozen=True, slots=True)
class _Album:
    """The side files of a page: pictures of cases, each with a hash of its sources.

    `cases` are those of the manifest.
    """

    folder: Path
    masks: Path
    labels: Sequence[Label]
    facts: RunFacts
    cases: Mapping[str, Case]

    def add_all(self, reports: Iterable[CaseReport]) -> dict[str, str]:
        """Make the missing pictures of cases of the manifest; return the problems by case id."""
        problems = {}
        for report in reports:
            if report.case_id in self.cases:
                try:
                    self._add(report)
                except CaseError as error:
                    problems[report.case_id] = error.sentence
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

        A case whose record is missing is done again, and may have the same pictures.
        """
        reports = tuple(reports)
        missing = {*self.facts.case_ids} - {report.case_id for report in reports}
        stamps = {
            report.case_id: self._stamp(report) for report in reports if report.status != "failed"
        }
        for case_id in {path.stem for path in self.folder.glob("*/*.js")} - missing:
            if not self._is_valid(case_id, stamps.get(case_id)):
                for kind in _KINDS:
                    remove(self._path(kind, case_id))

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
        """Return the contents of the side files for a page that has none."""
        blocks = {}
        for case_id in case_ids:
            for kind in _KINDS:
                call = self._path(kind, case_id).read_text("utf-8").split("\n", 1)[1]
                blocks[f"{kind}/{case_id}"] = call[call.index("(") + 1 : call.rindex(")")]
        if blocks:
            # As JSON text, so that the page reads all blocks in the same way.
            viewer = base64.b64encode(viewer_script().encode()).decode()
            blocks["viewer-script"] = json.dumps(viewer)
        return blocks

    def _stamp(self, report: CaseReport) -> str:
        """Return the hash of all sources of pictures that the report knows."""
        parts = [
            _FORMAT,
            report.fingerprint,
            report.mask.get("sha256", ""),
            *self.facts.channels,
            *(f"{label.value}{label.name}{label.color}" for label in self.labels),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _inputs(self, case_id: str) -> str:
        """Return the hash of scan and reference of an evaluated case; empty if it is unknown.

        It is also empty for a run, whose fingerprint covers both.
        """
        if self.facts.is_segmentation or case_id not in self.cases:
            return ""
        try:
            return case_fingerprint(self.cases[case_id], {})
        except CaseError:
            return ""

    def _made_from(self, kind: str, case_id: str) -> tuple[str, str]:
        """Return the stamp of a side file, and the hash of its inputs if it has one.

        Both are empty if its content was changed after it was written.
        """
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
    reference = picture.reference
    return {
        "image": base64.b64encode(nifti_bytes(picture.image)).decode(),
        "prediction": base64.b64encode(nifti_bytes(picture.prediction)).decode(),
        "reference": None
        if reference is None
        else base64.b64encode(nifti_bytes(reference)).decode(),
        "window": picture.window,
        "notes": picture.notes,
    }


def _mask_path(folder: Path, case_id: str) -> Path:
    """Return the path of a mask: ``.nii.gz``, or ``.nii`` if only that exists."""
    compressed, plain = folder / f"{case_id}.nii.gz", folder / f"{case_id}.nii"
    return plain if plain.is_file() and not compressed.is_file() else compressed


def _montage(folder: RunFolder, case_id: str, *, embedded: bool) -> str | None:
    """Return the address of the PNG that the run drew of a case, where there is one."""
    path = folder.picture(case_id)
    if not path.is_file():
        return None
    if embedded:
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return f"{path.parent.name}/{path.name}"


def _labels(facts: RunFacts, reports: Iterable[CaseReport]) -> tuple[Label, ...]:
    """Return the labels of a run; where run.json lacks them, those of the reports."""
    return facts.labels() or plain_labels(
        {row.label: row.label_name for report in reports for row in report.labels}
    )


def _manifest_cases(manifest: str | Path, root: str | Path | None) -> dict[str, Case]:
    """Return the cases of a manifest by id; a missing image costs only its own pictures."""
    cases = read_manifest(manifest, root=root, need_images=False)
    return {case.case_id: case for case in cases}


def _write_viewer(folder: Path) -> None:
    """Write NiiVue and its licence beside the page, unless they are there already."""
    vendor = files("voxtile.report.page").joinpath("vendor")
    for name in (VIEWER, "LICENSE-niivue.txt"):
        content = vendor.joinpath(name).read_bytes().decode()
        path = folder / name
        if not path.is_file() or path.read_bytes() != content.encode():
            write_text(path, content)
