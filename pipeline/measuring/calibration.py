"""`models calibrate`: learn from cases with references how the Dice of a model is predicted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxtile.case import Case, Split
from voxtile.engines import choose_engine
from voxtile.errors import CaseError, ManifestError, UsageError, counted, first_few
from voxtile.inference.segmenter import Segmenter, load_segmenter, make_plans
from voxtile.machine.files import regular, write_text
from voxtile.manifest.dealing import unit_name
from voxtile.manifest.rows import read_manifest
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.quality import FEWEST, FILE, Quality
from voxtile.preparation.plan import PlanWish
from voxtile.reading.channels import read_channels
from voxtile.reading.reference import read_reference
from voxtile.report.quality import Observation, learn_quality
from voxtile.run.observation import observe
from voxtile.run_folder.protection import Input, inputs_of, protect


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration that was written, and the cases that were left out."""

    path: Path
    quality: Quality
    problems: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Yield what was learned, for people."""
        yield from (f"left out: {problem}" for problem in self.problems)
        for one in self.quality.labels:
            yield f"label {one.label}: {counted(len(one.left_out), 'case')}, slope {one.slope:.2f}"
        yield f"calibration: {self.path}"


def calibrate_model(
    model: str,
    manifest: Path,
    *,
    root: Path | None = None,
    splits: Sequence[Split] = (),
    on_case: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Segment cases with references, and write ``quality.json`` into the folder of a model.

    UsageError for several models at once. ManifestError if a case trained the model, or if too few
    cases can be used; then nothing is written.
    """
    bundle, path = calibrated_alone(model)
    cases = [case for case in read_manifest(manifest, root=root) if _chosen(case, splits)]
    protect([Input("the manifest", manifest), *inputs_of(cases)], path)
    check_replaced(path)
    _check_cases(cases, bundle, manifest)
    segmenter = load_segmenter(bundle, make_plans(bundle, PlanWish()), choose_engine(bundle))
    observations, problems = [], []
    for number, case in enumerate(cases, start=1):
        try:
            observations.append(_observe(case, bundle, segmenter))
        except CaseError as error:
            problems.append(f"{case.case_id}: {error.code}: {error.sentence}")
        if on_case is not None:
            on_case(number, len(cases))
    words = counted(len(observations), "case")
    quality = learn_quality(bundle, observations, f"{words} of {manifest.name}")
    if quality is None:
        raise ManifestError(
            [
                *problems,
                f"{manifest}: {words} can be used, but at least {FEWEST} independent ones (column "
                "group) with a mask of a label are needed; add cases that did not train the model",
            ]
        )
    write_text(path, quality.dump())
    return Calibration(path, quality, tuple(problems))


def calibrated_alone(model: str) -> tuple[Bundle, Path]:
    """Return the bundle of one model, and the path of its calibration; refuse several models."""
    bundle = load_bundle(model)
    if bundle.others:
        raise UsageError(f"{model} names several models; calibrate each one alone")
    return bundle, bundle.folder / FILE


def check_replaced(path: Path) -> None:
    """Refuse to replace a file that is not a calibration."""
    if path.exists() and b"voxtile-quality" not in regular(path).read_bytes():
        raise ManifestError(f"{path} would be replaced, but is not a calibration; move it away")


def _chosen(case: Case, splits: Sequence[Split]) -> bool:
    """Whether a case is of the chosen splits; by default every case is."""
    return not splits or case.split in splits


def _check_cases(cases: Sequence[Case], bundle: Bundle, manifest: Path) -> None:
    """Refuse cases that trained the model."""
    training = bundle.spec.training
    seen = {*training.get("train", ()), *training.get("init", {}).get("seen", ())}
    trained = [case.case_id for case in cases if case.case_id in seen]
    if trained:
        raise ManifestError(
            f"{manifest}: the model was trained on {first_few(trained)}, so their Dice is too high "
            "to learn from; use other cases, for example --split val"
        )


def _observe(case: Case, bundle: Bundle, segmenter: Segmenter) -> Observation:
    """Read and segment one case."""
    spec = bundle.spec
    volume = read_channels(case, spec.channels, absent=spec.absent).volume
    if case.label is None:
        raise CaseError("no_label", "the case has no reference; add a column label")
    reference, _ = read_reference(case.label, volume, spec.labels)
    return observe(unit_name(case.group, case.case_id), volume, reference, spec, segmenter)
