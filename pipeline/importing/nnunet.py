"""A results folder of nnU-Net v2 -> a bundle that needs neither nnU-Net nor PyTorch.

nnUNetTrainer__nnUNetPlans__2d/
plans.json, dataset.json
fold_0/checkpoint_final.pth, fold_1/...      together an ensemble
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxtile.engines import Engine, load_models
from voxtile.engines.exchange import new_folder
from voxtile.engines.fitting import check_answer
from voxtile.engines.trial_tiles import trial_tiles
from voxtile.errors import ModelError, UsageError, counted
from voxtile.machine.files import write_text
from voxtile.models.bundle import Bundle, bundle_name, load_bundle
from voxtile.models.spec import ModelSpec, Network
from voxtile.training.fitting.network_file import save_network

from .checkpoint import Checkpoint, read_checkpoint
from .network import build_network
from .plans import Trained, fold_folders, read_trained, well_formed

# Names of nnU-Net's own trainers, which change how a network is trained, and not the network.
_TRAINERS = re.compile(
    r"nnUNetTrainer(_?(Ada[mn]|\den\d|CosAnneal|Vanilla|Benchmark|noDataLoading|warmup|"
    r"(CE|Dice|DiceCE|DiceTopK10|Topk10)Loss|LS01|noSmooth|DA5|NoDA|DASegOrd0|Segord0|ord0|"
    r"noDummy2DDA|NoMirroring|onlyMirror01|probabilisticOversampling(_\d+)?|NoDeepSupervision|"
    r"\d+ep(ochs?)?))*"
)


@dataclass(frozen=True, slots=True)
class Imported:
    """A new bundle, and what its user should know."""

    bundle: Bundle
    notices: tuple[str, ...] = ()


def import_nnunet(
    folder: Path,
    out: Path,
    *,
    folds: Sequence[str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    orientation: str | None = None,
) -> Imported:
    """Make a bundle from a 2D configuration that nnU-Net v2 trained.

    Parameters
    ----------
    folder : Path
        Results folder of a configuration, or of a data set that has one 2D configuration.
    out : Path
        New folder; the bundle gets its name.
    folds : sequence of str, optional
        Folds whose mean decides; by default all that were trained.
    checkpoint : str
        File of each fold.
    orientation : str, optional
        Storage orientation of the training scans, such as LPS. Without it, planes are taken as
        each file stores them, as nnU-Net does.

    Raises
    ------
    ModelError
        If something would make other masks than nnU-Net's, or a file is damaged.
    EnvironmentFault
        If PyTorch is not installed.
    """
    name = bundle_name(out)
    if orientation is not None and not re.fullmatch("[RLAPIS]{3}", orientation):
        raise UsageError(f"--orientation {orientation!r} must be three letters, such as LPS")
    with well_formed(folder):
        trained = read_trained(folder)
    read = [
        read_checkpoint(_existing(place / checkpoint))
        for place in fold_folders(trained.folder, folds)
    ]
    if len({one.mirroring for one in read}) > 1:
        raise ModelError(f"{trained.folder} has folds with other mirroring axes; name one fold")
    with well_formed(trained.folder), new_folder(out) as work:
        architecture = trained.architecture()
        networks = []
        for number, one in enumerate(read):
            file = work / f"fold_{number}.keras"
            network = build_network(
                one.arrays,
                architecture,
                trained.tile,
                len(trained.channels),
                swapped=trained.swapped,
            )
            save_network(network, file)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            networks.append(Network(file=file.name, sha256=digest))
        spec = trained.spec(name, networks, read[0].mirroring, orientation)
        notices = _notices(trained, read, spec)
        write_text(work / "spec.json", spec.dump())
        write_text(work / "README.md", _card(spec, trained, notices))
        _try(load_bundle(work))
    return Imported(load_bundle(out), notices)


def _existing(path: Path) -> Path:
    """Return the path of a checkpoint; refuse one that is missing."""
    if not path.is_file():
        raise ModelError(
            f"{path} is missing; give --checkpoint, or --folds with those that have it"
        )
    return path


def _try(bundle: Bundle) -> None:
    """Refuse networks that do not answer to a trial tile as the spec says."""
    tiles = trial_tiles(bundle.spec)
    for model in load_models(bundle, Engine("keras")):
        check_answer(model(tiles), tiles, bundle.spec, "the network")


def _notices(trained: Trained, read: Sequence[Checkpoint], spec: ModelSpec) -> tuple[str, ...]:
    """Return what the files do not say, and what was not imported."""
    found = []
    if spec.orientation == "stored":
        found.append(
            "planes are taken as each file stores them, as nnU-Net does, so scans must be stored "
            "like the training scans; to segment scans stored in any order, import with "
            "--orientation and the orientation of the training scans, which voxtile convert prints"
        )
    for trainer in sorted({one.trainer for one in read}):
        if not _TRAINERS.fullmatch(trainer):
            found.append(
                f"the trainer {trainer[:100]} is not one of nnU-Net's own; if it changes the "
                "network beyond its weights, masks are wrong: compare some with nnUNetv2_predict"
            )
    if (trained.folder / "postprocessing.pkl").exists():
        found.append("postprocessing.pkl is not read; add its steps to postprocess in spec.json")
    return tuple(found)


def _card(spec: ModelSpec, trained: Trained, notices: Sequence[str]) -> str:
    """Return the README.md of the bundle."""
    labels = "\n".join(f"| {label.value} | {label.name} |" for label in spec.labels)
    return f"""# {spec.name}

{spec.description}, imported from `{trained.folder.name}` \
({counted(len(spec.networks), "fold")}) by `voxtile models import`.

    voxtile run MANIFEST {spec.name} --out DIR

Masks are those of `nnUNetv2_predict`, except for rounding (docs/own-network.md).
{"".join(f"{chr(10)}- {notice}" for notice in notices)}

Say where the model comes from and how it was tested, and add its LICENSE, before you pass it on.

| value | label |
|---|---|
{labels}

Research use only. Not a medical device; not for diagnosis or treatment.
"""
