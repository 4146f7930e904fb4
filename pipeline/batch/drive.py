"""Run a manifest: process every case that is not done yet, then write tables and ``run.json``."""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.engines import CALLABLE, Engine, Model
from voxtile.engines.function import function_bundle, function_models
from voxtile.errors import UsageError
from voxtile.inference.segmenter import make_plans
from voxtile.machine.processes import needing_threads
from voxtile.machine.versions import installed_version
from voxtile.manifest.listing import Listed, is_source, list_source
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.quality import read_quality
from voxtile.models.spec import ModelSpec
from voxtile.run.job import Job, chosen_cases, with_memory
from voxtile.run.settings import RunSettings
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.facts import KEY, new_facts, refuse_mixed
from voxtile.run_folder.fingerprint import content_hash
from voxtile.run_folder.kept_manifest import kept_hashes
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.lock import locked
from voxtile.run_folder.protection import Input, inputs_of, manifest_input, protect, refuse_foreign
from voxtile.run_folder.shard import Shard

from . import agreement, folder
from .case_loop import CaseLoop, RunResult
from .cluster import connected
from .events import Listener
from .interrupt import listening
from .settings import BatchSettings

_PACKAGES = ("numpy", "scipy", "nibabel", "pydicom", "highdicom", "isal", "keras", "tensorflow")


def run_manifest(
    manifest: str | Path | Listed,
    model: str | Path | Bundle | ModelSpec,
    out: str | Path,
    *,
    root: str | Path | None = None,
    settings: RunSettings | None = None,
    batch: BatchSettings | None = None,
    network: Model | None = None,
    models: Sequence[Model] | None = None,
    on_case: Callable[[CaseReport, int, int], None] | None = None,
    on_event: Listener | None = None,
) -> RunResult:
    """Segment and score every case of a manifest that is not done yet.

    Parameters
    ----------
    manifest : str or Path
        A manifest; or a folder or file of scans, listed as by `voxtile manifest build`.
    model : str, Path, Bundle or ModelSpec
        Name of a shipped bundle, path of a folder, or the spec of `network`.
    out : str or Path
        Run folder; created if it is missing. Cases that it has finished, unchanged, stay.
    root : str or Path, optional
        Folder that the manifest's relative paths start from; by default its own.
    settings : RunSettings, optional
        How each case is processed; these settings change results.
    batch : BatchSettings, optional
        How many cases run at once, and how much each may use; results do not
        change. By default, cases run one after another in this process.
    network : callable, optional
        Your own network, as the spec `model` says; for workers, a function of a module.
    models : sequence of callables, optional
        The same, one for each network of a bundle; not tried before the run.
    on_case : callable, optional
        Called with each finished report, its number from 1, and the number of all cases.
    on_event : callable, optional
        Called with each `voxtile.batch.events.Event`.

    Returns
    -------
    RunResult
        A failed case has a report with the reason; other cases still run.

    Raises
    ------
    ManifestError
        If the manifest has problems, an input would be lost, or `out` is no run folder.
    ModelError
        If the bundle or the network is refused; nothing was run.
    EnvironmentFault
        If results cannot be written, or another run holds the folder.
    KeyboardInterrupt
        If a signal stopped the run; call this again to continue.
    """
    settings, batch = settings or RunSettings(), batch or BatchSettings()
    settings = replace(settings, engine=batch.engine(settings.engine))
    manifest = listed_or_path(manifest, Path(out), root)
    own = _own_network(model, network, models)
    job, cases, facts = _prepared(manifest, model, Path(out), root, settings, batch, own)
    with (
        locked(job.out, batch.shard),
        listening(at_once=batch.in_process) as stop,
        connected(batch.cluster, job.out) as client,
        needing_threads(),
    ):
        text = manifest.text if isinstance(manifest, Listed) else None
        _refuse_unfit(job, cases, batch, facts, text)
        folder.prepare(job.folder, cases, batch.shard, job.bundle.spec.channels)
        return CaseLoop(job, cases, batch, stop, facts, client, text).run(on_case, on_event)


def rehearse_run(
    manifest: str | Path | Listed,
    model: str | Path | Bundle,
    out: str | Path,
    *,
    root: str | Path | None = None,
    settings: RunSettings | None = None,
    batch: BatchSettings | None = None,
) -> tuple[Case, ...]:
    """Return the cases of a run; write nothing. Errors as from `run_manifest` before its start."""
    settings, batch = settings or RunSettings(), batch or BatchSettings()
    settings = replace(settings, engine=batch.engine(settings.engine))
    manifest = listed_or_path(manifest, Path(out), root)
    job, cases, facts = _prepared(manifest, model, Path(out), root, settings, batch, None)
    text = manifest.text if isinstance(manifest, Listed) else None
    _refuse_unfit(job, cases, batch, facts, text)
    return cases


def listed_or_path(
    manifest: str | Path | Listed,
    out: Path,
    root: str | Path | None,
    on_files: Callable[[int, int], None] | None = None,
) -> Path | Listed:
    """Return the path of a manifest, or the cases of a folder or file of scans.

    `on_files` is called with (files done, all files) while headers are read.
    """
    if not isinstance(manifest, Listed):
        manifest = Path(manifest)
        if not is_source(manifest):
            return manifest
    if root is not None:
        raise UsageError(
            "--root is for the paths of a manifest; leave it out for a folder of scans"
        )
    return manifest if isinstance(manifest, Listed) else list_source(manifest, out, on_files)


# Functions that run instead of a bundle's networks, and what a run records of them.
_Own = tuple[tuple[Model, ...], Engine]


def _own_network(
    model: str | Path | Bundle | ModelSpec, network: Model | None, models: Sequence[Model] | None
) -> _Own | None:
    """Return the functions that the caller gave as networks; UsageError without a spec for one."""
    if network is None:
        if isinstance(model, ModelSpec):
            raise UsageError("a ModelSpec has no networks; pass network=..., or name a model")
        return None if models is None else (tuple(models), CALLABLE)
    if models is not None or not isinstance(model, ModelSpec | Bundle):
        raise UsageError("network needs a ModelSpec as the model, and no models")
    return function_models(network, function_bundle(model).spec)


def _prepared(
    manifest: Path | Listed,
    model: str | Path | Bundle | ModelSpec,
    out: Path,
    root: str | Path | None,
    settings: RunSettings,
    batch: BatchSettings,
    own: _Own | None,
) -> tuple[Job, tuple[Case, ...], dict[str, Any]]:
    """Return the job, the cases of this shard, and the content of ``run.json``; write nothing."""
    cases = chosen_cases(manifest, root, settings)
    bundle = load_bundle(model) if isinstance(model, str | Path) else function_bundle(model)
    wish = settings.plan
    if batch.cluster is None:
        wish = with_memory(wish, batch.at_once)
    else:  # other machines have another current folder, and memory of their own
        out, cases = out.absolute(), tuple(map(_absolute_case, cases))
        bundle = _absolute_bundle(bundle)
    folders = [] if isinstance(model, ModelSpec) else [one.folder for one in bundle.members]
    _protect_inputs(manifest, cases, folders, batch, out)
    if isinstance(manifest, Listed):
        path, digest = RunFolder(out).manifest, manifest.sha256
    else:
        path, digest = manifest, content_hash(manifest)
    job = Job(
        bundle=bundle,
        plans=make_plans(bundle, wish, known=own is None),
        settings=settings,
        out=out,
        engine=agreement.engine_for(RunFolder(out), bundle, settings.engine, fresh=batch.fresh)
        if own is None
        else own[1],
        models=None if own is None else own[0],
        cases_sha256=_cases_sha256(digest, cases),
        quality=read_quality(bundle) if own is None else None,
    )
    facts = new_facts(path, digest, len(cases)) | _facts(job, cases, batch.shard)
    return job, cases if batch.shard is None else batch.shard.of(cases), facts


def _refuse_unfit(
    job: Job,
    cases: Sequence[Case],
    batch: BatchSettings,
    facts: dict[str, Any],
    text: str | None,
) -> None:
    """Refuse a folder of other files, shards, settings or manifests; complete the facts."""
    channels = job.bundle.spec.channels
    if batch.shard is not None:
        refuse_mixed(job.folder, batch.shard.count)
    folder.refuse_others(job.folder, cases, batch.shard, channels)
    if not batch.fresh:
        agreement.refuse_other(job.folder, facts)
    facts |= kept_hashes(job.folder, text)


def _protect_inputs(
    manifest: Path | Listed,
    cases: Iterable[Case],
    models: Iterable[Path],
    batch: BatchSettings,
    out: Path,
) -> None:
    """Refuse a folder in which an input could be lost, or that is not a run folder."""
    inputs = list(inputs_of(cases))
    if not isinstance(manifest, Listed):
        inputs += manifest_input(manifest, RunFolder(out))
    inputs += [Input("the model", folder) for folder in models]
    if batch.cluster is not None and batch.cluster.settings is not None:
        inputs.append(Input("the cluster settings", batch.cluster.settings))
    protect(inputs, out)
    refuse_foreign(RunFolder(out))


def _absolute_case(case: Case) -> Case:
    """Return a case with absolute paths."""
    return replace(
        case,
        images=tuple((channel, path.absolute()) for channel, path in case.images),
        label=None if case.label is None else case.label.absolute(),
    )


def _absolute_bundle(bundle: Bundle) -> Bundle:
    """Return a bundle with absolute paths."""
    return replace(
        bundle, folder=bundle.folder.absolute(), others=tuple(map(_absolute_bundle, bundle.others))
    )


def _cases_sha256(manifest_sha256: str, cases: Iterable[Case]) -> str:
    """Return the hash of a manifest and of the cases that were chosen from it."""
    parts = [manifest_sha256, *(case.case_id for case in cases)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _facts(job: Job, cases: Iterable[Case], shard: Shard | None) -> dict[str, Any]:
    """Return what ``run.json`` says about a run in addition to `new_facts`."""
    return {
        "shard": None if shard is None else {"index": shard.index, "count": shard.count},
        "model": {
            "name": job.bundle.name,
            "sha256": job.bundle.sha256,
            "channels": list(job.bundle.spec.channels),
            "citations": _citations(job.bundle),
            "quality": None if job.quality is None else job.quality.sha256,
        },
        "plan": [plan.decisive() for plan in job.plans],
        "memory_mb": None if job.plans[0].memory_mb is None else round(job.plans[0].memory_mb),
        "engine": job.engine.facts(),
        "settings": job.settings_facts(),
        "by": list(job.settings.by),
        KEY: job.settings_sha256,
        "labels": [label.model_dump(mode="json") for label in job.bundle.spec.labels],
        "versions": {name: installed_version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "case_ids": [case.case_id for case in cases],
    }


def _citations(bundle: Bundle) -> list[str]:
    """Return the sources of the models' data as BibTeX, each once."""
    each = (one.spec.training.get("citations", ()) for one in bundle.members)
    return list(dict.fromkeys(str(entry) for entries in each for entry in entries))
