"""What a user chooses for a training run, apart from the recipe.

The command line makes its options from this module, so it imports nothing heavy.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from voxtile.engines.options import Wish
from voxtile.errors import UsageError
from voxtile.reading.scan import ReadPolicy

from .recipe.recipe import Recipe


class TrainKeywords(TypedDict, total=False):
    """The fields of `TrainOptions` as keyword arguments, for type checkers."""

    root: str | Path | None
    recipe: Recipe | None
    init: str | Path | None
    resume: bool
    longer: bool
    validation: bool
    policy: ReadPolicy
    description: str
    licence: str | Path | None
    tensorboard: str | Path | None
    progress: bool
    device: str
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """The options of `voxtile.train`.

    Parameters
    ----------
    root : str or Path, optional
        Folder that the manifest's relative paths start from.
    recipe : Recipe, optional
        Choices; `voxtile.training.recipe.rules.settle` makes the choices that are left open.
    init : str or Path, optional
        Model to fine-tune: a name or a folder.

        Its weights are used where channels and labels are the same.
    resume : bool
        Continue a training run that was interrupted.

        It needs the same arguments. If no run was interrupted, a new one starts.
    longer : bool
        Train the finished model further, for the budget of the recipe; only with `resume`.
    validation : bool
        Hold out the cases of split val, which choose the weights and give the scores. Without it,
        these cases train the networks too, and the weights of the end are saved.
    policy : ReadPolicy
        How to read scans that can be read in several ways.
    description : str
        One sentence for the model card.
    licence : str or Path, optional
        Licence of the weights, a text file.

        It is saved as LICENSE. The licence of the training data applies to the weights too.
    tensorboard : str or Path, optional
        Folder for TensorBoard events.
    progress : bool
        Whether to show progress on standard error: a bar on a terminal, else one line per epoch.
    device : str
        Device that fits the networks: auto (a GPU if there is one), cpu, gpu or gpu:N.
    devices : tuple of int
        Numbers of the GPUs that fit networks at the same time, one network on each (default: only
        the device of --device).

    Raises
    ------
    UsageError
        If a device is not one of those listed, or `device` and `devices` are both given.
    """

    root: str | Path | None = None
    recipe: Recipe | None = None
    init: str | Path | None = None
    resume: bool = False
    longer: bool = False
    validation: bool = True
    policy: ReadPolicy = field(default_factory=ReadPolicy)
    description: str = ""
    licence: str | Path | None = None
    tensorboard: str | Path | None = None
    progress: bool = True
    device: str = "auto"
    devices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        Wish(device=self.device)
        if self.longer and not self.resume:
            raise UsageError("a budget with + trains a finished model further; add --resume")
        if self.longer and self.init is not None:
            raise UsageError(
                "a budget with + goes on with the weights of the finished model; leave --init out"
            )
        if len(set(self.devices)) < len(self.devices) or min(self.devices, default=0) < 0:
            raise UsageError(f"devices {self.devices} must be different numbers of at least 0")
        if self.devices and self.device != "auto":
            raise UsageError(f"--device {self.device} and --devices exclude each other; give one")

    @property
    def fitting_devices(self) -> tuple[str, ...]:
        """The devices that fit networks, one network on each at a time."""
        return tuple(f"gpu:{number}" for number in self.devices) or (self.device,)


@dataclass(frozen=True, slots=True)
class FoldOptions:
    """Which folds are trained.

    Parameters
    ----------
    count : int, optional
        Cross-validate with this many folds of the splits train and val.
    only : int, optional
        Train this fold only.
    join : bool
        Join the folds that are finished.
    """

    count: int | None = None
    only: int | None = None
    join: bool = False

    def __post_init__(self) -> None:
        if self.count is None and (self.only is not None or self.join):
            raise UsageError("--fold and --join are for --folds")
