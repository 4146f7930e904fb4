"""The attributes that may distinguish a series' volumes, and their values in one slice.

Each row of `ATTRIBUTES` is one attribute, with the elements that hold it: the
standard element, in its functional group for enhanced images, and those of
vendors. `volumes.py` finds which of them separate the volumes of a series.
"""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from math import isfinite
from typing import Any, Literal

from pydicom import Dataset
from pydicom import Sequence as DicomSequence
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue

from .elements import named, numbers, private, private_blocks, unpacked, value_of, words

Tells = Mapping[str, Hashable]
Group = Callable[[str], Dataset]
Blocks = Mapping[tuple[int, str], int]

_SIEMENS, _UIH = "SIEMENS MR HEADER", "Image Private Header"
_PHILIPS, _PHILIPS_MR = "Philips Imaging DD 001", "Philips MR Imaging DD 001"


@dataclass(frozen=True)
class Element:
    """An element: its keywords, from sequence to item, in a functional group ("" for none)."""

    keywords: str
    group: str = ""

    @cached_property
    def _tags(self) -> list[int]:
        """The tags of the keywords."""
        return [tag_for_keyword(keyword) or 0 for keyword in self.keywords.split(".")]

    def value(self, dataset: Dataset, group: Group, _: Blocks) -> Any:
        """Return the element's value in a frame, or None."""
        holder: Any = group(self.group) if self.group else dataset
        value = None
        for tag in self._tags:
            value = value_of(holder, tag)
            holder = value[0] if isinstance(value, Sequence) and value else holder
        return value


@dataclass(frozen=True, slots=True)
class Private:
    """A private element, or several that hold one number each; `form` as in `unpacked`."""

    tag: int
    creator: str
    form: str = "text"
    count: int = 1

    def value(self, dataset: Dataset, _: Group, blocks: Blocks) -> Any:
        """Return the value, or None."""
        if not blocks:
            return None
        parts = [
            unpacked(private(dataset, self.tag + number, self.creator, blocks), self.form)
            for number in range(self.count)
        ]
        return (
            parts[0] if self.count == 1 else [number for part in parts for number in numbers(part)]
        )


@dataclass(frozen=True, slots=True)
class Attribute:
    """Something that may distinguish volumes.

    Parameters
    ----------
    name : str
        Name in messages.
    role : {"fixed", "steady", "time", "count"}
        Fixed: slices with different values are never in one volume. Steady:
        it separates volumes, but may also differ within a volume (such as an
        inversion time). Time and count separate only volumes that these do
        not; if their values differ from slice to slice, the order of values
        at each place is used, for a count only if the order is regular.
    kind : {"number", "vector", "clock", "word", "text"}
        A word is one that is known here; a text is compared and never shown.
    label : str
        How a value is shown and chosen: `{}` is the value, `#` its rank among
        the values of the series, from 1; "" if it is not shown.
    close : float
        Numbers that differ by at most this are equal.
    """

    name: str
    role: Literal["fixed", "steady", "time", "count"]
    sources: tuple[Element | Private, ...] = ()
    label: str = ""
    kind: Literal["number", "vector", "clock", "word", "text"] = "number"
    close: float = 1e-3


_DIFFUSION, _CONTENT = "MRDiffusionSequence", "FrameContentSequence"
_TIMING, _HEART = "MRTimingAndRelatedParametersSequence", "CardiacSynchronizationSequence"
_DIRECTION = "DiffusionGradientOrientation"

# Content first, in the order of the names of volumes; then times and counts, the best first.
ATTRIBUTES = (
    Attribute("kind of value", "fixed", label="{}", kind="word"),
    Attribute("contrast", "fixed", label="{}", kind="word"),
    Attribute(
        "label or control",
        "fixed",
        (
            Element("ASLContext", "MRArterialSpinLabelingSequence"),
            Private(0x20050029, "Philips MR Imaging DD 005"),
        ),
        "{}",
        "text",
    ),
    Attribute("type of raw data", "fixed", (Private(0x0043002F, "GEMS_PARM_01", "<i2"),), "raw={}"),
    Attribute("type of image", "fixed", (Private(0x20050011, _PHILIPS_MR),), "{}", "text"),
    Attribute(
        "b-value",
        "fixed",
        (
            Element("DiffusionBValue", _DIFFUSION),
            Private(0x0019000C, _SIEMENS),
            Private(0x00430039, "GEMS_PARM_01"),
            Private(0x20010003, _PHILIPS, "<f4"),
            Private(0x00650009, _UIH, "<f8"),
        ),
        "b={}",
    ),
    Attribute(
        "echo time",
        "fixed",
        (Element("EffectiveEchoTime", "MREchoSequence"), Element("EchoTime")),
        "echo={}",
    ),
    Attribute(
        "direction",
        "steady",
        (
            Element(f"DiffusionGradientDirectionSequence.{_DIRECTION}", _DIFFUSION),
            Private(0x0019000E, _SIEMENS, "<f8"),
            Private(0x001900BB, "GEMS_ACQU_01", count=3),
            Private(0x200500B0, _PHILIPS_MR, "<f4", count=3),
            Private(0x00650037, _UIH, "<f8"),
        ),
        "direction #",
        "vector",
        0.02,
    ),
    Attribute(
        "directionality",
        "steady",
        (Element("DiffusionDirectionality", _DIFFUSION), Private(0x20010004, _PHILIPS)),
        kind="text",
    ),
    Attribute(
        "inversion time",
        "steady",
        (Element("InversionTimes", "MRModifierSequence"), Element("InversionTime")),
        "inversion={}",
    ),
    Attribute("flip angle", "steady", (Element("FlipAngle", _TIMING),), "flip={}"),
    Attribute("repetition time", "steady", (Element("RepetitionTime", _TIMING),), "repetition={}"),
    Attribute(
        "velocity direction",
        "steady",
        (Element("VelocityEncodingDirection", "MRVelocityEncodingSequence"),),
        "velocity #",
        "vector",
    ),
    Attribute("velocity", "steady", (Private(0x00510014, _SIEMENS),), "velocity #", "text"),
    Attribute(
        "coil",
        "steady",
        (Element("ReceiveCoilName"), Private(0x0051000F, _SIEMENS)),
        "coil #",
        "text",
    ),
    Attribute("tube voltage", "steady", (Element("KVP", "CTXRayDetailsSequence"),), "kv={}"),
    Attribute(
        "kernel",
        "steady",
        (Element("ConvolutionKernel", "CTReconstructionSequence"),),
        "kernel #",
        "text",
    ),
    Attribute("frame duration", "steady", (Element("ActualFrameDuration"),), "duration={}"),
    Attribute("energy window", "steady", label="window {}"),
    Attribute("detector", "steady", label="detector {}"),
    Attribute("sequence", "steady", (Element("SequenceName"),), "sequence #", "text"),
    Attribute("image type", "steady", label="type #", kind="text"),
    Attribute("stack", "count", (Element("StackID", _CONTENT),), "stack #", "text"),
    Attribute(
        "temporal position",
        "count",
        (Element("TemporalPositionIndex", _CONTENT), Element("TemporalPositionIdentifier")),
        "time #",
    ),
    Attribute("cardiac phase", "count", (Private(0x20010008, _PHILIPS),), "phase #"),
    Attribute("time slot", "count", label="phase #"),
    Attribute(
        "trigger time",
        "time",
        (Element("NominalCardiacTriggerDelayTime", _HEART), Element("TriggerTime")),
        "phase #",
    ),
    Attribute(
        "cardiac phase in percent",
        "time",
        (Element("NominalPercentageOfCardiacPhase", _HEART),),
        "phase #",
    ),
    Attribute(
        "temporal position's time",
        "time",
        (Element("TemporalPositionTimeOffset", "TemporalPositionSequence"),),
        "time #",
    ),
    Attribute("frame reference time", "time", (Element("FrameReferenceTime"),), "frame #"),
    Attribute("echo number", "count", (Element("EchoNumbers"),), "echo #"),
    *(Attribute(f"dimension {number}", "count") for number in range(1, 7)),
    Attribute(
        "acquisition number",
        "count",
        (Element("FrameAcquisitionNumber", _CONTENT), Element("AcquisitionNumber")),
        "acquisition #",
    ),
    Attribute(
        "acquisition time",
        "time",
        (
            Element("FrameReferenceDateTime", _CONTENT),
            Element("FrameAcquisitionDateTime", _CONTENT),
            Element("AcquisitionDateTime"),
            Element("AcquisitionTime"),
        ),
        "time #",
        "clock",
    ),
    Attribute("instance number", "count", (Element("InstanceNumber", ""),)),
    Attribute("frame", "count"),
)
# Words of ImageType that users know; other words are compared and not shown.
_COMPONENTS = {"M": "magnitude", "P": "phase", "R": "real", "I": "imaginary"}
_CONTRASTS = {
    word: name
    for name, known in {
        "water": "W WATER DIXON_WATER WATER_ONLY",
        "fat": "F FAT DIXON_FAT FAT_ONLY",
        "in phase": "IP IN_PHASE INPHASE IN-PHASE",
        "out of phase": "OP OUT_PHASE OUT_OF_PHASE OUTPHASE OPP_PHASE OPPOSED_PHASE",
        "fat fraction": "FF FAT_FRACTION FAT_FRAC",
        "water fraction": "WF WATER_FRACTION",
    }.items()
    for word in known.split()
}
# Modalities in which the third value of ImageType is not a kind of value but, say, AXIAL.
_NO_COMPONENT = ("CT", "PT", "NM")
# Longer values do not name volumes.
_SHORT = 64


def tells(
    dataset: Dataset, group: Group, modality: str, counts: Mapping[str, float]
) -> dict[str, Hashable]:
    """Return the attributes of one slice that have a value.

    `group` returns a functional group of the slice's frame, or a classic image
    itself. `counts` are values that follow from the frame's place in the file.
    """
    found: dict[str, Hashable] = {**_image_type(dataset, group, modality), **counts}
    indices = numbers(group("FrameContentSequence").get("DimensionIndexValues"))
    found |= {f"dimension {at}": index for at, index in enumerate(indices, start=1)}
    blocks = private_blocks(dataset)
    for attribute in ATTRIBUTES:
        for source in attribute.sources:
            value = _read(attribute, source.value(dataset, group, blocks), dataset)
            if value is not None:
                found.setdefault(attribute.name, value)
                break
    return found


def others(dataset: Dataset) -> dict[int, Hashable]:
    """Return every short element of a data set or frame, also private ones, by tag.

    These elements separate volumes only if no attribute of the table does, and may
    contradict a count. Elements of a frame's functional groups are included.
    """
    found: dict[int, Hashable] = {}
    for element in dataset.values():
        value = element.value
        if isinstance(value, DicomSequence):
            for item in value[:1]:
                found |= others(item)
        elif isinstance(value, bytes | str | MultiValue) and len(value) <= _SHORT:
            found[int(element.tag)] = str(value) if isinstance(value, MultiValue) else value
        elif isinstance(value, int | float):
            found[int(element.tag)] = value
    return found


def shown(value: Hashable) -> str:
    """Return a value as a label shows it, if it is a number or a known word; else empty."""
    if isinstance(value, float):
        return f"{value:g}"
    first = value[0] if isinstance(value, tuple) else value
    if first in _CONTRASTS.values() or first in ("LABEL", "CONTROL"):
        return str(first).lower()
    return _COMPONENTS.get(str(first)[:1], "") if _is_component(str(first)) else ""


def _is_component(word: str) -> bool:
    """Whether a word is a kind of value, such as M, M_FFE, PHASE or PHASE MAP."""
    start = word.replace("_", " ").split(" ")[0]
    return start in (*_COMPONENTS, *(name.upper() for name in _COMPONENTS.values()))


def _image_type(dataset: Dataset, group: Group, modality: str) -> dict[str, Hashable]:
    """Return what ImageType or FrameType says (PS3.3 C.7.6.1.1.2, C.8.16.1)."""
    frame = group("MRImageFrameTypeSequence") or group("CTImageFrameTypeSequence")
    enhanced = "FrameType" in frame
    stated = words(frame.get("FrameType") if enhanced else named(dataset, "ImageType"))
    found: dict[str, Hashable] = {"image type": stated} if stated else {}
    component = frame.get("ComplexImageComponent")
    if component is not None:
        found["kind of value"] = (str(component), *stated[3:4])
    elif len(stated) > 2 and modality not in _NO_COMPONENT:
        found["kind of value"] = stated[2:3]
    contrasts = {_CONTRASTS[word] for word in stated[2:] if word in _CONTRASTS}
    if len(contrasts) == 1:
        found["contrast"] = contrasts.pop()
    return found


def _read(attribute: Attribute, value: Any, dataset: Dataset) -> Hashable | None:
    """Return an element's value in the form that the attribute has, or None."""
    if value is None or value == "":
        return None
    if attribute.kind in ("text", "word"):
        return words(value if isinstance(value, str | Sequence) else str(value)) or None
    if attribute.kind == "clock":
        return _seconds(str(value), str(named(dataset, "AcquisitionDate") or ""))
    many = numbers(value)
    if not many or not all(map(isfinite, many)):
        return None
    if attribute.kind == "vector":
        return many
    # GE adds 1,000,000,000 to the b-values of some directions.
    return many[0] % 100_000 if attribute.name == "b-value" and many[0] > 1e6 else many[0]


def _seconds(text: str, day: str) -> float | None:
    """Return a DT, or a TM with the day if that is known, in seconds."""
    parts = re.fullmatch(r"(\d{8})?(\d\d)(\d\d)(\d\d(?:\.\d*)?)([+-]\d{4})?", text.strip())
    if parts is None:
        return None
    day = parts[1] or (day if re.fullmatch(r"\d{8}", day) else "")
    try:
        days = date(int(day[:4]), int(day[4:6]), int(day[6:])).toordinal() if day else 0
    except ValueError:
        return None
    return days * 86400 + int(parts[2]) * 3600 + int(parts[3]) * 60 + float(parts[4])
