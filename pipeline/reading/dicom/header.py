"""Read a DICOM file's header: its slices, their geometry, and how their pixels are stored.

Only the values that an image needs are read, and each is checked where it is
read. The only texts of tags that leave this module are CS code strings, UIDs and the
series description. They are compared and never shown, except a known Modality.
"""

import struct
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import isfinite, nan
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from voxtile.errors import CaseError, counted

from .attributes import Tells, others, tells
from .elements import named, numbers, words
from .folder import Place
from .mosaic import siemens_tiles, uih_tiles
from .real_world import Values, real_world
from .tomography import Tomogram, tomograms

# Objects with pixel data that are not scans: Segmentation, Surface Segmentation, Label Map
# Segmentation, RT Dose (PS3.4 B.5).
_NOT_SCANS = [f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("66.4", "66.5", "66.7", "481.2")]
_PIXEL_TAGS = {0x7FE00010: "integer", 0x7FE00008: "float32", 0x7FE00009: "float64"}
_UNDEFINED = 0xFFFFFFFF
_RESCALE = ("RescaleSlope", "RescaleIntercept")
# Modalities that are shown (PS3.3 C.7.3.1.1.1). Any other value may be a name in the wrong tag.
_MODALITIES = ("CT", "MR", "PT", "NM", "US", "XA", "RF", "CR", "DX", "MG", "SC")


@dataclass(frozen=True, slots=True)
class PixelStore:
    """How the pixels of one file are stored (PS3.3 C.7.6.3).

    Parameters
    ----------
    offset : int
        Byte of the file where the pixel data begin; 0 for a deflated file.
    length : int or None
        Bytes of pixel data; None if they are encapsulated.
    kind : {"integer", "float32", "float64"}
    words : bool
        Whether the pixel data are 16-bit words (OW), whose bytes are swapped
        in a big-endian file (PS3.5 section 7.3), even if each byte is a pixel.
    """

    place: Place
    syntax: UID
    offset: int
    length: int | None
    little_endian: bool
    frames: int
    rows: int
    columns: int
    allocated: int
    stored: int
    signed: bool
    photometric: str
    kind: str = "integer"
    words: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice: a frame of a file, or a tile of a mosaic.

    Parameters
    ----------
    frame : int
        Index in the file, from 0.
    corner : (row, column)
        First pixel of the tile in the frame; (0, 0) except in a mosaic.
    position : (x, y, z)
        Centre of its first pixel, LPS, in mm (PS3.3 C.7.6.2.1.1).
    orientation : (x, y, z, x, y, z)
        Direction of increasing columns, then of increasing rows, LPS.
    spacing : (rows, columns)
        Distance between neighbouring rows, and columns, in mm.
    thickness_mm : float
        SliceThickness, 0 if missing. This is not the distance between slices.
    slope, intercept : float
        Value = stored * slope + intercept (PS3.3 C.11.1).
    rescaled : bool
        Whether the file gives slope and intercept.
    tells : mapping of str to value
        What may distinguish volumes at the same places, by `Attribute.name`.
    others : mapping of int to value
        Other short elements of the slice, by tag, which may distinguish them too.
    other_values : bool
        Whether the file has other real world values, which are not used.
    """

    store: PixelStore
    frame: int
    corner: tuple[int, int]
    rows: int
    columns: int
    position: tuple[float, float, float]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    thickness_mm: float
    slope: float
    intercept: float
    rescaled: bool
    tells: Tells
    others: Mapping[int, Hashable]
    other_values: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One DICOM file.

    Parameters
    ----------
    kind : {"image", "scout", "other"}
        A scout (localiser) is an image that never counts as the volume.
    slices : tuple of Slice
        Empty if it is not an image, or if it has a `problem`.
    """

    place: Place
    uid: str
    series: str
    modality: str  # a code such as CT; "OT" if it is not a known one
    kind: str
    sop_class: str = ""
    secondary: bool = False  # made by a program from other images, such as a picture of the screen
    frame_of_reference: str = ""  # empty if missing
    description: str = ""  # SeriesDescription; compared in this process, and never shown
    slices: tuple[Slice, ...] = ()
    problem: CaseError | None = None
    plain_ct: bool = False  # a CT without the values that give HU
    tilt_deg: float = 0.0
    inverted: bool = False  # low values are to be displayed bright (MONOCHROME1)


def read_header(place: Place) -> Instance:
    """Return the contents of one file; refuse it if it is so damaged that its series is unknown."""
    try:
        return _read_header(place)
    except (CaseError, MemoryError):
        raise
    except Exception as error:  # pydicom raises anything on a damaged file, also an OSError
        if isinstance(error, OSError) and error.errno is not None:
            raise CaseError("unreadable", f"{place} cannot be read ({error.strerror})") from error
        raise CaseError(
            "damaged",
            f"{place} has a damaged header ({type(error).__name__}); copy it again, or leave it "
            "out",
        ) from error


def _read_header(place: Place) -> Instance:
    """Return the contents of one file; a damaged one may raise any exception."""
    with place.open() as file:
        try:
            dataset = dcmread(file, stop_before_pixels=True)
        except Exception as error:
            if getattr(error, "errno", None) is None and not file.read(1):
                raise CaseError(
                    "truncated", f"{place} ends within its header; copy it again, or leave it out"
                ) from error
            raise
        pixel_offset = file.tell()
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        if not syntax:
            raise CaseError(
                "damaged", f"{place} has no transfer syntax in its header; copy or export it again"
            )
        syntax = UID(syntax)
        if syntax == DeflatedExplicitVRLittleEndian:
            element = _deflated_pixels(place)
        else:
            file.seek(pixel_offset)
            element = _pixel_element(file.read(12), pixel_offset, dataset)
    _require_ascending(dataset, place)
    sop_class = UID(str(named(dataset, "SOPClassUID") or ""))
    modality = str(named(dataset, "Modality") or "")
    instance = Instance(
        place=place,
        uid=str(named(dataset, "SOPInstanceUID") or ""),
        series=str(named(dataset, "SeriesInstanceUID") or ""),
        modality=modality if modality in _MODALITIES else "OT",
        kind="other",
        sop_class=sop_class,
        secondary=_is_secondary(dataset, sop_class),
        frame_of_reference=str(named(dataset, "FrameOfReferenceUID") or ""),
        description=str(dataset.get("SeriesDescription") or "").strip(),
    )
    if sop_class in _NOT_SCANS or not (element or _should_be_image(dataset, sop_class)):
        return instance
    changes: dict[str, Any] = {"kind": "scout" if _is_scout(dataset) else "image"}
    try:
        if element is None:
            raise CaseError(
                "truncated", f"{place} ends before its pixel data; copy it again, or leave it out"
            )
        store = _pixel_store(dataset, place, syntax, element)
        changes |= {
            "slices": _slices(dataset, store),
            "plain_ct": sop_class.name == "CT Image Storage" and not _has(dataset, "RescaleSlope"),
            "tilt_deg": _optional(dataset, "GantryDetectorTilt", 0.0),
            "inverted": store.photometric == "MONOCHROME1",
        }
    except CaseError as problem:
        changes["problem"] = problem
    return replace(instance, **changes)


def _require_ascending(dataset: Dataset, place: Place) -> None:
    """Refuse tags out of order (PS3.5 section 7.1), which show that a length or tag is wrong."""
    tags = list(map(int, dataset.keys()))
    if any(after <= before for before, after in pairwise(tags)):
        raise CaseError(
            "damaged",
            f"{place} has elements out of order, as damaged files have; copy it again, or rewrite "
            "it with a DICOM tool, such as gdcmconv, if another program reads it",
        )


def _should_be_image(dataset: Dataset, sop_class: UID) -> bool:
    """Whether an object without pixel data should have pixel data."""
    meta_class = UID(str(dataset.file_meta.get("MediaStorageSOPClassUID", "")))
    names = [uid.name for uid in (sop_class, meta_class)]
    if any("Image Storage" in name or "Parametric Map" in name for name in names):
        return True
    # Private objects beside images have a size, but no place in the patient (Philips' XX files).
    placed = "ImagePositionPatient" in dataset or "ImageOrientationPatient" in dataset
    unknown = all(uid.name == str(uid) for uid in (sop_class, meta_class))
    return unknown and placed and "Rows" in dataset


def _is_scout(dataset: Dataset) -> bool:
    """Whether an image is a scout or localiser (PS3.3 C.7.6.1.1.2, C.8.2.1.1.1)."""
    stated = words(named(dataset, "ImageType"))
    return any("LOCALI" in word or "SCOUT" in word for word in stated)


def _is_secondary(dataset: Dataset, sop_class: UID) -> bool:
    """Whether an image is a secondary capture or says that it is secondary or a screen save."""
    stated = words(named(dataset, "ImageType"))
    screen = any("SCREEN" in word for word in stated)
    return "Secondary Capture" in sop_class.name or screen or stated[1:2] == ("SECONDARY",)


_Element = tuple[str, int, int | None, bool]


def _pixel_element(head: bytes, offset: int, dataset: Dataset) -> _Element | None:
    """Return (kind, offset, length or None, whether OW) of the pixel data at a file position."""
    if len(head) < 8:
        return None
    _, little = dataset.original_encoding
    order = "<" if little else ">"
    group, element = struct.unpack_from(f"{order}HH", head)
    kind = _PIXEL_TAGS.get(group << 16 | element)
    if kind is None:
        return None
    # Some files state a wrong syntax. Read as a length, these VRs are odd, but a length is even.
    explicit = head[4:6] in (b"OB", b"OW", b"OF", b"OD", b"UN")
    begin = 8 if explicit else 4
    if len(head) < begin + 4:
        return None
    (length,) = struct.unpack_from(f"{order}I", head, begin)
    in_words = head[4:6] == b"OW"
    return kind, offset + begin + 4, None if length == _UNDEFINED else length, in_words


def _deflated_pixels(place: Place) -> _Element | None:
    """Return what `_pixel_element` does, for a deflated data set; the offset is 0."""
    with place.open() as file:
        dataset = dcmread(file)
    return ("integer", 0, len(dataset.PixelData), False) if "PixelData" in dataset else None


def _pixel_store(dataset: Dataset, place: Place, syntax: UID, element: _Element) -> PixelStore:
    """Return how the pixels are stored, if that is supported."""
    kind, offset, length, in_words = element
    photometric = str(named(dataset, "PhotometricInterpretation") or "")
    grey = photometric in ("MONOCHROME1", "MONOCHROME2")
    if photometric and not (grey and int(named(dataset, "SamplesPerPixel") or 1) == 1):
        raise CaseError(
            "colour",
            f"{place} has coloured pixels, but one grey value per pixel is needed (MONOCHROME1 or "
            "MONOCHROME2); convert it to grey values",
        )
    if not _has(dataset, "HighBit"):
        dataset.HighBit = int(named(dataset, "BitsStored") or 0) - 1  # no other is supported
    names = ["Rows", "Columns", "BitsAllocated"]
    if kind == "integer":
        names += ["BitsStored", "HighBit", "PixelRepresentation"]
    found = {name: named(dataset, name) for name in names}
    for name in names:
        if not photometric or not isinstance(found[name], int):
            name = name if photometric else "PhotometricInterpretation"
            raise CaseError("damaged", f"{place} has no valid {name}; copy or export it again")
    store = PixelStore(
        place=place,
        syntax=syntax,
        offset=offset,
        length=length,
        little_endian=bool(dataset.original_encoding[1]),
        frames=int(named(dataset, "NumberOfFrames") or 1),
        rows=found["Rows"],
        columns=found["Columns"],
        allocated=found["BitsAllocated"],
        stored=found["BitsStored"] if kind == "integer" else found["BitsAllocated"],
        signed=kind != "integer" or dataset.PixelRepresentation == 1,
        photometric=photometric,
        kind=kind,
        words=in_words,
    )
    allowed = {"integer": (8, 16, 32), "float32": (32,), "float64": (64,)}[kind]
    supported = store.allocated in allowed and 1 <= store.stored <= store.allocated
    if kind == "integer":
        supported &= dataset.HighBit == store.stored - 1 and found["PixelRepresentation"] in (0, 1)
    if not supported or min(store.rows, store.columns, store.frames) < 1:
        raise CaseError(
            "pixel_layout",
            f"{place} has {store.rows} x {store.columns} pixels, "
            f"{counted(store.frames, 'frame')}, {store.stored} of {store.allocated} bits used; "
            "only 8, 16 or 32 bits with HighBit = BitsStored - 1 are supported, so convert it",
        )
    if dataset.get("ModalityLUTSequence"):
        raise CaseError(
            "modality_lut",
            f"{place} maps stored values by a table (Modality LUT), which is not supported; only "
            "rescale slope and intercept are, so convert it",
        )
    return store


def _slices(dataset: Dataset, store: PixelStore) -> tuple[Slice, ...]:
    """Return the slices of a file with an image."""
    if "PerFrameFunctionalGroupsSequence" in dataset:
        return _enhanced_slices(dataset, store)
    if store.frames > 1 and (found := tomograms(dataset, store.place, store.frames)):
        return tuple(_tomographic(dataset, store, index, one) for index, one in enumerate(found))
    if store.frames > 1:
        raise CaseError(
            "no_geometry",
            f"{store.place} holds {store.frames} frames without their positions (per-frame "
            "functional groups); export it as enhanced multi-frame or as single slices",
        )
    whole = _slice(dataset, store, 0, lambda _: dataset)
    tiles = siemens_tiles(dataset, store.place) or uih_tiles(dataset, store.place)
    if tiles is None:
        return (replace(whole, position=_position(dataset, store.place)),)
    return tuple(replace(whole, **asdict(tile)) for tile in tiles)


def _tomographic(dataset: Dataset, store: PixelStore, frame: int, found: Tomogram) -> Slice:
    """Return a frame of a reconstruction of nuclear medicine."""

    def group(name: str) -> Dataset:
        """Return the data set that has the elements of a functional group."""
        return found.orientation if name == "PlaneOrientationSequence" else dataset

    piece = _slice(dataset, store, frame, group, found.counts)
    return replace(piece, position=found.position)


def _enhanced_slices(dataset: Dataset, store: PixelStore) -> tuple[Slice, ...]:
    """Return the frames of an enhanced multi-frame image (PS3.3 C.7.6.16)."""
    frames = dataset.PerFrameFunctionalGroupsSequence
    if len(frames) != store.frames or "NumberOfFrames" not in dataset:
        raise CaseError(
            "damaged",
            f"{store.place} states {counted(store.frames, 'frame')} but describes {len(frames)}; "
            "copy it again",
        )
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    slices = []
    for index, groups in enumerate(frames):
        _require_ascending(groups, store.place)

        def group(name: str, groups: Dataset = groups) -> Dataset:
            """Return a functional group of this frame: its own, the shared one, or an empty one."""
            items = groups.get(name) or shared.get(name)
            found: Dataset = items[0] if items else Dataset()
            _require_ascending(found, store.place)
            return found

        piece = _slice(dataset, store, index, group, own=groups)
        position = _position(group("PlanePositionSequence"), store.place)
        slices.append(replace(piece, position=position))
    return tuple(slices)


def _slice(
    dataset: Dataset,
    store: PixelStore,
    frame: int,
    group: Callable[[str], Dataset],
    counts: Mapping[str, float] | None = None,
    own: Dataset | None = None,
) -> Slice:
    """Return a frame as a slice that has no position yet.

    `group` returns its functional groups, or a classic image itself. `counts` are further
    values that distinguish volumes, and `own` has the groups of this frame only.
    """
    transformation = group("PixelValueTransformationSequence")
    rescale = Values(
        *_rescale(transformation, store.place), given=_has(transformation, "RescaleSlope")
    )
    values = real_world(dataset, frame, rescale, store.place)
    found = others(dataset if own is None else own)
    measures = group("PixelMeasuresSequence")
    return Slice(
        store=store,
        frame=frame,
        corner=(0, 0),
        rows=store.rows,
        columns=store.columns,
        position=(nan, nan, nan),
        orientation=_orientation(group("PlaneOrientationSequence"), store.place),
        spacing=_spacing(measures, store.place),
        thickness_mm=_optional(measures, "SliceThickness", 0.0),
        slope=values.slope,
        intercept=values.intercept,
        rescaled=values.given,
        others=found,
        tells=tells(
            dataset, group, str(named(dataset, "Modality")), {"frame": frame, **(counts or {})}
        ),
        other_values=values.others,
    )


def _position(dataset: Dataset, place: Place) -> tuple[float, float, float]:
    """Return ImagePositionPatient."""
    x, y, z = _needed(dataset, "ImagePositionPatient", 3, place)
    return x, y, z


def _orientation(dataset: Dataset, place: Place) -> tuple[float, ...]:
    """Return ImageOrientationPatient, two unit vectors at right angles (PS3.3 C.7.6.2.1.1)."""
    values = _needed(dataset, "ImageOrientationPatient", 6, place)
    row, column = values[:3], values[3:]
    lengths = [sum(x * x for x in vector) for vector in (row, column)]
    dot = sum(x * y for x, y in zip(row, column, strict=True))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(dot)) > 2e-3:
        raise CaseError(
            "no_geometry",
            f"{place} needs two unit vectors at right angles in ImageOrientationPatient but has "
            "others; export the series again",
        )
    return values


def _spacing(dataset: Dataset, place: Place) -> tuple[float, float]:
    """Return PixelSpacing: between rows, between columns (PS3.3 10.7.1.3)."""
    rows, columns = _needed(dataset, "PixelSpacing", 2, place)
    if min(rows, columns) <= 0:
        raise CaseError("no_geometry", f"{place} needs a positive PixelSpacing; export it again")
    return rows, columns


def _rescale(dataset: Dataset, place: Place) -> tuple[float, float]:
    """Return slope and intercept; (1, 0) if both are missing."""
    if not any(_has(dataset, name) for name in _RESCALE):
        return 1.0, 0.0
    try:
        slope, intercept = (float(named(dataset, name)) for name in _RESCALE)
    except (AttributeError, TypeError, ValueError):
        slope = 0.0
    if slope == 0 or not isfinite(slope) or not isfinite(intercept):
        raise CaseError(
            "bad_rescale",
            f"{place} needs both RescaleSlope (not 0) and RescaleIntercept as finite numbers; "
            "export the series again",
        )
    return slope, intercept


def _has(dataset: Dataset, name: str) -> bool:
    """Whether an element has a value; anonymisers leave some empty."""
    return named(dataset, name) not in (None, "")


def _needed(dataset: Dataset, name: str, count: int, place: Place) -> tuple[float, ...]:
    """Return the numbers of an element that gives the position of an image."""
    values = numbers(named(dataset, name))
    if len(values) != count or not all(map(isfinite, values)):
        raise CaseError(
            "no_geometry",
            f"{place} needs {count} finite numbers in {name} but has {len(values) or 'no'} valid "
            "ones, so its position is unknown; export the original series again, or leave the "
            "case out",
        )
    return values


def _optional(dataset: Dataset, name: str, default: float) -> float:
    """Return the first number of an element, if it has a finite one."""
    values = numbers(named(dataset, name))
    return values[0] if values and isfinite(values[0]) else default
