"""What a training run starts from: the rows of a manifest or a fold, and perhaps a bundle."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from voxtile.case import Case
from voxtile.manifest.rows import read_manifest
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.reading.scan import ReadPolicy
from voxtile.run_folder.fingerprint import content_hash
from voxtile.run_folder.protection import Input, inputs_of, protect
from voxtile.training.data.splits import gaps, split_cases
from voxtile.training.data.stored_cases import channel_names
from voxtile.training.folds.folds import Fold
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.warm_start import warm_start_facts

from .options import TrainOptions
from .workfolder import work_path


@dataclass(frozen=True, slots=True)
class Source:
    """What a training run starts from: rows of cases, and perhaps a bundle or a fold."""

    manifest: Path
    manifest_sha256: str
    name: str
    description: str
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    channels: tuple[str, ...]
    optional: tuple[str, ...]  # channels that some cases lack
    start: Bundle | None
    fold: Fold | None
    policy: ReadPolicy
    longer: bool = False  # whether `start` is the finished model, which is trained further

    def identity(self, recipe: Recipe) -> dict[str, Any]:
        """Return what must be the same when the training run continues."""
        return {
            "voxtile-training": 1,
            "recipe": to_jsonable_python(recipe),
            "training cases": [case.case_id for case in self.training],
            "validation cases": [case.case_id for case in self.validation],
            "init": None if self.start is None else self.start.sha256,
            **({"longer": True} if self.longer else {}),
            **reading_facts(self.policy),
        }

    def init_facts(self) -> tuple[dict[str, Any], int]:
        """Return facts about the bundle to start with, and how many cases give scores."""
        if self.start is None or self.longer:
            return {}, 0
        scored = self.validation if self.fold is None else self.fold.held_out
        return warm_start_facts(self.start, [case.case_id for case in scored]), len(scored)


def read_source(
    manifest: Path,
    name: str,
    options: TrainOptions,
    fold: Fold | None,
    finished: Bundle | None = None,
) -> Source:
    """Read the manifest, unless a fold replaces it, and the bundle to start with.

    `finished` is the model that is trained further.
    """
    start = finished if options.init is None else load_bundle(options.init)
    if fold is None:
        cases, sha256 = read_manifest(manifest, root=options.root), content_hash(manifest)
    else:
        cases, sha256 = fold.cases, fold.manifest_sha256
    chosen = split_cases(cases, manifest, held_out=options.validation)
    training, validation = map(tuple, chosen)
    channels = channel_names(training, options.policy)
    others = (*validation, *(fold.held_out if fold else ()))
    return Source(
        manifest=manifest,
        manifest_sha256=sha256,
        name=name,
        description=options.description or (finished.spec.description if finished else ""),
        training=training,
        validation=validation,
        channels=channels,
        optional=gaps(training, others, channels, manifest),
        start=start,
        fold=fold,
        policy=options.policy,
        longer=finished is not None,
    )


def reading_facts(policy: ReadPolicy) -> dict[str, Any]:
    """Return how scans are read as an entry for records; no entry if nothing was chosen."""
    chosen, usual = asdict(policy), asdict(ReadPolicy())
    chosen = {name: value for name, value in chosen.items() if value != usual[name]}
    return {"reading": chosen} if chosen else {}


def protect_inputs(source: Source, out: Path, options: TrainOptions) -> None:
    """Refuse to train if an output could replace an input."""
    inputs = [Input("the manifest", source.manifest)]
    inputs += inputs_of((*source.training, *source.validation))
    inputs += inputs_of(source.fold.held_out if source.fold else ())
    if source.start is not None and not source.longer:
        inputs += [Input("the model of --init", one.folder) for one in source.start.members]
    if options.licence is not None:
        inputs.append(Input("the licence", Path(options.licence)))
    protect(inputs, out, work_path(out))
    if options.tensorboard is not None:
        # Only new files are added to this folder, so it may hold other files.
        series = [one for one in inputs if one.path.is_dir()]
        protect(series, Path(options.tensorboard), advice="name another folder for --tensorboard")
