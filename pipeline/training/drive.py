"""`train`: from a manifest with labels to a trained bundle.

Everything is written to a hidden folder beside the output and moved there in
one step at the end: a folder under the final name is always a whole bundle.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from voxtile.case import read_manifest
from voxtile.domain import describe_scan, training_domain
from voxtile.errors import EnvironmentFault
from voxtile.models.backend import keras
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.unet import build_unet
from voxtile.progress import show_progress

from .coach import Coach
from .fit import fit
from .packing import make_spec, provenance, publish, write_bundle
from .preparation import store_cases, store_planes
from .recipe import Recipe, settle, settled
from .splits import check_values, split_cases


def train(
    manifest: str | Path,
    out: str | Path,
    *,
    root: str | Path | None = None,
    recipe: Recipe | None = None,
    description: str = "",
    licence: str | Path | None = None,
    progress: bool = True,
) -> Bundle:
    """Train a U-Net on a manifest's train split and write a bundle.

    Parameters
    ----------
    manifest : str or Path
        Rows with split ``train`` are learnt from, rows with split ``val``
        choose the checkpoint and give the scores; others are not read.
    out : str or Path
        Folder of the bundle; its name is the bundle's. It must not exist.
    root : str or Path, optional
        Where the manifest's relative paths begin.
    recipe : Recipe, optional
        What is left open in it follows the rules of `voxtile.training.recipe.settle`.
    description : str
        One sentence for the model card.
    licence : str or Path, optional
        Text file with the licence of the weights, kept as LICENSE. Weights
        carry the licence of the data they were trained on.
    progress : bool, default True
        Whether to show progress on standard error: a bar on a terminal, else
        a line per epoch.

    Returns
    -------
    Bundle
        Read back from `out` and verified.

    Notes
    -----
    While it runs, cases and the checkpoint lie in a hidden folder
    ``.<name>.*.tmp`` beside `out`. An interruption removes it and leaves
    nothing; only a killed process leaves it behind, to be deleted by hand.

    Raises
    ------
    ManifestError
        With every case that cannot be trained on, and why.
    ValueError
        If the recipe contradicts itself or does not fit the cases.
    EnvironmentFault
        If `out` exists or the disk refuses.
    """
    manifest, out = Path(manifest), Path(out)
    recipe = recipe or Recipe()
    if out.exists():
        raise EnvironmentFault(f"{out} exists; choose another name or remove it first")
    licence_text = None if licence is None else Path(licence).read_bytes()
    cases = read_manifest(manifest, root=root)
    training, validation = split_cases(cases, manifest)
    keras.utils.set_random_seed(recipe.seed)
    with _working_folder(out) as work, show_progress(shown=progress) as shown:
        begin = monotonic()
        shown.begin("reading cases", len(training + validation))
        stored = store_cases(
            training + validation,
            work,
            labels=recipe.labels,
            manifest=manifest,
            advance=shown.advance,
        )
        learnt, judged = stored[: len(training)], stored[len(training) :]
        recipe = settle(recipe, [case.extent for case in learnt])
        check_values(judged, validation, recipe, manifest)
        channels = tuple(channel for channel, _ in training[0].images)
        spec = make_spec(out.name, description, channels, recipe, manifest)
        stacks = []
        shown.begin("cutting planes", len(learnt))
        scans = []
        for case in learnt:
            scans.append(describe_scan(case.volume, spec.channels, spec.intensity))
            stacks.append(store_planes(case, recipe, work))
            case.remove()
            shown.advance()
        network = build_unet(
            (None, None, spec.input_channels),
            spec.output_channels,
            filters=recipe.filters,
            depth=settled(recipe.depth),
            normalisation=recipe.normalisation,
            dropout=recipe.dropout,
            activation=spec.activation,
        )
        coach = Coach(network, spec, recipe, judged, work, shown)
        fit(network, stacks, spec, recipe, coach)
        facts = {
            "seconds": round(monotonic() - begin, 1),
            "parameters": network.count_params(),
            **provenance(manifest, training, validation, recipe),
            **coach.facts(),
            "domain": training_domain(scans),
        }
        write_bundle(work, spec, facts, coach.history, licence_text)
        publish(work / "bundle", out)
    return load_bundle(out)


@contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    """Make a hidden folder beside the output, on the same disk, and remove it at the end."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.", suffix=".tmp", dir=out.parent))
    except OSError as error:
        raise EnvironmentFault(
            f"nothing can be written beside {out} ({error.strerror}); choose another place"
        ) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
