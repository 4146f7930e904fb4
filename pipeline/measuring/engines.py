"""Measure every engine and precision of this machine against float32, on planes as a run has them.

cases -> volumes -> canonical -> some planes of each view -> prepared -> tiles
|  reference engine  -> labels, float32
|  every other        -> labels, compared
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from voxtile.case import read_manifest
from voxtile.engines import Engine, Model, load_models
from voxtile.engines.engine import ENGINES, EngineName, engines_for
from voxtile.engines.measurements import (
    PHANTOM,
    Evidence,
    Measurement,
    keep_evidence,
    processor_kind,
    published_evidence,
    read_evidence,
)
from voxtile.engines.quantised import quantise, quantised_digest
from voxtile.errors import ManifestError, ModelError
from voxtile.machine.files import write_text
from voxtile.machine.processors import thread_count
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import ModelSpec
from voxtile.preparation.planes import to_planes
from voxtile.scoring.overlap import Overlap

from .samples import Sample, evenly, judge_samples, phantom_samples, samples_of

_HEADING = "## Engines, verified"
# Tiles that show what numbers a network has to do with; NNCF's own default is 300, of photographs.
_CALIBRATION_TILES = 100


def verify_model(
    name: str | Path,
    manifest: Path | None = None,
    *,
    root: Path | None = None,
    cases: int = 4,
    planes: int = 16,
    say: Callable[[str], None] = lambda line: None,
) -> Evidence:
    """Measure the engines for one bundle on this machine's processor, and keep what was found.

    Parameters
    ----------
    name : str or Path
        Name of a shipped bundle, or a folder.
    manifest : Path, optional
        Of cases like those to come; a phantom unless given, which shows
        speed, but allows no reduced precision.
    root : Path, optional
        Where the manifest's relative paths begin.
    cases, planes : int
        At most so many cases, evenly chosen, and planes of each view.
    say : callable
        Takes a line about what could not be measured, or counts no more than
        what is known.

    Notes
    -----
    Where NNCF is installed and there is a manifest, networks in 8-bit integers
    are made and measured as well. As many cases that are not judged show what
    numbers to expect, or the same ones where there are no others.

    Returns
    -------
    Evidence
        The first measurement is the reference: Keras in float32, or ONNX
        Runtime for ``.onnx`` networks.

    Raises
    ------
    ManifestError, CaseError, ModelError
    """
    bundle = load_bundle(name)
    if bundle.others:
        raise ModelError(f"{bundle.name} are several models; verify one after the other")
    engines = list(_engines(bundle))
    if manifest is None:
        samples = phantom_samples(bundle.spec, planes)
    else:
        listed = read_manifest(manifest, root=root)
        if not listed:
            raise ManifestError([f"{manifest} has no cases"])
        judged = evenly(len(listed), cases)
        samples = samples_of(bundle.spec, [listed[place] for place in judged], planes)
        if _can_quantise():
            # What numbers were made to fit is no proof of how well they fit.
            others = [case for place, case in enumerate(listed) if place not in judged] or listed
            some = [others[place] for place in evenly(len(others), cases)]
            try:
                _quantise(bundle, samples_of(bundle.spec, some, planes, labelled=False))
                engines.append(Engine("openvino", "int8"))
            except ModelError as error:  # it costs its own row
                say(f"warning: {error}")
    labelled = all(sample.label is not None for sample in samples)
    measurements: list[Measurement] = []
    reference: list[np.ndarray] = []
    for engine in engines:
        models = [_Timed(model) for model in load_models(bundle, engine)]
        found = judge_samples(bundle, models, samples)
        reference = reference or found
        tiles, seconds = sum(one.tiles for one in models), sum(one.seconds for one in models)
        measurements.append(
            Measurement(
                engine=_name(engine),
                precision=engine.precision,
                version=version(ENGINES[_name(engine)].package),
                agreement=_agreement(found, reference),
                dice_change=_changes(bundle.spec, samples, found, reference),
                tiles_per_s=round(tiles / seconds, 2),
                made=(quantised_digest(bundle) or "") if engine.precision == "int8" else "",
            )
        )
    evidence = Evidence(
        sha256=bundle.sha256,
        processor=processor_kind(),
        threads=thread_count(),
        source=PHANTOM if manifest is None else manifest.name,
        cases=len({sample.case_id for sample in samples}),
        planes=sum(len(sample.indices) for sample in samples),
        labelled=labelled,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        measurements=tuple(measurements),
    )
    keep_evidence(evidence)
    known = read_evidence(bundle)
    if not evidence.on_scans and known is not None and known.on_scans:
        say(
            f"note: --precision auto goes by what was measured on {known.source} "
            f"({known.date[:10]}), which a phantom does not replace"
        )
    return evidence


def save_evidence(name: str | Path, evidence: Evidence) -> Path:
    """Publish evidence in a bundle's README.md and spec.json; its identity stays the same.

    Returns
    -------
    Path
        The README.

    Raises
    ------
    ModelError
        If it was measured on a phantom, and would replace what was measured
        on scans.
    EnvironmentFault
        If the bundle cannot be written.
    """
    bundle = load_bundle(name)
    if not evidence.on_scans:
        for known in published_evidence(bundle):
            same = (known.sha256, known.processor) == (evidence.sha256, evidence.processor)
            if same and known.on_scans:
                raise ModelError(
                    f"{bundle.folder} has a table measured on {known.source}, which one of a "
                    "phantom would replace; give a MANIFEST, or leave --save out"
                )
    published = bundle.spec.training.get("verified", [])
    others = [
        one
        for one in (published if isinstance(published, list) else [])
        if isinstance(one, dict) and one.get("processor") != evidence.processor
    ]
    # Through JSON, so that what is kept is what is read.
    entries = json.loads(json.dumps([*others, evidence.as_json()]))
    spec = bundle.spec.model_copy(
        update={"training": {**bundle.spec.training, "verified": entries}}
    )
    write_text(bundle.folder / "spec.json", spec.dump())
    readme = bundle.folder / "README.md"
    before = readme.read_text() if readme.is_file() else f"# {spec.name}\n"
    write_text(readme, _with_section(before, "\n".join(_markdown(entries))))
    return readme


@dataclass(slots=True)
class _Timed:
    """A model that counts its tiles and seconds; what a first call compiles is not counted."""

    model: Model
    seconds: float = 0.0
    tiles: int = 0
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Return the predictions for a batch of tiles."""
        if tiles.shape not in self.shapes:
            self.shapes.add(tiles.shape)
            self.model(tiles)
        begin = time.perf_counter()
        answer = self.model(tiles)
        self.seconds += time.perf_counter() - begin
        self.tiles += len(tiles)
        return answer


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A model that keeps the tiles that it is given."""

    model: Model
    tiles: list[np.ndarray] = field(default_factory=list)

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Return the predictions for a batch of tiles."""
        self.tiles.extend(np.array(tile) for tile in tiles)
        return self.model(tiles)


def _engines(bundle: Bundle) -> Iterator[Engine]:
    """Yield the engines of this machine that can run a bundle on the processor, reference first."""
    able = engines_for({Path(network.file).suffix for network in bundle.spec.networks})
    for name in sorted(able, key=lambda name: ENGINES[name].translates):
        if ENGINES[name].installed:
            for precision in ENGINES[name].load_module().precisions():
                if precision != "int8":  # which has to be made first
                    yield Engine(name, precision)


def _can_quantise() -> bool:
    """Whether NNCF is installed, and the processor multiplies integers of 8 bits."""
    if find_spec("openvino") is None or find_spec("nncf") is None:
        return False
    from voxtile.engines.openvino_engine import precisions

    return "int8" in precisions()


def _quantise(bundle: Bundle, samples: Sequence[Sample]) -> None:
    """Make a bundle's networks in integers, from the tiles that some planes give."""
    float32 = load_models(bundle, Engine("openvino"))
    gathered: list[list[np.ndarray]] = [[] for _ in float32]
    # A network is given the planes of its own views alone.
    shares = [
        -(-_CALIBRATION_TILES // sum(sample.view in network.views for sample in samples))
        for network in bundle.spec.networks
    ]
    for sample in samples:
        models = [_Recorded(model) for model in float32]
        judge_samples(bundle, models, [sample])
        for tiles, model, share in zip(gathered, models, shares, strict=True):
            tiles += [model.tiles[place] for place in evenly(len(model.tiles), share)]
    for network, tiles in zip(bundle.spec.networks, gathered, strict=True):
        quantise(bundle, network, tiles)


def _name(engine: Engine) -> EngineName:
    """Return the name of an engine that is no callable."""
    assert engine.name != "callable"
    return engine.name


def _agreement(found: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """Return the share of voxels with the same label."""
    same = sum(int(np.count_nonzero(a == b)) for a, b in zip(found, reference, strict=True))
    return same / sum(masks.size for masks in reference)


def _changes(
    spec: ModelSpec,
    samples: Sequence[Sample],
    found: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
) -> dict[str, float]:
    """Return for each label how its Dice changes, as `Measurement` says."""
    changes = {}
    for label in spec.labels:
        moved = []
        for sample, mine, theirs in zip(samples, found, reference, strict=True):
            if sample.label is None:
                moved.append(_dice(mine, theirs, label.values) - 1)
            else:
                truth = to_planes(sample.label, sample.view)[list(sample.indices)]
                moved.append(_dice(mine, truth, label.values) - _dice(theirs, truth, label.values))
        known = [change for change in moved if not np.isnan(change)]
        if known:
            changes[label.name] = float(np.mean(known))
    return changes


def _dice(mask: np.ndarray, truth: np.ndarray, values: Sequence[int]) -> float:
    """Return the Dice of one label; NaN where neither has it."""
    mine, theirs = np.isin(mask, values), np.isin(truth, values)
    both = int(np.count_nonzero(mine & theirs))
    return Overlap(
        tp=both,
        fp=int(np.count_nonzero(mine)) - both,
        fn=int(np.count_nonzero(theirs)) - both,
    ).dice


def _with_section(text: str, section: str) -> str:
    """Return a README with its section of measurements replaced, or added."""
    head, found, tail = text.partition(f"\n{_HEADING}\n")
    after = tail.partition("\n## ") if found else ("", "", "")
    rest = after[1] + after[2] if after[1] else "\n"
    return f"{head.rstrip()}\n\n{_HEADING}\n\n{section}\n{rest}"


def _markdown(entries: Sequence[dict[str, object]]) -> Iterator[str]:
    """Yield the published tables."""
    for entry in entries:
        evidence = Evidence.of_json(entry)
        against = "the cases' labels" if evidence.labelled else "the mask of the first row"
        yield (
            f"By `voxtile models verify`, {evidence.date[:10]}: {evidence.planes} planes of "
            f"{evidence.cases} cases of `{evidence.source}`, {evidence.threads} threads of "
            f"{evidence.processor}. Agreement with the labels of the first row; change of the mean "
            f"Dice against {against}."
        )
        yield ""
        yield "| engine | precision | agreement | Dice change | tiles/s |"
        yield "|---|---|---|---|---|"
        for one in evidence.measurements:
            yield (
                f"| {one.engine} {one.version} | {one.precision} | {one.agreement:.4%} | "
                f"{one.change} | {one.tiles_per_s:.1f} |"
            )
        yield ""
