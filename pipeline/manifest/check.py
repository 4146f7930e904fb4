"""Check a manifest and its files: find what would stop a run, a training run or a score.

This reads only headers, in milliseconds per case; with `deep` also every voxel.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from voxtile.case import Case
from voxtile.errors import CaseError, Notice, counted, first_few
from voxtile.label_values import label_values
from voxtile.machine.at_once import in_order
from voxtile.models.spec import ModelSpec
from voxtile.reading.channels import own_channels, read_channels, survey_channels
from voxtile.reading.dicom import annotation_file
from voxtile.reading.formats import DICOM, format_of
from voxtile.reading.reference import integral, on_grid_of, read_label_map, read_reference
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import Volume, canonical

from .advice import manifest_notices
from .label_list import LabelList
from .listing import Listed
from .rows import examine_manifest

OnCase = Callable[[int, int], None]
# Compares a case with the scans of a model's training; the last argument: were voxels read?
Compare = Callable[[Case, Volume, bool], Iterable[Notice]]
# Number of cases that are compared by their voxels too, even if the check is not deep.
_COMPARED = 3

# A case without one of its channels.
_EMPTY = "image_{} is empty; only a model that was trained with such cases can take the case"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of a manifest, or a warning about it.

    Parameters
    ----------
    severity : {"error", "warning"}
        With an error, a case or the whole manifest cannot be used as it is.
    code : str
        Stable name, for programs: the code of the reader's error or notice, or
        ``manifest``, ``manifest_encoding``, ``manifest_sheet``,
        ``manifest_column``, ``manifest_group``, ``group_divided``, ``same_image``,
        ``same_content``, ``same_label``, ``no_label``.
    case_id : str
        Empty if the finding is not about one case.
    line : int
        Line of the manifest; 0 if it is unknown or given in the sentence.
    """

    severity: Literal["error", "warning"]
    code: str
    sentence: str
    case_id: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f"line {self.line} case {self.case_id}: " if self.line else ""
        return f"{self.severity}: {where}{self.code}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """Properties of a case; None or empty if they were not read or cannot be read.

    Parameters
    ----------
    orientation : str
        Orientation codes, such as ``RAS``.
    label_values : tuple of int or None
        Values other than 0.
    """

    case_id: str
    line: int
    split: str | None
    group: str | None
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str = ""
    has_label: bool = False
    label_values: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How a manifest is checked for a run with the same `policy` and `label_map`.

    With `deep` voxels are read too: checksums, label values, equal images. References may then
    have only the values of `labels` (default: of the model).
    """

    deep: bool = False
    policy: ReadPolicy = field(default_factory=ReadPolicy)
    label_map: Mapping[int, int] = field(default_factory=dict)
    labels: LabelList | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The facts of each valid row, and the findings: first about the manifest, then by line."""

    manifest: Path
    deep: bool
    cases: tuple[CaseFacts, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that must be fixed."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def summary(self) -> tuple[str, ...]:
        """Return the lines of a summary."""
        splits = Counter(case.split or "no split" for case in self.cases)
        groups = len({case.group for case in self.cases if case.group})
        labelled = sum(case.has_label for case in self.cases)
        lines = [
            f"{self.manifest}: {counted(len(self.cases), 'case')} "
            f"({', '.join(f'{split} {count}' for split, count in splits.items())}), "
            f"{labelled} with a label, {counted(groups, 'group')}"
        ]
        shapes = [case.shape for case in self.cases if case.shape is not None]
        spacings = [case.spacing_mm for case in self.cases if case.spacing_mm is not None]
        if shapes:
            lines.append(f"shape: {_range(shapes)}; spacing: {_range(spacings)} mm")
            axes = Counter(case.orientation for case in self.cases if case.orientation)
            named = ", ".join(f"{name} {count}" for name, count in axes.items())
            lines.append(f"orientation: {named}")
        values = Counter(value for case in self.cases for value in case.label_values or ())
        if values:
            found = [f"{value} in {counted(values[value], 'case')}" for value in sorted(values)]
            lines.append(f"label values: {first_few(found, shown=200)}")
        return tuple(lines)

    def as_json(self) -> dict[str, Any]:
        """Return everything as a JSON value."""
        return {
            "manifest": str(self.manifest),
            "deep": self.deep,
            "ok": not self.errors,
            "errors": len(self.errors),
            "warnings": len(self.findings) - len(self.errors),
            "findings": [asdict(finding) for finding in self.findings],
            "cases": [asdict(case) for case in self.cases],
        }


def check_manifest(
    manifest: str | Path | Listed,
    *,
    root: str | Path | None = None,
    spec: ModelSpec | None = None,
    settings: CheckSettings | None = None,
    compare: Compare | None = None,
    on_case: OnCase | None = None,
) -> CheckResult:
    """Check a manifest and the files that it names; problems are findings, not errors.

    Parameters
    ----------
    manifest : str, Path or Listed
        A file, or the cases of a folder of scans.
    root : str or Path, optional
        Folder that relative paths start from; by default the manifest's folder.
    spec : ModelSpec, optional
        The model to use: every case must have the model's channels, and with
        `deep` labels may have only the model's values.
    compare : callable, optional
        Returns notices about a case from its volume; for this, the first cases
        are read completely, the other cases only if the check is deep.
    on_case : callable, optional
        Called with (cases done, all cases).
    """
    settings = settings or CheckSettings()
    findings: list[Finding] = []
    if isinstance(manifest, Listed):
        cases = manifest.cases
    else:
        cases, problems = examine_manifest(manifest, root=root)
        findings += [Finding("error", "manifest", problem) for problem in problems]
        notices = manifest_notices(manifest)
        findings += [Finding("warning", one.code, one.sentence) for one in notices]
    later = [*_divided(cases), *_repeated(cases), *_unlabelled(cases)]
    facts = []
    contents: dict[str, list[Case]] = {}
    looked_at = cases if settings.deep else cases[:_COMPARED] if compare else ()
    # One case at a time if voxels are read, so that memory is bounded by the largest case.
    checked = in_order(
        lambda case: _check_case(case, spec, settings, compare, case in looked_at),
        cases,
        at_once=1 if settings.deep else None,
    )
    for number, (case, (known, found, content)) in enumerate(
        zip(cases, checked, strict=True), start=1
    ):
        facts.append(known)
        later += found
        if content:
            contents.setdefault(content, []).append(case)
        if on_case is not None:
            on_case(number, len(cases))
    later += _alike(contents.values(), "same_content", "have equal voxels")
    findings += sorted(later, key=lambda finding: finding.line)
    return CheckResult(Path(str(manifest)), settings.deep, tuple(facts), tuple(findings))


def _check_case(
    case: Case,
    spec: ModelSpec | None,
    settings: CheckSettings,
    compare: Compare | None,
    voxels: bool,
) -> tuple[CaseFacts, list[Finding], str]:
    """Return the properties of a case, its findings, and a hash of its voxels (deep only)."""
    facts = CaseFacts(case.case_id, case.line, case.split, case.group, has_label=bool(case.label))
    findings: list[Finding] = []
    image: Volume | None = None
    content = ""
    try:
        channels = own_channels(case, settings.policy) if spec is None else spec.channels
        read = read_channels if voxels else survey_channels
        scan = read(case, channels, settings.policy, spec.absent if spec else None)
        image = scan.volume
        compared = compare(case, image, voxels) if compare else ()
        if spec is None:
            findings += [_about(case, "channel_missing", _EMPTY.format(c)) for c in case.missing]
        findings += [_about(case, one.code, one.sentence) for one in (*scan.notices, *compared)]
        content = _content_hash(image) if settings.deep else ""
        facts = replace(facts, shape=image.shape, spacing_mm=image.spacing_mm)
        facts = replace(facts, orientation=image.orientation)
    except CaseError as error:
        findings.append(_about(case, error.code, error.sentence, "error"))
    if case.label is None:
        return facts, findings, content
    try:
        values, notices = _check_label(case.label, image, spec, settings)
        findings += [_about(case, one.code, one.sentence) for one in notices]
        facts = replace(facts, label_values=values)
    except CaseError as error:
        findings.append(_about(case, error.code, error.sentence, "error"))
    return facts, findings, content


def _check_label(
    path: Path, image: Volume | None, spec: ModelSpec | None, settings: CheckSettings
) -> tuple[tuple[int, ...] | None, tuple[Notice, ...]]:
    """Return the label's values (deep only) and notices, or raise an error if it is wrong."""
    notices: tuple[Notice, ...] = ()
    labels = settings.labels
    if labels is None and spec is not None:
        labels = LabelList(spec.labels, spec.ignore, spec.unlabelled or ())
    if settings.deep and image is not None and labels is not None:
        mask, notices = read_reference(
            path, image, labels.labels, settings.label_map, labels.ignore, labels.unlabelled
        )
        return _values(mask.array), notices
    if annotation_file(path) is not None and format_of(path) is DICOM:
        sentence = (
            "the label is a DICOM SEG or RTSTRUCT, whose segments can only be matched to the "
            "labels of a model; check it with --deep and --model"
        )
        return None, (Notice("label_unchecked", sentence),)
    scan = read_label_map(path, "label", survey=not settings.deep)
    notices = scan.notices
    if image is not None:
        _, more = on_grid_of(scan.volume, image, "label")
        notices += more
    if not settings.deep:
        return None, notices
    array, more = integral(scan.volume.array, "label")
    return _values(array), (*notices, *more)


def _values(array: np.ndarray) -> tuple[int, ...]:
    """Return the values of a label map other than 0."""
    return tuple(value for value in label_values(array) if value)


def _content_hash(volume: Volume) -> str:
    """Return a hash of shape and voxels that does not depend on file format or storage order."""
    array = canonical(volume).array
    digest = hashlib.sha256(repr(array.shape).encode())
    for k in range(array.shape[2]):
        digest.update(np.ascontiguousarray(array[:, :, k], np.float32).tobytes())
    return digest.hexdigest()


def _about(
    case: Case, code: str, sentence: str, severity: Literal["error", "warning"] = "warning"
) -> Finding:
    """Return a finding about a case."""
    return Finding(severity, code, sentence, case.case_id, case.line)


def _range(triples: Sequence[tuple[float, float, float]]) -> str:
    """Return the smallest and the largest value of each axis."""
    axes = [(min(axis), max(axis)) for axis in zip(*triples, strict=True)]
    return " x ".join(
        f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g}-{high:.4g}"
        for low, high in axes
    )


def _divided(cases: Sequence[Case]) -> Iterator[Finding]:
    """Yield a finding for each group in several splits or folds."""
    for column in ("split", "fold"):
        parts: dict[str, dict[str, Case]] = {}
        for case in cases:
            value = case.split if column == "split" else dict(case.extras).get(column)
            if case.group and value:
                parts.setdefault(case.group, {}).setdefault(value, case)
        for group, found in parts.items():
            if len(found) > 1:
                where = " and ".join(f"{value} (line {case.line})" for value, case in found.items())
                sentence = (
                    f"group {group!r} has cases in {column} {where}, so scores would be too good; "
                    f"keep each group in one {column}, as `voxtile manifest split` does"
                )
                yield _about(list(found.values())[-1], "group_divided", sentence, "error")


def _repeated(cases: Sequence[Case]) -> Iterator[Finding]:
    """Yield a finding for each file that several rows name."""
    images: dict[tuple[str, ...], list[Case]] = {}
    labels: dict[Path, list[Case]] = {}
    for case in cases:
        choice = (case.series or "", str(case.volume or 0))
        paths = (str(path.absolute()) for _, path in case.images)
        images.setdefault((*paths, *choice), []).append(case)
        if case.label is not None:
            labels.setdefault(case.label.absolute(), []).append(case)
    yield from _alike(images.values(), "same_image", "name one image")
    for group in labels.values():
        if len(group) > 1:
            names = first_few([case.case_id for case in group])
            yield _about(group[-1], "same_label", f"cases {names} name one label")


def _alike(groups: Iterable[Sequence[Case]], code: str, what: str) -> Iterator[Finding]:
    """Yield a finding for cases with the same scan: an error if their splits differ."""
    for group in groups:
        if len(group) < 2:
            continue
        sentence = f"cases {first_few([case.case_id for case in group])} {what}"
        if len({case.split for case in group}) > 1:
            sentence += " but are in different splits; remove all but one"
            yield _about(group[-1], code, sentence, "error")
        else:
            yield _about(group[-1], code, sentence)


def _unlabelled(cases: Sequence[Case]) -> Iterator[Finding]:
    """Yield a finding for each case that training would refuse because it has no label."""
    for case in cases:
        if case.label is None and case.split in ("train", "val"):
            sentence = (
                f"the case has split {case.split!r} but no label, which training needs; add one"
            )
            yield _about(case, "no_label", sentence)
