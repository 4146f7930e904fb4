"""The plans and the data set of a configuration that nnU-Net v2 trained -> spec and architecture.

nnU-Net's array of a scan has the axes (k, j, i) of its file, the last one first, as SimpleITK
gives them; ``transpose_forward`` reorders them, and a 2D configuration takes planes along the
first. See documentation/explanation_plans_files.md and dataset_format.md of nnU-Net v2.
"""

import colorsys
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from voxtile.errors import ModelError, VoxtileError
from voxtile.machine.files import regular
from voxtile.manifest.source import channel_names
from voxtile.models.complaints import complaints
from voxtile.models.spec import (
    Axis,
    Fixed,
    Foreground,
    Intensity,
    Label,
    MinMax,
    ModelSpec,
    Network,
    NoScaling,
    View,
    Window,
    ZScore,
)

from .network import Architecture

_VIEWS: tuple[View, View, View] = ("sagittal", "coronal", "axial")
_AXES: tuple[Axis, Axis, Axis] = ("R", "A", "S")
# How nnU-Net reads scans: as they are stored, or turned to RAS.
_READERS = {
    "SimpleITKIO": "stored",
    "NibabelIO": "stored",
    "NibabelIOWithReorient": "RAS",
}
# Arguments of an architecture that this module understands, or that change no prediction.
_KNOWN = {
    *("n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "conv_bias"),
    *("n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder", "norm_op"),
    *("norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin", "nonlin_kwargs"),
    *("deep_supervision", "stem_channels"),
}


@dataclass(frozen=True, slots=True)
class Trained:
    """A 2D configuration that nnU-Net has trained: the content of its results folder."""

    folder: Path
    plans: dict[str, Any]
    dataset: dict[str, Any]
    configuration: dict[str, Any]

    @property
    def axes(self) -> tuple[int, int, int]:
        """The axis of a scan's storage across the planes, along rows and along columns."""
        across, rows, columns = (
            2 - int(axis) for axis in self._of(self.plans, "transpose_forward")
        )
        return across, rows, columns

    @property
    def swapped(self) -> bool:
        """Whether rows and columns are the other way round than in voxtile."""
        return self.axes[1] > self.axes[2]

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of a tile, as voxtile has them."""
        rows, columns = map(int, self._of(self.configuration, "patch_size"))
        return (columns, rows) if self.swapped else (rows, columns)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, as a manifest has them."""
        described = self.dataset.get("channel_names", self.dataset.get("modality"))
        names = channel_names(described, self.folder / "dataset.json")
        return ("image",) if len(names) == 1 else tuple(names)

    def architecture(self) -> Architecture:
        """Return the architecture; ModelError if it is not one of nnU-Net's two U-Nets."""
        found = self.configuration.get("architecture") or _old_architecture(self.configuration)
        kind = str(self._of(found, "network_class_name")).rpartition(".")[2]
        options = self._of(found, "arch_kwargs")
        if kind not in ("PlainConvUNet", "ResidualEncoderUNet"):
            raise self._refused(f"the network {kind[:100]}; PlainConvUNet or ResidualEncoderUNet")
        strange = [key for key, value in options.items() if value and key not in _KNOWN]
        if strange:
            raise self._refused(f"a network with {strange[0][:100]}; nnU-Net's own arguments")
        for key, wanted in (
            ("conv_op", "Conv2d"),
            ("norm_op", "InstanceNorm2d"),
            ("nonlin", "LeakyReLU"),
        ):
            if str(options.get(key)).rpartition(".")[2] != wanted:
                raise self._refused(f"{key} {str(options.get(key))[:100]}; {wanted}")
        return Architecture(
            kind == "ResidualEncoderUNet",
            tuple(_pair(stride) for stride in self._of(options, "strides")),
            float((options.get("norm_op_kwargs") or {}).get("eps", 1e-5)),
            float((options.get("nonlin_kwargs") or {}).get("negative_slope", 0.01)),
        )

    def spec(
        self,
        name: str,
        networks: Sequence[Network],
        mirroring: Sequence[int],
        orientation: str | None = None,
    ) -> ModelSpec:
        """Return the spec, with nnU-Net's preprocessing and decision.

        `mirroring` has the axes of a plane that are also mirrored. `orientation` is the storage
        orientation of the training scans; by default planes are taken as each file has them.
        """
        across, *in_plane = self.axes
        labels, regions = self._labels()
        spacing = [1.0, 1.0, 1.0]
        for axis, value in zip(in_plane, self._of(self.configuration, "spacing"), strict=True):
            spacing[axis] = float(value)
        median = self.plans.get("original_median_spacing_after_transp")
        spacing[across] = float(median[0]) if median else 1.0
        methods = self._intensities()
        self._check_stages()
        view = _VIEWS[across]
        try:
            return ModelSpec(
                name=name,
                description=f"{self.plans.get('dataset_name', '')}: a 2D configuration of nnU-Net",
                channels=self.channels,
                spacing_mm=(spacing[0], spacing[1], spacing[2]),
                intensity=methods[0],
                channel_intensity=methods if len(set(methods)) > 1 else (),
                orientation=orientation or _READERS[self._of(self.plans, "image_reader_writer")],
                crop="nonzero",
                resampling="spline",
                padding="zero",
                tile=self.tile,
                weighting="gaussian_nnunet",
                average="logits",
                flips=tuple(_AXES[in_plane[axis]] for axis in mirroring),
                labels=labels,
                activation="sigmoid" if regions else "softmax",
                networks=tuple(
                    network.model_copy(update={"views": (view,), "output": "logits"})
                    for network in networks
                ),
            )
        except ValidationError as error:
            words = "; ".join(complaints(error))
            raise ModelError(f"{self.folder} cannot become a spec: {words}") from error

    def _labels(self) -> tuple[tuple[Label, ...], bool]:
        """Return the labels in the order of the outputs, and whether they are regions."""
        found = {
            str(key): value
            for key, value in self._of(self.dataset, "labels").items()
            if key != "ignore" and value not in (0, [0])
        }
        regions = any(isinstance(value, list) and len(value) > 1 for value in found.values())
        if regions:
            order = list(self._of(self.dataset, "regions_class_order"))
            if len(order) != len(found):
                raise self._refused(f"{len(order)} entries of regions_class_order; {len(found)}")
        else:
            found = dict(sorted(found.items(), key=lambda entry: _single(entry[1])))
            order = list(range(1, len(found) + 1))
            if [_single(value) for value in found.values()] != order:
                raise self._refused(f"labels {list(found.values())[:10]}; consecutive labels")
        labels = tuple(
            Label(
                value=int(value),
                name=key[:200],
                color=_color(index),
                region=tuple(sorted({*map(int, covered)})) if isinstance(covered, list) else (),
            )
            for index, (value, (key, covered)) in enumerate(zip(order, found.items(), strict=True))
        )
        if not regions:
            labels = tuple(label.model_copy(update={"region": ()}) for label in labels)
        return labels, regions

    def _intensities(self) -> tuple[Intensity, ...]:
        """Return how each channel is scaled."""
        schemes = self._of(self.configuration, "normalization_schemes")
        masked = self._of(self.configuration, "use_mask_for_norm")
        found: list[Intensity] = []
        for number, (scheme, inside) in enumerate(zip(schemes, masked, strict=True)):
            match scheme:
                case "ZScoreNormalization":
                    found.append(Foreground() if inside else ZScore())
                case "CTNormalization":
                    known = self._of(self.plans, "foreground_intensity_properties_per_channel")
                    numbers = known[str(number)]
                    found.append(
                        Fixed(
                            mean=numbers["mean"],
                            sd=max(numbers["std"], 1e-8),
                            low=numbers["percentile_00_5"],
                            high=numbers["percentile_99_5"],
                        )
                    )
                case "NoNormalization":
                    found.append(NoScaling())
                case "RescaleTo01Normalization":
                    found.append(MinMax())
                case "RGBTo01Normalization":
                    found.append(Window(center=127.5, width=255))
                case _:
                    raise self._refused(f"normalization scheme {scheme!r:.100}; nnU-Net's own")
        return tuple(found)

    def _check_stages(self) -> None:
        """Refuse stages that are not nnU-Net's own, because their effect is not known."""
        reader = self._of(self.plans, "image_reader_writer")
        if reader not in _READERS:
            raise self._refused(f"image_reader_writer {reader!r:.100}; {', '.join(_READERS)}")
        for where, key, wanted in (
            (self.configuration, "preprocessor_name", "DefaultPreprocessor"),
            (self.configuration, "resampling_fn_data", "resample_data_or_seg_to_shape"),
            (self.configuration, "resampling_fn_probabilities", "resample_data_or_seg_to_shape"),
            (self.plans, "label_manager", "LabelManager"),
        ):
            if where.get(key, wanted) != wanted:
                raise self._refused(f"{key} {where[key]!r:.100}; {wanted}")
        for key, order in (("data", 3), ("probabilities", 1)):
            given = self.configuration.get(f"resampling_fn_{key}_kwargs", {})
            if given.get("order", order) != order or given.get("is_seg"):
                raise self._refused(f"resampling_fn_{key}_kwargs {given!r:.100}; order {order}")

    def _of(self, where: dict[str, Any], key: str) -> Any:
        """Return a value that must be there."""
        if key not in where:
            raise self._refused(f"no entry {key}; a file that nnU-Net v2 wrote")
        return where[key]

    def _refused(self, words: str) -> ModelError:
        """Return the error for "what came; what was needed"."""
        came, _, needed = words.partition("; ")
        return ModelError(
            f"{self.folder} has {came}, which cannot be imported; {needed} was needed"
        )


@contextmanager
def well_formed(folder: Path) -> Iterator[None]:
    """Refuse plans or a data set whose entries are missing or of another kind than nnU-Net's."""
    try:
        yield
    except VoxtileError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder}: plans.json or dataset.json is not as nnU-Net v2 writes it "
            f"({type(error).__name__}: {str(error)[:100]}); copy the folder again from its source"
        ) from error


def read_trained(folder: Path) -> Trained:
    """Return the only 2D configuration in a results folder of nnU-Net, or in its data set's folder.

    ModelError if there is none, or more than one.
    """
    places = [folder] if (folder / "plans.json").is_file() else sorted(folder.glob("*__*__*"))
    found = []
    for place in places:
        if not (place / "plans.json").is_file():
            continue
        plans, dataset = (_read(place / name) for name in ("plans.json", "dataset.json"))
        known = plans.get("configurations", {})
        named = place.name.rpartition("__")[2]
        name = named if named in known else "2d"
        if name in known and len(_resolved(known, name).get("patch_size", ())) == 2:
            found.append(Trained(place, plans, dataset, _resolved(known, name)))
    if len(found) != 1:
        names = ", ".join(one.folder.name for one in found) or "none"
        raise ModelError(
            f"{folder} has {len(found)} trained 2D configurations ({names}); name the folder of "
            "one, such as nnUNetTrainer__nnUNetPlans__2d, with plans.json and dataset.json"
        )
    return found[0]


def _resolved(configurations: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with the entries that it inherits."""
    own = dict(configurations.get(name, {}))
    parent = own.pop("inherits_from", None)
    others = {key: value for key, value in configurations.items() if key != name}
    return {**_resolved(others, parent), **own} if parent in others else own


def _old_architecture(configuration: dict[str, Any]) -> dict[str, Any]:
    """Return the architecture of plans before nnU-Net 2.3, as its ConfigurationManager does."""
    if "UNet_class_name" not in configuration:
        return {}
    return {
        "network_class_name": configuration["UNet_class_name"],
        "arch_kwargs": {
            "strides": configuration.get("pool_op_kernel_sizes", ()),
            "conv_op": "Conv2d",
            "norm_op": "InstanceNorm2d",
            "nonlin": "LeakyReLU",
        },
    }


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object."""
    try:
        content = json.loads(regular(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} must be a JSON object, as nnU-Net v2 writes it")
    return content


def _single(value: Any) -> int:
    """Return a label's value, which may be in a list of one."""
    return int(value[0] if isinstance(value, list) else value)


def _pair(value: Any) -> tuple[int, int]:
    """Return (rows, columns) from a pair, or from one number for both."""
    rows, columns = value if isinstance(value, list) else (value, value)
    return int(rows), int(columns)


def _color(index: int) -> str:
    """Return one of many colours that differ."""
    parts = colorsys.hsv_to_rgb((index * 0.618034 + 0.02) % 1, 0.7, 0.9)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def fold_folders(folder: Path, chosen: Sequence[str] | None) -> list[Path]:
    """Return the folders of folds, all that were trained or those that are named."""
    names = [re.sub(r"^fold_", "", name.strip()) for name in chosen or ()]
    found = {path.name.removeprefix("fold_"): path for path in sorted(folder.glob("fold_*"))}
    missing = [name for name in names if name not in found]
    if missing or not found:
        raise ModelError(
            f"{folder} has no fold {missing[0] if missing else ''}".rstrip()
            + f"; its folds are {', '.join(found) or 'missing'}"
        )
    # As nnU-Net does: a network trained on all cases is used only if it is named.
    return [found[name] for name in names or [one for one in found if one != "all"] or ["all"]]
