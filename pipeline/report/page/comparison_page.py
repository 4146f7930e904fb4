"""Write ``comparison.html`` and its side files, from a comparison and the manifest of its runs.

comparison.html
comparison_files/          pictures of the cases that changed most, with the masks of all runs
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from voxtile.case import Case
from voxtile.errors import CaseError, Notice, UsageError, counted
from voxtile.machine.files import write_text
from voxtile.manifest.rows import read_manifest
from voxtile.models.spec import Label
from voxtile.report.comparison import Comparison
from voxtile.run_folder.anonymous import without_names
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.layout import RunFolder
from voxtile.scoring.overlap import plain_labels

from .cohort import label_facts
from .comparison_data import comparison_data
from .page import COMPARISON, build_page
from .pictures import read_picture
from .sections import make_sections
from .side_files import SideFiles, encoded, volumes_of
from .writing import PageFacts, scored_mask

_HOW = "voxtile compare A B --out DIR --manifest MANIFEST --cases all"


def write_comparison_page(
    out: Path,
    comparison: Comparison,
    *,
    manifest: Path | None = None,
    root: Path | None = None,
    predictions: Sequence[Path] = (),
    most: int | None = 12,
) -> PageFacts:
    """Write ``comparison.html`` into a folder, with its side files.

    The manifest has the paths of the scans; without it there are no pictures. `predictions` are the
    folders of the masks, one for each run, by default the runs' own. The `most` cases that changed
    most get pictures; None for all. Earlier side files are replaced.
    """
    if predictions and len(predictions) != len(comparison.runs):
        raise UsageError(
            f"--predictions names {counted(len(predictions), 'folder')}, but there are "
            f"{len(comparison.runs)} runs; name one for each run"
        )
    labels = _labels(comparison)
    data = {**comparison_data(comparison, labels), "labels": label_facts(labels), "how": _HOW}
    files = SideFiles(out / "comparison_files")
    files.remove_all()
    album = _Album(files, comparison, labels, predictions, comparison.reports)
    found = {
        case.case_id: case
        for case in (read_manifest(manifest, root=root, need_images=False) if manifest else ())
    }
    ids = [case["id"] for case in data["cases"] if case["id"] in found and album.masked(case["id"])]
    problems = album.add_all([found[case_id] for case_id in ids[:most]])
    pages = list(_pages(out, comparison, data["runs"]))
    for case in data["cases"]:
        case["pictures"] = files.has(case["id"])
        case["problem"] = problems.get(case["id"])
        case["links"] = [
            [name, f"{address}#{urlencode({'case': case['id']})}"]
            for name, address, reports in pages
            if case["id"] in reports
        ]
    data["folder"] = files.folder.name
    pictured = tuple(case["id"] for case in data["cases"] if case["pictures"])
    if pictured:
        files.write_viewer()
    path = out / "comparison.html"
    write_text(path, build_page(COMPARISON, data))
    return PageFacts(path, pictured, tuple(problems.items()))


@dataclass(frozen=True, slots=True)
class _Album:
    """The pictures of a comparison: each case with the masks of all runs that have one."""

    files: SideFiles
    comparison: Comparison
    labels: Sequence[Label]
    predictions: Sequence[Path]
    reports: Sequence[Mapping[str, CaseReport]]  # of each run, by case id

    def masked(self, case_id: str) -> dict[int, CaseReport]:
        """Return the reports of the runs that have a mask of a case, by the place of the run."""
        reports = [by_id.get(case_id) for by_id in self.reports]
        return {
            place: report
            for place, report in enumerate(reports)
            if report is not None and report.status != "failed"
        }

    def add_all(self, cases: Sequence[Case]) -> dict[str, str]:
        """Make the pictures of cases; return the problems by case id."""
        problems = {}
        for case in cases:
            try:
                self._add(case)
            except CaseError as error:
                said = without_names(case, Notice(error.code, error.sentence))
                problems[case.case_id] = said.sentence
        return problems

    def _add(self, case: Case) -> None:
        """Make the pictures of a case."""
        reports, found = self.masked(case.case_id), self.comparison.found
        paths = [scored_mask(self._folder(place), report) for place, report in reports.items()]
        # The first run that has a mask says how the scan is read.
        facts = found[next(iter(reports))].facts
        picture = read_picture(
            case,
            paths[0],
            self.labels,
            policy=facts.policy(),
            label_map=facts.label_map(),
            channels=facts.channels,
            others=paths[1:],
        )
        count, places = len(self.comparison.runs), list(reports)
        sections = make_sections(picture)
        for section in sections:
            contours = [section.pop("prediction"), *section.pop("others", ())]
            section["masks"] = _in_order(contours, places, count)
        volumes = volumes_of(picture)
        masks = [volumes.pop("prediction"), *map(encoded, picture.others)]
        volumes["masks"] = _in_order(masks, places, count)
        for kind, content in (("sections", sections), ("volumes", volumes)):
            self.files.write(kind, case.case_id, content, "comparison -")

    def _folder(self, place: int) -> Path:
        """Return the folder of the masks of a run."""
        run = RunFolder(self.comparison.found[place].facts.path.parent)
        return self.predictions[place] if self.predictions else run.masks


def _in_order(values: Sequence[Any], places: Sequence[int], count: int) -> list[Any]:
    """Return a value for each run; None for a run without one."""
    given = dict(zip(places, values, strict=True))
    return [given.get(place) for place in range(count)]


def _labels(comparison: Comparison) -> tuple[Label, ...]:
    """Return the labels of all runs by their values, with the colours of the first that has one."""
    found: dict[int, Label] = {}
    for records, table in zip(comparison.found, comparison.tables, strict=True):
        plain = plain_labels(dict(zip(table["label"], table["label_name"], strict=True)))
        for label in records.facts.labels() or plain:
            found.setdefault(label.value, label)
    return tuple(found[value] for value in sorted(found))


def _pages(
    out: Path, comparison: Comparison, runs: Sequence[Mapping[str, str]]
) -> Iterator[tuple[str, str, Mapping[str, CaseReport]]]:
    """Yield for each run with a page its name, the address of the page, and the reports by id."""
    for run, records, reports in zip(runs, comparison.found, comparison.reports, strict=True):
        page = RunFolder(records.facts.path.parent).page
        with suppress(ValueError):  # on another drive of Windows
            if page.is_file():
                path = Path(os.path.relpath(page.resolve(), out.resolve())).as_posix()
                yield f"{run['letter']}: {run['name']}", quote(path), reports
