"""What a network takes and gives, as JSON that people can read.

`ModelSpec` is the content of ``spec.json``, the plain file beside the weights
of a bundle. Every stage uses it: the views, how intensities are scaled, the
size of a tile, and the meaning of the output channels.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from voxtile.errors import counted

View = Literal["axial", "coronal", "sagittal"]
Axis = Literal["R", "A", "S"]
Weighting = Literal["gaussian", "constant", "gaussian_nnunet"]
Normalisation = Literal["none", "batch", "group", "instance"]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Millimetres = Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1000)]
TileSize = tuple[Annotated[int, Field(ge=1, le=8192)], Annotated[int, Field(ge=1, le=8192)]]
Percent = Annotated[float, Field(ge=0, le=100)]
# Names of bundles: also valid as a folder everywhere, and in a list with commas.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class _Frozen(BaseModel):
    """Immutable model. It refuses unknown keys, so no misspelt key becomes a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IntensityMethod(_Frozen):
    """How intensities are scaled; `voxtile.preparation.intensity.measure` computes it.

    A new method needs a subclass here, an entry in `Intensity`, and a case in `measure`.
    """

    # Lowest and highest value of scaled voxels; None for a method without bounds, whose values
    # have a mean of about 0 and a standard deviation of about 1.
    output_range: ClassVar[tuple[float, float] | None]

    @property
    def input_range(self) -> tuple[float, float] | None:
        """Intensities as scanned that become `output_range`; None if each volume has its own."""
        return None

    @property
    def zero(self) -> float:
        """The value of a constant channel that becomes zeros."""
        return 0.0 if self.input_range is None else self.input_range[0]


class NoScaling(IntensityMethod):
    """Leave intensities as they are."""

    output_range = None
    method: Literal["none"] = "none"


class Window(IntensityMethod):
    """A fixed window, as for CT in Hounsfield units: its lower edge becomes 0, its upper 1."""

    output_range = (0, 1)
    method: Literal["window"] = "window"
    center: Number
    width: Positive

    @property
    def input_range(self) -> tuple[float, float]:
        """Lower and upper edge of the window."""
        return self.center - self.width / 2, self.center + self.width / 2


class MinMax(IntensityMethod):
    """The smallest and the largest voxel of the volume become 0 and 1."""

    output_range = (0, 1)
    method: Literal["minmax"] = "minmax"


class Percentile(IntensityMethod):
    """Two percentiles of the volume become 0 and 1; voxels beyond them are clipped."""

    output_range = (0, 1)
    method: Literal["percentile"] = "percentile"
    lower: Percent = 0.5
    upper: Percent = 99.5

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lower >= self.upper:
            raise ValueError(f"lower {self.lower} must be below upper {self.upper}")
        return self


class ZScore(IntensityMethod):
    """Zero mean and unit standard deviation over the volume.

    `nonzero` measures only voxels other than 0 (skull-stripped brains).
    `clip` names two percentiles at which voxels are clipped before mean and
    deviation are measured, so that single bright voxels do not decide them.
    """

    output_range = None
    method: Literal["zscore"] = "zscore"
    nonzero: bool = False
    clip: tuple[Percent, Percent] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(f"clip {self.clip} must be two rising percentiles")
        return self


class Fixed(IntensityMethod):
    """Clip to `low` and `high`, subtract `mean`, divide by `sd`: numbers of the training scans."""

    output_range = None
    method: Literal["fixed"] = "fixed"
    mean: Number
    sd: Positive
    low: Number
    high: Number

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self

    @property
    def zero(self) -> float:
        """The value of a constant channel that becomes zeros."""
        return self.mean


class Foreground(IntensityMethod):
    """Zero mean and unit standard deviation inside the scan's foreground; 0 outside.

    The foreground is where any channel is not 0, with its holes filled.
    """

    output_range = None
    method: Literal["foreground"] = "foreground"


class Clahe(IntensityMethod):
    """Contrast-limited adaptive histogram equalisation of each plane, to 0 to 1.

    See `skimage.exposure.equalize_adapthist`.
    """

    output_range = (0, 1)
    method: Literal["clahe"] = "clahe"
    clip_limit: Annotated[float, Field(gt=0, le=1)] = 0.01


Intensity = Annotated[
    NoScaling | Window | MinMax | Percentile | ZScore | Fixed | Foreground | Clahe,
    Field(discriminator="method"),
]
# Keys of `spec.json` since version 0.3, for what networks of other programs see.
_PREPARATION = ("orientation", "crop", "resampling", "padding", "average", "channel_intensity")
_LATER = (*_PREPARATION, "ignore", "unlabelled", "optional_channels", "position")
# Row, column and plane, see `voxtile.preparation.position`.
POSITION_CHANNELS = 3
# Methods that need more than a voxel and numbers of its volume: the whole volume is scaled at once.
WHOLE = (Foreground, Clahe)


class Background(_Frozen):
    """Voxels that cannot belong to a label, such as air in CT.

    A voxel is background if every channel, as scanned, has an intensity of at
    most `at_most`. The networks do not compute tiles that have only
    background; without this entry they compute every tile.
    """

    at_most: Number


class Concept(_Frozen):
    """A coded concept, such as SNOMED CT 10200004 "Liver" (DICOM PS3.16 CID 7150 and others)."""

    value: Text
    scheme: Text
    meaning: Text


class Label(_Frozen):
    """One output of a network: a value in the mask, with its name and colour.

    `region` lists the reference values that this output covers (default: its
    own value). Values of one label alone are merged. Overlapping regions, such as
    whole tumour = oedema + core, are sigmoid outputs, which are written into the mask in
    the order of the spec: a later one overwrites an earlier one. Each is scored against
    the union of its values.

    `concept` is the coded structure (DICOM's segmented property type),
    `modifier` a part or side of it, such as SNOMED CT 255549009 "Anterior", and
    `category` its coded category (default: anatomy).
    """

    value: Annotated[int, Field(ge=1, le=65535)]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    color: Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")]
    region: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65535)], ...], Field(max_length=1000)
    ] = ()
    concept: Concept | None = None
    category: Concept | None = None
    modifier: Concept | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave an empty modifier out, so that records equal those of earlier versions."""
        values: dict[str, Any] = serialize(self)
        return values if self.modifier else {k: v for k, v in values.items() if k != "modifier"}

    @property
    def values(self) -> tuple[int, ...]:
        """Label values that this output covers."""
        return self.region or (self.value,)


def overlapping(labels: Sequence[Label]) -> bool:
    """Whether two labels share a value, so that a voxel can have both."""
    values = [value for label in labels for value in set(label.values)]
    return len(values) != len(set(values))


def stand_ins(labels: Sequence[Label]) -> dict[int, int]:
    """Return for each value that masks never have the own value of a label that replaces it.

    Both values belong to the same labels, so nothing is lost. ValueError if a
    value has no such replacement, or a region lacks its label's own value.

    Examples
    --------
    >>> stand_ins([Label(value=1, name="kidney", color="#000000", region=(1, 3))])
    {3: 1}
    """
    holders: dict[int, list[str]] = {}
    for label in labels:
        if label.value not in label.values:
            raise ValueError(
                f"region {list(label.values)} of label {label.value} ({label.name}) must include "
                "its own value"
            )
        for value in dict.fromkeys(label.values):
            holders.setdefault(value, []).append(label.name)
    own = [label.value for label in labels]
    replaced = {}
    for value, names in holders.items():
        if value not in own:
            same = [written for written in own if holders[written] == names]
            if not same:
                raise ValueError(
                    f"value {value} of the region of {' and '.join(names)} belongs to other labels "
                    f"than each value of a mask ({', '.join(map(str, own))}); add a label for "
                    "this value alone"
                )
            replaced[value] = same[0]
    return replaced


class Cleaning(_Frozen):
    """How one label of a finished mask is cleaned, see `voxtile.inference.postprocess.clean`."""

    label: Annotated[int, Field(ge=1, le=65535)]  # a label value; parts are those of its region
    # How many parts stay, the largest first; None means all.
    largest: Annotated[int, Field(ge=1, le=10**9)] | None = None
    # Parts with less volume than this are removed.
    smallest_mm3: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] = 0.0
    fill_holes: bool = False


class Division(_Frozen):
    """Labels of which a plane may have only one, see `voxtile.inference.postprocess.divide`."""

    axis: Axis  # world axis across the planes: A for coronal planes
    # Label values, at least two.
    labels: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65535)], ...], Field(min_length=2, max_length=1000)
    ]


class Network(_Frozen):
    """One trained file of a bundle, and its views.

    `tile` is the tile size that it was trained with, if that is not the spec's.
    `layout` and `output` are for networks of other programs: "channels_first"
    takes and gives (tiles, channels, rows, columns), and "logits" has no final
    activation. A network without `file` and `sha256` is a function that the caller gives.
    """

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.(keras|onnx)$")] = ""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = ""
    views: Annotated[tuple[View, ...], Field(min_length=1, max_length=3)] = ("axial",)
    weight: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)] = 1.0
    tile: TileSize | None = None
    layout: Literal["channels_last", "channels_first"] = "channels_last"
    output: Literal["probabilities", "logits"] = "probabilities"


class ModelSpec(_Frozen):
    """Everything that a bundle's networks take and give."""

    format: Literal["voxtile-bundle"] = "voxtile-bundle"
    format_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=NAME)]
    description: Annotated[str, Field(max_length=100_000)] = ""
    # Input channels in order. One channel is the manifest's `image` column; several are its
    # `image_<channel>` columns.
    channels: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,40}$")], ...],
        Field(min_length=1, max_length=64),
    ] = ("image",)
    # Number of planes that the network sees at once, odd; it segments the middle one. Each channel
    # of the scan gives this many input channels, its planes in order.
    context_slices: Annotated[int, Field(ge=1, le=63)] = 1
    # Whether three more input channels, the last, say where in the scan a pixel is: row, column and
    # plane, each from -1 to 1. See `voxtile.preparation.position`.
    position: bool = False
    # (R, A, S): pixel spacing to which planes are resampled. Each view uses its two in-plane
    # entries; the through-plane one is never resampled. None means the scan's own spacing.
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = None
    intensity: Intensity = ZScore()  # one method for all channels, measured on each
    # One method for each channel, instead of `intensity`.
    channel_intensity: Annotated[tuple[Intensity, ...], Field(max_length=64)] = ()
    # Storage order and directions in which the networks see a volume; "stored" is that of its file.
    # Views, spacings and flips then count its axes: the first for R, the second for A, ...
    orientation: Annotated[str, Field(pattern=r"^([RASLPI]{3}|stored)$")] = "RAS"
    # Whether networks see only the box of voxels in which any channel is not 0.
    crop: Literal["none", "nonzero"] = "none"
    # "spline": cubic for images, linear for predictions; the grids share their outer edges, as in
    # `skimage.transform.resize`. See `voxtile.preparation.resampling`.
    resampling: Literal["linear", "spline"] = "linear"
    padding: Literal["edge", "zero"] = "edge"  # what surrounds planes smaller than a tile
    tile: TileSize  # (rows, columns) in pixels; a multiple of `multiple`
    # A tile's rows and columns must be multiples of this number, ``2**depth``.
    multiple: Annotated[int, Field(ge=1, le=1024)] = 1
    # Minimum overlap of neighbouring tiles, as a fraction of a tile.
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    weighting: Weighting = "gaussian"  # weight of a tile's pixels when overlaps are blended
    # What is averaged over tiles, mirrored planes and the networks of a view, and resampled.
    average: Literal["probabilities", "logits"] = "probabilities"
    background: Background | None = None  # voxels that cannot belong to a label
    # World axes along which planes are mirrored and segmented again, unless a
    # run has other options (test-time augmentation). Only for networks that were trained on
    # mirrored planes.
    flips: Annotated[tuple[Axis, ...], Field(max_length=3)] = ()
    # Outputs in order, without background. A softmax network has one more channel, the first,
    # for background.
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=1000)]
    # Channels that were missing in some training cases, so that they may be missing in a run.
    optional_channels: Annotated[tuple[str, ...], Field(max_length=1000)] = ()
    # Value of references whose voxels took no part in training, and take no part in scores.
    ignore: Annotated[int, Field(ge=1, le=65535)] | None = None
    # Values of references, other than 0, that count as background; None means none.
    unlabelled: (
        Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], Field(max_length=65535)] | None
    ) = None
    # Softmax for exclusive labels, sigmoid for one or overlapping ones.
    activation: Literal["softmax", "sigmoid"]
    # Minimum probability for each sigmoid label; empty means 0.5.
    thresholds: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    # Labels of which a plane of the finished mask may have only one.
    divisions: Annotated[tuple[Division, ...], Field(max_length=1000)] = ()
    postprocess: tuple[Cleaning, ...] = ()  # how the mask is cleaned after that, label by label
    # A file whose views have different weights has one entry per view.
    networks: Annotated[tuple[Network, ...], Field(min_length=1, max_length=1000)] = (Network(),)
    # How the networks were trained, for people: manifest hash, cases, scores, versions.
    training: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.context_slices % 2 == 0:
            raise ValueError(
                f"context_slices {self.context_slices} must be odd, because the network segments "
                "the middle plane"
            )
        if self.orientation != "stored":
            axes = {"RASLPI".index(letter) % 3 for letter in self.orientation}
            if len(axes) < 3:
                raise ValueError(f"orientation {self.orientation} must name each axis once")
        unknown = [name for name in self.optional_channels if name not in self.channels]
        if unknown or (self.optional_channels and len(self.channels) < 2):
            raise ValueError(
                f"optional_channels {list(self.optional_channels)} must be some of several "
                f"channels, {list(self.channels)}"
            )
        if self.channel_intensity and len(self.channel_intensity) != len(self.channels):
            raise ValueError(
                f"there must be as many entries of channel_intensity as channels, not "
                f"{len(self.channel_intensity)} for {counted(len(self.channels), 'channel')}"
            )
        if self.background is not None and any(isinstance(one, WHOLE) for one in self.intensities):
            raise ValueError("background cannot be combined with the methods foreground and clahe")
        if self.average == "logits" and any(one.output != "logits" for one in self.networks):
            raise ValueError('to average logits, each network needs "output": "logits"')
        for tile in (self.tile, *(network.tile for network in self.networks if network.tile)):
            if any(size % self.multiple for size in tile):
                raise ValueError(f"tile {tile} must be a multiple of {self.multiple}")
        for what, entries in (
            ("channel", list(self.channels)),
            ("label value", [str(label.value) for label in self.labels]),
            ("label name", [label.name for label in self.labels]),
            (
                "network file and view",
                [f"{network.file} {view}" for network in self.networks for view in network.views],
            ),
            ("postprocess of label", [str(step.label) for step in self.postprocess]),
        ):
            twice = sorted({entry for entry in entries if entries.count(entry) > 1})
            if twice:
                raise ValueError(f"{what} {', '.join(twice)} appears twice")
        if self.activation == "softmax":
            if self.thresholds:
                raise ValueError("thresholds are for sigmoid outputs; softmax takes the maximum")
            if overlapping(self.labels):
                raise ValueError("regions may overlap, so they need sigmoid outputs, not softmax")
        if self.thresholds and len(self.thresholds) != len(self.labels):
            raise ValueError(
                f"there must be as many thresholds as labels, not {len(self.thresholds)} for "
                f"{counted(len(self.labels), 'label')}"
            )
        files = {(network.file, network.sha256) for network in self.networks}
        if len(files) != len({file for file, _ in files}):
            raise ValueError("a network file is named twice with different sha256")
        return self

    @model_validator(mode="after")
    def _consistent_labels(self) -> Self:
        written = {label.value for label in self.labels}
        unknown = sorted({step.label for step in self.postprocess} - written)
        if unknown:
            raise ValueError(
                f"postprocess names label {unknown[0]}, but the labels are {sorted(written)}"
            )
        own = {label.value for label in self.labels if label.values == (label.value,)}
        for division in self.divisions:
            unknown = sorted(set(division.labels) - own)
            if unknown or len(set(division.labels)) < len(division.labels):
                raise ValueError(
                    f"a division has labels {list(division.labels)}; it needs different labels "
                    f"without regions, from {sorted(own)}"
                )
        for label in self.labels:
            if self.ignore in label.values:
                raise ValueError(
                    f"label {label.value} ({label.name}) has the value {self.ignore}, which is "
                    "ignored; leave one of them out"
                )
            if unlabelled := set(label.values).intersection(self.unlabelled or ()):
                raise ValueError(
                    f"label {label.value} ({label.name}) has the value {min(unlabelled)}, which "
                    "counts as background; leave one of them out"
                )
        stand_ins(self.labels)
        return self

    @property
    def views(self) -> tuple[View, ...]:
        """Views that any network has, each once, in order."""
        return tuple(dict.fromkeys(view for network in self.networks for view in network.views))

    def tile_of(self, view: View) -> tuple[int, int]:
        """Return the (rows, columns) of a tile for planes of a view, in pixels.

        It is the largest tile that a network of the view was trained with, so
        that no network sees less around a pixel than in its training.
        """
        serving = [network for network in self.networks if view in network.views]
        tiles = [network.tile or self.tile for network in serving] or [self.tile]
        return max(rows for rows, _ in tiles), max(columns for _, columns in tiles)

    @property
    def intensities(self) -> tuple[Intensity, ...]:
        """The intensity method of each channel."""
        return self.channel_intensity or (self.intensity,) * len(self.channels)

    @property
    def absent(self) -> dict[str, float]:
        """What the voxels of each channel that may be missing are set to: it is scaled to 0."""
        methods = dict(zip(self.channels, self.intensities, strict=True))
        return {channel: methods[channel].zero for channel in self.optional_channels}

    @property
    def unused(self) -> tuple[str, ...]:
        """Keys since version 0.3 that have their default."""
        fields = type(self).model_fields
        return tuple(key for key in _LATER if getattr(self, key) == fields[key].default)

    @property
    def trainable(self) -> bool:
        """Whether training prepares scans as this spec says."""
        whole = isinstance(self.intensity, WHOLE)
        logits = any(network.output == "logits" for network in self.networks)
        return set(_PREPARATION) <= set(self.unused) and not whole and not logits

    @property
    def input_channels(self) -> int:
        """Channels of a tile."""
        return len(self.channels) * self.context_slices + POSITION_CHANNELS * self.position

    @property
    def output_channels(self) -> int:
        """Channels of a prediction, background included for softmax."""
        return len(self.labels) + (self.activation == "softmax")

    def dump(self) -> str:
        """Return the spec as JSON text."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"
