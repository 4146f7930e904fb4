"""A bundle on disk: a trained network and everything it expects.

    models/<name>/
      spec.json      what the networks expect and emit (`voxtile.models.spec`)
      *.keras        the networks (*.onnx if they were imported)
      README.md      model card
      LICENSE        licence of the weights
      quality.json   how the Dice of its masks is predicted (`voxtile.models.quality`)
      fingerprint.json, recipe.toml, history.csv, training.html    how they were trained

A network file can contain code that runs when it is loaded, or ask for any
amount of memory. So the file is checked before any program loads it:
its checksum here, its content in `keras_archive` or `onnx_network`. No network
is built here.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxtile.errors import ModelError, UsageError

from .keras_archive import check_keras_archive as check_keras_archive
from .onnx_network import check_onnx
from .own_folder import folder_problem, own_folders
from .spec import NAME, ModelSpec, Network
from .spec_file import read_spec

SHIPPED = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle.

    Parameters
    ----------
    others : tuple of Bundle
        Further bundles of an ensemble. The mean of all predictions decides; all
        bundles have the same channels, labels and decision.
    """

    folder: Path
    spec: ModelSpec
    others: tuple["Bundle", ...] = ()

    @property
    def members(self) -> tuple["Bundle", ...]:
        """Every bundle of the ensemble as a separate bundle, this one first."""
        return (replace(self, others=()), *self.others)

    @property
    def name(self) -> str:
        """Name of the bundle, or the names of all members, separated by commas."""
        return ",".join(member.spec.name for member in self.members)

    @property
    def sha256(self) -> str:
        """Hash of everything that may change a mask: the spec, with each network's SHA-256."""
        if self.others:
            each = [member.sha256 for member in self.members]
            return hashlib.sha256(" ".join(each).encode()).hexdigest()
        decisive = self.spec.model_dump(mode="json", exclude={"training", "description", "name"})
        # Keys of later versions count only if they are used, so that older models keep their hash.
        for key in self.spec.unused:
            del decisive[key]
        for label in decisive["labels"]:  # coded concepts name a label, and change no mask
            label |= {"concept": None, "category": None}
            label.pop("modifier", None)
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def read_network(self, network: Network) -> bytes:
        """Return the verified bytes of one network.

        The checked bytes are the bytes that are loaded, so nobody can change the file in between.
        ModelError if the file is missing, was altered, or contains more than a network needs.
        """
        path = self.folder / network.file
        if path.exists() and not path.is_file():
            raise ModelError(f"{path} is not a file; copy the whole bundle folder")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"{path} cannot be read ({error.strerror}); copy the whole bundle folder"
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != network.sha256:
            raise ModelError(
                f"{path} has SHA-256 {digest}, but its spec.json says {network.sha256}: the file "
                "was altered or is incomplete; copy the bundle again from its source"
            )
        check = check_keras_archive if network.file.endswith(".keras") else check_onnx
        check(content, str(path), network.tile or self.spec.tile, self.spec.input_channels)
        return content


def load_bundle(name: str | Path) -> Bundle:
    """Read and verify a bundle, or several as an ensemble; no network is built.

    Parameters
    ----------
    name : str or Path
        A folder, or the name of a bundle that voxtile ships or that was
        downloaded. If a folder of that name exists here, the folder is used.
        Commas separate several names, unless a folder has the commas in its
        name.

    Raises
    ------
    ModelError
        If the bundle does not exist, its spec or a network is refused, or
        several do not have the same channels, labels, thresholds, divisions
        and post-processing.
    """
    if isinstance(name, str) and "," in name and not Path(name).is_dir():
        return _together([load_bundle(part.strip()) for part in name.split(",")])
    folder = Path(name)
    if not folder.is_dir():
        named = named_bundles()
        if str(name) not in named:
            raise ModelError(
                f"model '{name}' is neither a folder nor a shipped bundle; shipped: "
                f"{', '.join(shipped_bundles()) or 'none'}; downloaded: "
                f"{', '.join(sorted(named.keys() - shipped_bundles())) or 'none'} (`voxtile models "
                f"list --remote` shows what can be downloaded){_downloads()[1]}"
            )
        folder = named[str(name)]
    bundle = Bundle(folder, read_spec(folder / "spec.json"))
    for network in bundle.spec.networks:
        bundle.read_network(network)
    return bundle


def _together(bundles: Sequence[Bundle]) -> Bundle:
    """Return one ensemble of several bundles; refuse bundles that cannot be averaged."""
    first = bundles[0]
    for other in bundles[1:]:
        others = _common(other.spec)
        for what, (one, advice) in _common(first.spec).items():
            another = others[what][0]
            if one != another:
                raise ModelError(
                    f"{first.folder} and {other.folder} cannot be averaged: their {what} are "
                    f"{one} and {another}; {advice}"
                )
    known: dict[str, Path] = {}
    for bundle in bundles:
        # A copy, or another path to the same folder, is the same model.
        if (earlier := known.setdefault(bundle.sha256, bundle.folder)) is not bundle.folder:
            raise ModelError(
                f"{bundle.folder} is named twice"
                + (f" (also as {earlier})" if earlier != bundle.folder else "")
                + "; name each model once"
            )
    return replace(first, others=tuple(bundles[1:]))


def _common(spec: ModelSpec) -> dict[str, tuple[Any, str]]:
    """Return what must be the same in all members of an ensemble, with advice if it differs."""
    meaning = "name models that take the same channels and give the same labels"
    decision = (
        "one mask has one decision, so write the same values into the spec.json of both (or of "
        "copies, if the models are also used alone)"
    )
    return {
        "channels": (spec.channels, meaning),
        "activation": (spec.activation, meaning),
        "orientation": (spec.orientation, meaning),
        "crop": (spec.crop, meaning),
        "optional_channels": (spec.absent, meaning),
        "labels": ([(label.value, label.name, label.values) for label in spec.labels], meaning),
        "thresholds": (list(spec.thresholds) or [0.5] * len(spec.labels), decision),
        "divisions": ([part.model_dump(mode="json") for part in spec.divisions], decision),
        "postprocess": ([step.model_dump(mode="json") for step in spec.postprocess], decision),
    }


def bundle_name(folder: Path) -> str:
    """Return the name of a new bundle: the name of its folder.

    ValueError if a bundle cannot have this name.

    Examples
    --------
    >>> bundle_name(Path("models/liver-cv"))
    'liver-cv'
    """
    name = folder.absolute().name  # also if the folder is given as "."
    if not re.fullmatch(NAME, name):
        instead = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("._-")[:100] or "model"
        raise UsageError(
            f"a model has the name of its folder, but {name!r} is not a valid name: at most 100 "
            "characters of A to Z, a to z, 0 to 9, '.', '_' and '-', the first a letter or digit; "
            f"rename the folder, for example to {instead!r}"
        )
    return name


def named_bundles() -> dict[str, Path]:
    """Return the folder of each bundle that has a name: shipped ones, then downloaded ones."""
    found = {name: SHIPPED / name for name in shipped_bundles()}
    folder, _ = _downloads()
    for path in sorted(folder.glob("[A-Za-z0-9]*/spec.json")) if folder else ():
        found.setdefault(path.parent.name, path.parent)
    return found


def _downloads() -> tuple[Path | None, str]:
    """Return the folder of downloaded bundles; or None, and why it is not used if it exists."""
    for own in own_folders():
        folder = own / "models"
        if folder.is_dir():
            problem = folder_problem(own) or folder_problem(folder)
            return (None, f"; {folder} is not used: {problem}") if problem else (folder, "")
    return None, ""


def shipped_bundles() -> list[str]:
    """Return the names of the bundles that voxtile ships."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/spec.json"))
