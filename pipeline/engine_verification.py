"""Measure every engine and precision of this machine against float32, on planes as a run has them.

cases -> volumes -> canonical -> some planes of each view -> prepared -> tiles
|  reference engine  -> labels, float32
|  every other        -> labels, compared
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np

from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import ModelError, ModelSpec, View, Window

from .case import read_manifest
from .decision import decide
from .engines import Engine, Model, load_models
from .engines.engine import EngineName
from .engines.evidence import PACKAGES, Evidence, Measurement, keep_evidence, processor_kind
from .engines.threads import thread_count
from .errors import ManifestError
from .files import write_text
from .inference import prepare_planes, resampling
from .intensity import measure
from .metrics import Overlap
from .phantom import Ellipsoid, centred_affine, draw
from .plan import make_plan
from .planes import neighbours, slice_axis, to_planes
from .prediction import Panel, predict_planes
from .reading import read_channels
from .reference import read_reference
from .volume import Volume, canonical

_HEADING = "## Engines, verified"
_PHANTOM_PLANES = 12


def verify_model(
    name: str | Path,
    manifest: Path | None = None,
    *,
    root: Path | None = None,
    cases: int = 4,
    planes: int = 16,
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
    samples, source = _samples(bundle.spec, manifest, root, cases, planes)
    labelled = all(sample.label is not None for sample in samples)
    if not labelled:
        samples = [replace(sample, label=None) for sample in samples]
    measurements: list[Measurement] = []
    reference: list[np.ndarray] = []
    for engine in _engines(bundle):
        found, seconds, tiles = _judge(bundle, engine, samples)
        reference = reference or found
        measurements.append(
            Measurement(
                engine=_name(engine),
                precision=engine.precision,
                version=version(PACKAGES[_name(engine)]),
                agreement=_agreement(found, reference),
                dice_change=_changes(bundle.spec, samples, found, reference),
                tiles_per_s=round(tiles / seconds, 2),
            )
        )
    evidence = Evidence(
        sha256=bundle.sha256,
        processor=processor_kind(),
        threads=thread_count(),
        source=source,
        cases=len({sample.case_id for sample in samples}),
        planes=sum(len(sample.indices) for sample in samples),
        labelled=labelled,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        measurements=tuple(measurements),
    )
    keep_evidence(evidence)
    return evidence


def save_evidence(name: str | Path, evidence: Evidence) -> Path:
    """Publish evidence in a bundle's README.md and spec.json; its identity stays the same.

    Returns
    -------
    Path
        The README.

    Raises
    ------
    EnvironmentFault
        If the bundle cannot be written.
    """
    bundle = load_bundle(name)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Some planes of one case along one view.

    Parameters
    ----------
    case_id : str
    volume : Volume
        Canonical, with channels last.
    label : ndarray or None
        Canonical label map.
    view : View
    indices : tuple of int
        Which planes.
    """

    case_id: str
    volume: Volume
    label: np.ndarray | None
    view: View
    indices: tuple[int, ...]


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


def _engines(bundle: Bundle) -> Iterator[Engine]:
    """Yield the engines of this machine that can run a bundle on the processor, reference first."""
    foreign = all(network.file.endswith(".onnx") for network in bundle.spec.networks)
    if foreign:
        yield Engine("onnx")
    else:
        yield Engine("keras")
        yield Engine("keras", "bfloat16")
    if find_spec("openvino") is not None:
        from .engines.openvino_engine import precisions

        for precision in precisions():
            yield Engine("openvino", precision)


def _name(engine: Engine) -> EngineName:
    """Return the name of an engine that is no callable."""
    assert engine.name != "callable"
    return engine.name


def _samples(
    spec: ModelSpec, manifest: Path | None, root: Path | None, cases: int, planes: int
) -> tuple[list[_Sample], str]:
    """Return planes to judge, and where they come from."""
    if manifest is None:
        return [_sample("phantom", _phantom(spec), None, view, planes) for view in spec.views], (
            "phantom"
        )
    listed = read_manifest(manifest, root=root)
    if not listed:
        raise ManifestError([f"{manifest} has no cases"])
    samples = []
    for place in _evenly(len(listed), cases):
        case = listed[place]
        image = read_channels(case, spec.channels).volume
        label = None
        if case.label is not None:
            label = canonical(read_reference(case.label, image, spec.labels)[0]).array
        samples += [_sample(case.case_id, image, label, view, planes) for view in spec.views]
    return samples, manifest.name


def _sample(
    case_id: str, image: Volume, label: np.ndarray | None, view: View, planes: int
) -> _Sample:
    """Return evenly chosen planes of a view."""
    ras = canonical(image)
    if ras.array.ndim == 3:
        ras = ras.with_array(ras.array[..., np.newaxis])
    return _Sample(case_id, ras, label, view, _evenly(ras.array.shape[slice_axis(view)], planes))


def _judge(
    bundle: Bundle, engine: Engine, samples: Sequence[_Sample]
) -> tuple[list[np.ndarray], float, int]:
    """Return the label maps of each sample's planes, the seconds in networks, and their tiles."""
    spec = bundle.spec
    plan = replace(make_plan(bundle), flips=())  # mirrored tiles would say nothing else
    models = [_Timed(model) for model in load_models(bundle, engine)]
    found = []
    for sample in samples:
        array = sample.volume.array
        scalings = [measure(array[..., index], spec.intensity) for index in range(array.shape[3])]
        planes = to_planes(array, sample.view)
        shape = planes.shape[1], planes.shape[2]
        there, back = resampling(sample.volume, sample.view, shape, spec)
        size = shape if there is None else there.shape

        def prepared(sample: _Sample = sample, planes=planes, scalings=scalings, there=there):  # type: ignore[no-untyped-def]
            for index in sample.indices:
                near = planes[neighbours(index, len(planes), spec.context_slices)]
                stack = prepare_planes(near, scalings, there, spec.context_slices)
                yield next(islice(stack, spec.context_slices // 2, None))

        panel = Panel(
            networks=tuple(
                (model, network.weight)
                for model, network in zip(models, spec.networks, strict=True)
                if sample.view in network.views
            ),
            classes=spec.output_channels,
        )
        tiling = plan.for_view(sample.view).for_plane(size)
        judged = predict_planes(prepared(), size, tiling, panel)
        found.append(
            np.stack(
                [decide(plane if back is None else back.apply(plane), spec) for plane in judged]
            )
        )
    return found, sum(m.seconds for m in models), sum(m.tiles for m in models)


def _agreement(found: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """Return the share of voxels with the same label."""
    same = sum(int(np.count_nonzero(a == b)) for a, b in zip(found, reference, strict=True))
    return same / sum(masks.size for masks in reference)


def _changes(
    spec: ModelSpec,
    samples: Sequence[_Sample],
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


def _evenly(count: int, most: int) -> tuple[int, ...]:
    """Return at most so many of `count` places, in the middle of equal parts.

    Examples
    --------
    >>> _evenly(10, 3), _evenly(2, 5)
    ((1, 5, 8), (0, 1))
    """
    parts = min(count, most)
    return tuple(int((part + 0.5) * count / parts) for part in range(parts))


def _phantom(spec: ModelSpec) -> Volume:
    """Return a scan with solids in noise that a spec's first view cuts into tile-sized planes."""
    rows, columns = spec.tile
    through = slice_axis(spec.views[0])
    shape = [rows, columns]
    shape.insert(through, _PHANTOM_PLANES)
    sized = (shape[0], shape[1], shape[2])
    spacing = spec.spacing_mm or (1.0, 1.0, 1.0)
    half = tuple(size * step / 2 for size, step in zip(sized, spacing, strict=True))
    solids = [
        Ellipsoid((0.0, 0.0, 0.0), (0.8 * half[0], 0.8 * half[1], 3 * half[2]), 600),
        Ellipsoid((0.2 * half[0], 0.0, 0.0), (0.4 * half[0], 0.3 * half[1], 2 * half[2]), 1000),
        Ellipsoid((-0.4 * half[0], 0.2 * half[1], 0.0), (0.2 * half[0], 0.2 * half[1], 20.0), 300),
    ]
    image, _ = draw(sized, centred_affine(sized, spacing), solids, noise=40.0)
    array = image.array
    if isinstance(spec.intensity, Window):  # what was drawn from 0 to 1000 fills the window
        low = spec.intensity.center - spec.intensity.width / 2
        array = (low + array * (spec.intensity.width / 1000)).astype(np.float32)
    if len(spec.channels) > 1:
        array = np.repeat(array[..., np.newaxis], len(spec.channels), axis=-1)
    return image.with_array(array)


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
