"""Write a mask as a DICOM SEG, which a PACS stores with its series.

Planes of the mask are matched to slices of the source by position, and voxels
are not resampled. This is the only export with the patient's identity, because
a PACS finds objects by it.
"""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence as Items
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from voxtile.errors import CaseError, Notice, counted
from voxtile.label_values import label_type
from voxtile.machine.files import replacing
from voxtile.models.spec import Label
from voxtile.reading.dicom import SourceSlice, read_sources
from voxtile.reading.dicom.folder import Place
from voxtile.reading.formats import DICOM, format_of
from voxtile.reading.reference import on_grid_of
from voxtile.version import __version__
from voxtile.volume import Volume

from .finished import Finished
from .slicer import layered
from .terminology import coded, rgb

# Type 2 of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, may be empty.
_PRESENT = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip


def write_binary_seg(case: Finished, mask: Volume) -> tuple[Notice, ...]:
    """Write ``exports/dicom-seg/<case_id>.dcm``, of type BINARY: one bit per voxel and segment."""
    return _write(case, mask, "BINARY", "dicom-seg")


def write_labelmap_seg(case: Finished, mask: Volume) -> tuple[Notice, ...]:
    """Write ``exports/dicom-seg-labelmap/<case_id>.dcm``, of type LABELMAP (PS3.3 A.51.5)."""
    if len(layered(case.labels)) > 1:
        raise CaseError(
            "overlapping_labels",
            "the model's labels are regions that overlap, which a LABELMAP cannot hold; export "
            "dicom-seg instead",
        )
    return _write(case, mask, "LABELMAP", "dicom-seg-labelmap")


def _write(case: Finished, mask: Volume, kind: str, format_name: str) -> tuple[Notice, ...]:
    """Write a SEG of one type."""
    if case.image is None:
        raise CaseError(
            "no_source",
            "a DICOM SEG refers to its series; name the manifest with --manifest (and --root)",
        )
    source = format_of(case.image)
    if case.image.is_file() and source is not DICOM:
        raise CaseError(
            "no_source",
            f"the scan is a {source.name} file, but a DICOM SEG refers to a DICOM series; use "
            "another format",
        )
    grid, slices, _ = read_sources(case.image, case.policy)
    try:
        placed, _ = on_grid_of(mask, grid, "mask")
    except CaseError as error:
        raise CaseError(
            "seg_grid",
            f"{error.sentence.partition(';')[0]}, but a DICOM SEG needs a mask on the slices as "
            "they were acquired; run tilted series with --tilt native",
        ) from error
    planes = placed.array.transpose(2, 1, 0)  # (column, row, slice) to frames of (row, column)
    notices = []
    lost = sum(piece is None and planes[index].any() for index, piece in enumerate(slices))
    if lost:
        sentence = (
            f"the series lacks the slices of {counted(lost, 'plane')} of the mask, which the DICOM "
            "SEG leaves out"
        )
        notices.append(Notice("seg_missing_slices", sentence))
    kept = [index for index, piece in enumerate(slices) if piece is not None]
    sources = [piece for piece in slices if piece is not None]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings may quote names
            images, frames = _sources(sources, grid.spacing_mm[2])
            notices += _place(images)
            made = _segmentation(case, images, frames, planes[kept], kind)
            content = BytesIO()
            made.save_as(content, enforce_file_format=True)
    except (CaseError, MemoryError):
        raise
    except Exception as error:  # highdicom raises many types; the text may quote a tag
        raise CaseError(
            "seg_refused",
            f"a DICOM SEG cannot be made for this series ({type(error).__name__}), because its "
            "headers lack values that a SEG needs; use another format",
        ) from error
    with replacing(case.target(format_name)) as file:
        file.write(content.getbuffer())
    return tuple(notices)


def _place(images: Sequence[Dataset]) -> list[Notice]:
    """Give a series without a frame of reference a new one, with a notice."""
    if images[0].get("FrameOfReferenceUID"):
        return []
    # Made from the series UID, so that all objects for this series get the same UID.
    uid = generate_uid(entropy_srcs=["voxtile frame of reference", images[0].SeriesInstanceUID])
    for image in images:
        image.FrameOfReferenceUID = uid
    return [
        Notice(
            "seg_frame_of_reference",
            "the series has no frame of reference, which a DICOM SEG needs; a new one was made, so "
            "a viewer can place the SEG only by the slices it refers to",
        )
    ]


def _segmentation(
    case: Finished,
    images: Sequence[Dataset],
    frames: Sequence[int] | None,
    planes: np.ndarray,
    kind: str,
) -> Dataset:
    """Return the SEG of some planes; `images` are their slices, in the same order."""
    values = [label.values for label in case.labels]
    if len(layered(case.labels)) > 1:
        pixels = np.stack([np.isin(planes, each) for each in values], axis=-1).astype(np.uint8)
    else:
        table = np.zeros(max(int(planes.max()), *map(max, values)) + 1, np.uint16)
        for number, each in enumerate(values, start=1):
            table[list(each)] = number
        pixels = table[planes].astype(label_type([len(values)]))
    made: Dataset = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[
            _description(number, label, case.model) for number, label in enumerate(case.labels, 1)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=_series_number(images[0]),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="voxtile",
        manufacturer_model_name=case.model[:64],
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description="Made by software, not reviewed",
        series_description=f"voxtile {case.model}"[:64],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True,
    )
    if frames is not None:
        _renumber(made, frames)
    return made


def _sources(
    slices: Sequence[SourceSlice], spacing_mm: float
) -> tuple[list[Dataset], list[int] | None]:
    """Return a dataset for each slice; or one multi-frame dataset, with the numbers of frames."""
    files = list(dict.fromkeys(piece.file for piece in slices))
    datasets = {path: _header(path) for path in files}
    first = datasets[files[0]]
    if len(files) == 1 and "PerFrameFunctionalGroupsSequence" in first:
        frames = [piece.frame for piece in slices]
        return [_only_frames(first, frames)], [frame + 1 for frame in frames]
    if len(files) != len(slices):
        raise CaseError(
            "several_frames",
            "the slices are in several files of several frames each, which is not supported for a "
            "DICOM SEG; use another format",
        )
    images = [datasets[piece.file] for piece in slices]
    for image in images:
        # The reader allows rounding differences; highdicom needs equal text.
        image.ImageOrientationPatient = first.ImageOrientationPatient
        image.PixelSpacing = first.PixelSpacing
        image.FrameOfReferenceUID = first.get("FrameOfReferenceUID", "")
        if not image.get("SliceThickness"):
            image.SliceThickness = f"{spacing_mm:.6g}"  # a SEG needs a thickness
    return images, None


def _header(path: Path) -> Dataset:
    """Return a file's header, with the elements that a SEG must have."""
    try:
        with Place(path, 1, 1).open() as file:  # which may be gzipped
            dataset = dcmread(file, stop_before_pixels=True)
        # The text of the SEG is UTF-8, whatever the encoding of the source.
        dataset.decode()
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for name in _PRESENT:
            if name not in dataset:
                setattr(dataset, name, "")
    except OSError as error:
        raise CaseError(
            "unreadable", f"a file of the series cannot be read ({error.strerror}); copy it again"
        ) from error
    return dataset


def _only_frames(dataset: Dataset, frames: Sequence[int]) -> Dataset:
    """Return a multi-frame header with only some frames, in this order."""
    groups = dataset.PerFrameFunctionalGroupsSequence
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    # Groups that are equal in all frames may be in each frame; highdicom needs them as shared.
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if name not in shared:
            setattr(shared, name, getattr(groups[frames[0]], name))
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = Items([groups[frame] for frame in frames])
    dataset.NumberOfFrames = len(frames)
    return dataset


def _renumber(made: Dataset, frames: Sequence[int]) -> None:
    """Replace the index of a frame in each reference by its number in the file."""
    # Frames of several segments on one slice share the item with the reference.
    items = {
        id(source): source
        for groups in made.PerFrameFunctionalGroupsSequence
        for derivation in groups.get("DerivationImageSequence", [])
        for source in derivation.get("SourceImageSequence", [])
    }
    for source in items.values():
        source.ReferencedFrameNumber = frames[int(source.ReferencedFrameNumber) - 1]


def _description(number: int, label: Label, model: str) -> highdicom.seg.SegmentDescription:
    """Return the description of a segment (PS3.3 C.8.20.4)."""
    category, kind = (
        Code(concept.value, concept.scheme, concept.meaning[:64]) for concept in coded(label)
    )
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label.name[:64],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=model[:64],
            family=Code("123109", "DCM", "Artificial Intelligence"),
            version=__version__,
        ),
    )
    if label.modifier is not None:
        part = Code(label.modifier.value, label.modifier.scheme, label.modifier.meaning[:64])
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            highdicom.sr.CodedConcept(*part[:3])
        ]
    described.add(
        DataElement(0x0062000D, "US", list(highdicom.color.CIELabColor.from_rgb(*rgb(label)).value))
    )
    return described


def _series_number(source: Dataset) -> int:
    """Return a number for the new series that differs from the source's."""
    try:
        return 1000 + int(source.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        return 1000
