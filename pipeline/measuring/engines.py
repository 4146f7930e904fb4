"""Compare the labels of every engine and precision here with float32, on planes of scans."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.case import Case
from voxtile.engines import Engine, Model, load_models
from voxtile.engines.engine import ENGINES, Precision, engines_for
from voxtile.engines.measurements import (
    PHANTOM,
    Evidence,
    Measurement,
    keep_evidence,
    processor_kind,
    published_evidence,
    read_evidence,
)
from voxtile.errors import ManifestError, ModelError, counted
from voxtile.machine.clock import now
from voxtile.machine.files import write_text
from voxtile.machine.processors import thread_count
from voxtile.machine.versions import installed_version
from voxtile.manifest.rows import read_manifest
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import ModelSpec
from voxtile.preparation.planes import to_planes

from .dice_change import dice_change
from .int8 import int8_facts, int8_measurements
from .samples import Sample, evenly, judge_samples, phantom_samples, samples_of

_HEADING = "## Engines, verified"
# Number of tiles from which the scales of integers are chosen; NNCF's default is 300 photographs.
_CALIBRATION_TILES = 100


def verify_model(
    name: str | Path,
    manifest: Path | None = None,
    *,
    root: Path | None = None,
    cases: int = 8,
    planes: int = 16,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Evidence:
    """Measure the engines for one bundle on a device of this machine, and cache the evidence.

    If NNCF is installed and there is a manifest, networks in 8-bit integers
    are made and measured as well, if need be without their most sensitive layers
    (`int8`). Their scales are chosen from as many other cases of the manifest, or
    from the same ones if there are no others.

    The manifest should have cases like those of later runs. Without it a phantom is measured,
    which shows speed, but allows no reduced precision. At most `cases` cases, evenly chosen, and
    `planes` planes of each view are measured. `say` is called with a line about a precision that
    could not be measured, or about unused evidence. On a processor, the first measurement is the
    reference: Keras in float32, or ONNX Runtime for ``.onnx`` networks. On a GPU (`device` "gpu" or
    "gpu:N"), Keras in float32, bfloat16 and float16 is compared with Keras in float32 on the
    processor, and the networks are timed without copies.
    """
    bundle = load_bundle(name)
    if bundle.others:
        raise ModelError(f"{bundle.name} names several models; verify them one at a time")
    samples, scaling = _prepared(bundle, manifest, root, (cases, planes))
    reference: list[np.ndarray] = []
    if device != "cpu":
        reference += judge_samples(bundle, load_models(bundle, Engine("keras")), samples)
    engines = list(_engines(bundle) if device == "cpu" else _gpu_engines(bundle, device))
    measurements = tuple(_measure(bundle, engines, samples, reference))
    label_planes, label_voxels = _amounts(bundle.spec, samples, reference)
    evidence = Evidence(
        sha256=bundle.sha256,
        processor=processor_kind(device),
        threads=thread_count(),
        source=PHANTOM if manifest is None else manifest.name,
        cases=len({sample.case_id for sample in samples}),
        planes=sum(len(sample.indices) for sample in samples),
        labelled=all(sample.label is not None for sample in samples),
        date=now(),
        measurements=measurements,
        label_planes=label_planes,
        label_voxels=label_voxels,
    )
    if device == "cpu" and scaling and _can_quantise():
        # Tiles that the scales were fitted to would not show how well they fit other tiles.
        others = samples_of(bundle.spec, scaling, planes, labelled=False)
        int8 = Engine("openvino", "int8")
        more = int8_measurements(
            bundle,
            _scaling_tiles(bundle, others),
            lambda: next(_measure(bundle, [int8], samples, reference)),
            evidence,
            say,
        )
        evidence = replace(evidence, measurements=(*measurements, *more))
    keep_evidence(evidence)
    _say_unused(bundle, evidence, say)
    return evidence


def _say_unused(bundle: Bundle, evidence: Evidence, say: Callable[[str], None]) -> None:
    """Say if `auto` uses other evidence than this."""
    known = read_evidence(bundle, evidence.processor)
    if not evidence.on_scans and known is not None and known.on_scans:
        say(
            f"note: --precision auto uses what was measured on {known.source} "
            f"({known.date[:10]}), which a phantom does not replace"
        )


def _prepared(
    bundle: Bundle, manifest: Path | None, root: Path | None, most: tuple[int, int]
) -> tuple[Sequence[Sample], Sequence[Case]]:
    """Return at most so many planes of so many cases, and the cases that int8 is scaled by."""
    cases, planes = most
    if manifest is None:
        return phantom_samples(bundle.spec, planes), ()
    listed = read_manifest(manifest, root=root)
    if not listed:
        raise ManifestError(f"{manifest} has no cases")
    compared = [listed[index] for index in evenly(len(listed), cases)]
    others = [case for case in listed if case not in compared] or listed
    scaling = [others[index] for index in evenly(len(others), cases)]
    return samples_of(bundle.spec, compared, planes), scaling


def _measure(
    bundle: Bundle,
    engines: Sequence[Engine],
    samples: Sequence[Sample],
    reference: list[np.ndarray],
) -> Iterator[Measurement]:
    """Yield the measurement of each engine; an empty `reference` gets the masks of the first."""
    for engine in engines:
        assert engine.name != "callable"
        models = [
            _Timed(model, alone=engine.device != "cpu") for model in load_models(bundle, engine)
        ]
        found = judge_samples(bundle, models, samples)
        reference.extend(() if reference else found)
        tiles, seconds = sum(one.tiles for one in models), sum(one.seconds for one in models)
        change = dice_change(bundle.spec, samples, found, reference)
        yield Measurement(
            engine=engine.name,
            precision=engine.precision,
            version=installed_version(ENGINES[engine.name].package) or "unknown",
            agreement=_agreement(found, reference),
            dice_change=change.by_label,
            dice_bound=change.bound,
            worst_change=change.worst,
            worst_label=change.worst_label,
            tiles_per_s=round(tiles / seconds, 2),
            **(int8_facts(bundle) if engine.precision == "int8" else {}),
        )


def save_evidence(name: str | Path, evidence: Evidence) -> Path:
    """Publish evidence in a bundle's README.md and spec.json, and return the path of the README.

    The bundle's SHA-256 stays the same. ModelError if the evidence was measured
    on a phantom, and would replace evidence that was measured on scans.
    """
    bundle = load_bundle(name)
    if not evidence.on_scans:
        for known in published_evidence(bundle):
            same = (known.sha256, known.processor) == (evidence.sha256, evidence.processor)
            if same and known.on_scans:
                raise ModelError(
                    f"{bundle.folder} has a table measured on {known.source}, which a table of a "
                    "phantom would replace; give a MANIFEST, or leave --save out"
                )
    published = bundle.spec.training.get("verified", [])
    others = [
        one
        for one in (published if isinstance(published, list) else [])
        if isinstance(one, dict) and one.get("processor") != evidence.processor
    ]
    # The JSON is parsed, so that the bundle in memory has the values that will be read.
    entries = json.loads(json.dumps([*others, asdict(evidence)]))
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
    """A model that counts its tiles and seconds, without the first call for each shape.

    With `alone` it is a `KerasNetwork`, whose copies to and from the device do not count.
    """

    model: Any
    alone: bool = False
    seconds: float = 0.0
    tiles: int = 0
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Return the predictions for a batch of tiles."""
        if tiles.shape not in self.shapes:
            self.shapes.add(tiles.shape)
            self.model(tiles)
        begin = time.perf_counter()
        answer: np.ndarray = self.model(tiles)
        taken = time.perf_counter() - begin
        self.seconds += self.model.seconds_alone(tiles) if self.alone else taken
        self.tiles += len(tiles)
        return answer


def _recording(model: Model, seen: list[np.ndarray]) -> Model:
    """Return a model that also adds its tiles to `seen`."""

    def predict(tiles: np.ndarray) -> np.ndarray:
        seen.extend(np.array(tile) for tile in tiles)
        return model(tiles)

    return predict


def _engines(bundle: Bundle) -> Iterator[Engine]:
    """Yield the engines of this machine that can run a bundle on the processor, reference first."""
    able = engines_for({Path(network.file).suffix for network in bundle.spec.networks})
    for name in sorted(able, key=lambda name: ENGINES[name].translates):
        if ENGINES[name].installed:
            for precision in ENGINES[name].load_module().precisions():
                if precision != "int8":  # int8 networks have to be made first
                    yield Engine(name, precision)


def _gpu_engines(bundle: Bundle, device: str) -> Iterator[Engine]:
    """Yield the engines that can run a bundle on a GPU, float32 first."""
    if not all(network.file.endswith(".keras") for network in bundle.spec.networks):
        raise ModelError(
            f"{bundle.folder} has .onnx networks, which are verified on a processor only; leave "
            "--device out"
        )
    precisions: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
    for precision in precisions:
        yield Engine("keras", precision, device)


def _can_quantise() -> bool:
    """Whether NNCF is installed, and the processor multiplies integers of 8 bits."""
    engine = ENGINES["openvino"]
    if not engine.installed or find_spec("nncf") is None:
        return False
    return "int8" in engine.load_module().precisions()


def _scaling_tiles(bundle: Bundle, samples: Sequence[Sample]) -> list[list[np.ndarray]]:
    """Return for each network the tiles of some planes that the scales of integers come from."""
    float32 = load_models(bundle, Engine("openvino"))
    gathered: list[list[np.ndarray]] = [[] for _ in float32]
    # A network gets only the planes of its own views.
    shares = [
        -(-_CALIBRATION_TILES // sum(sample.view in network.views for sample in samples))
        for network in bundle.spec.networks
    ]
    for sample in samples:
        seen: list[list[np.ndarray]] = [[] for _ in float32]
        judge_samples(bundle, list(map(_recording, float32, seen)), [sample])
        for tiles, new, share in zip(gathered, seen, shares, strict=True):
            tiles += [new[index] for index in evenly(len(new), share)]
    return gathered


def _amounts(
    spec: ModelSpec, samples: Sequence[Sample], masks: Sequence[np.ndarray]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return in how many planes each label occurs, and how many voxels it has there."""
    planes = dict.fromkeys((label.name for label in spec.labels), 0)
    voxels = dict(planes)
    for sample, mask in zip(samples, masks, strict=True):
        shown = mask
        if sample.label is not None:
            shown = to_planes(sample.label, sample.view)[list(sample.indices)]
        for label in spec.labels:
            of_plane = np.isin(shown, label.values).sum(axis=(1, 2))
            planes[label.name] += int(np.count_nonzero(of_plane))
            voxels[label.name] += int(of_plane.sum())
    return planes, voxels


def _agreement(found: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """Return the fraction of voxels with the same label."""
    same = sum(int(np.count_nonzero(a == b)) for a, b in zip(found, reference, strict=True))
    return same / sum(masks.size for masks in reference)


def _with_section(text: str, section: str) -> str:
    """Return a README with its section of measurements replaced, or added."""
    head, _, tail = text.partition(f"\n{_HEADING}\n")
    _, mark, after = tail.partition("\n## ")
    rest = mark + after or "\n"
    return f"{head.rstrip()}\n\n{_HEADING}\n\n{section}\n{rest}"


def _markdown(entries: Sequence[dict[str, object]]) -> Iterator[str]:
    """Yield the published tables."""
    for entry in entries:
        evidence = Evidence.of_json(entry)
        against = "the cases' references" if evidence.labelled else "its mask"
        yield (
            f"By `voxtile models verify`, {evidence.date[:10]}: {evidence.amount} of "
            f"`{evidence.source}`, {counted(evidence.threads, 'thread')} of "
            f"{evidence.processor}. Agreement is with the labels of the reference engine; the "
            f"change of the mean Dice is against {against}."
        )
        yield ""
        yield "| engine | precision | agreement | Dice change | 95 % below | worst case | tiles/s |"
        yield "|---|---|---|---|---|---|---|"
        for one in evidence.measurements:
            layers = f", {one.layers}" if one.kept else ""
            yield (
                f"| {one.engine} {one.version} | {one.precision}{layers} | {one.agreement:.4%} | "
                f"{one.change} | {one.bound} | {one.worst} | {one.tiles_per_s:.1f} |"
            )
        yield ""
