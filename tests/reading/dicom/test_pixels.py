"""Compressed pixels as other programs write them: every whole frame is read, and no other."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicoms import make_slice, save, voxels
from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from voxtile.errors import CaseError
from voxtile.reading.dicom import read_series

END = b"\xfe\xff\xdd\xe0\0\0\0\0"
SYNTAXES = [RLELossless, JPEG2000Lossless, JPEGLSLossless]


def frames(stored: np.ndarray, syntax: Any) -> Dataset:
    """One enhanced file with all slices as compressed frames, one fragment each."""
    groups = []
    for index in range(len(stored)):
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2 * index]
        frame.PlanePositionSequence = [position]
        groups.append(frame)
    dataset = make_slice(
        0,
        stored,
        NumberOfFrames=len(stored),
        Rows=stored.shape[1],
        Columns=stored.shape[2],
        ImagePositionPatient=None,
        PerFrameFunctionalGroupsSequence=groups,
    )
    shared, orientation, measures, values = (Dataset() for _ in range(4))
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [1, 1]
    values.RescaleSlope, values.RescaleIntercept = 1, -1024
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    shared.PixelValueTransformationSequence = [values]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.compress(syntax)
    return dataset


def refused(folder: Path) -> CaseError:
    """The error that a folder is refused with."""
    with pytest.raises(CaseError) as caught:
        read_series(folder)
    return caught.value


def require(folder: Path, stored: np.ndarray, *codes: str) -> None:
    """The slices are read, with these notices."""
    scan = read_series(folder)
    np.testing.assert_array_equal(scan.volume.array, stored.astype(int).T - 1024)
    assert [notice.code for notice in scan.notices] == list(codes)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("table", ["zeros", "beyond", "reversed", "short", "empty"])
def test_a_wrong_table_of_offsets_does_not_matter(syntax: Any, table: str, tmp_path: Path) -> None:
    stored = voxels(4, 32, 32)
    dataset = frames(stored, syntax)
    fragments = list(pydicom.encaps.generate_fragments(dataset.PixelData, endianness="<"))[1:]
    offsets = {
        "zeros": [0] * 4,
        "beyond": [9**9] * 4,
        "reversed": [3000, 2000, 1000, 0],
        "short": [0, 10],
        "empty": [],
    }
    content = b"".join(offset.to_bytes(4, "little") for offset in offsets[table])
    items = [content, *fragments]
    dataset.PixelData = b"".join(
        b"\xfe\xff\0\xe0" + len(item).to_bytes(4, "little") + item for item in items
    )
    save(dataset, tmp_path / "a.dcm")
    require(tmp_path, stored)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("left", [0, 4])
def test_whole_frames_without_an_end_mark_are_read(syntax: Any, left: int, tmp_path: Path) -> None:
    stored = voxels(3, 32, 32)
    for index, picture in enumerate(stored):
        dataset = make_slice(index, picture)
        dataset.compress(syntax)
        save(dataset, tmp_path / f"{index}.dcm")
    path = tmp_path / "1.dcm"
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(END) + left])
    require(tmp_path, stored, "no_delimiter")


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("what", ["byte", "frame"])
def test_a_frame_that_is_cut_is_truncated(syntax: Any, what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    save(frames(voxels(3, 32, 32), syntax), path)
    content = path.read_bytes()
    end = content.rindex(END)
    path.write_bytes(content[: end - 1 if what == "byte" else content.rindex(b"\xfe\xff\0\xe0")])
    assert refused(tmp_path).code == "truncated"


@pytest.mark.parametrize("undefined", [True, False])
def test_compressed_pixels_of_an_uncompressed_syntax_are_named(
    undefined: bool, tmp_path: Path
) -> None:
    dataset = make_slice(0, voxels(1, 32, 32)[0])
    dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset["PixelData"].is_undefined_length = undefined
    path = tmp_path / "a.dcm"
    dataset.preamble = bytes(128)
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True)
    error = refused(tmp_path)
    assert error.code == "unsupported_syntax"
    assert "states a transfer syntax without compression" in error.sentence


def test_a_12_bit_jpeg_names_the_extra_that_decodes_it(tmp_path: Path) -> None:
    if "pylibjpeg" in pydicom.pixels.get_decoder(JPEGExtended12Bit).available_plugins:
        pytest.skip("the extra dicom-codecs-gpl is installed")
    dataset = make_slice(0, voxels(1, 32, 32)[0], BitsStored=12, HighBit=11)
    dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    save(dataset, tmp_path / "a.dcm")
    error = refused(tmp_path)
    assert error.code == "missing_codec"
    assert error.sentence.endswith('run: pip install "voxtile[dicom-codecs-gpl]"')
