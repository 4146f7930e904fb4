"""Headers as anonymisers, gateways and old programs write them: the true reason, or read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicoms import make_slice, save, voxels, write_series
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from voxtile.errors import CaseError
from voxtile.reading.dicom import read_series


def refused(folder: Path) -> CaseError:
    """The error that a folder is refused with."""
    with pytest.raises(CaseError) as caught:
        read_series(folder)
    return caught.value


def blank(*keywords: str, missing: bool = False, only: int | None = None) -> Any:
    """Leave elements empty, or out, in all slices or one."""

    def change(dataset: Dataset, index: int) -> None:
        for keyword in keywords if only in (None, index) else ():
            if missing:
                delattr(dataset, keyword)
            else:
                dataset[keyword].value = None

    return change


@pytest.mark.parametrize(
    ("keywords", "missing"),
    [
        (("RescaleSlope", "RescaleIntercept"), False),
        (("HighBit",), True),
        (("HighBit",), False),
        (("SamplesPerPixel",), True),
        (("SamplesPerPixel",), False),
        (("ImageType", "InstanceNumber", "SliceThickness"), False),
    ],
)
def test_elements_that_leave_no_choice_may_be_empty(
    keywords: tuple[str, ...], missing: bool, tmp_path: Path
) -> None:
    stored = voxels()
    write_series(tmp_path, stored, blank(*keywords, missing=missing), Modality="MR")
    offset = 0 if "RescaleSlope" in keywords else 1024
    array = read_series(tmp_path).volume.array
    np.testing.assert_array_equal(array, stored.astype(int).T - offset)


@pytest.mark.parametrize(
    ("keywords", "code", "words"),
    [
        (("RescaleSlope",), "bad_rescale", "file 3 of 5 needs both"),
        (("RescaleSlope", "RescaleIntercept"), "bad_rescale", "only 4 of 5 slices"),
        (("PixelRepresentation",), "damaged", "file 3 of 5 has no valid PixelRepresentation"),
        (("PhotometricInterpretation",), "damaged", "no valid PhotometricInterpretation"),
        (("BitsStored",), "damaged", "no valid BitsStored"),
        (("Rows",), "damaged", "no valid Rows"),
    ],
)
def test_an_empty_element_that_is_needed_is_named(
    keywords: tuple[str, ...], code: str, words: str, tmp_path: Path
) -> None:
    write_series(tmp_path, voxels(), blank(*keywords, only=2))
    error = refused(tmp_path)
    assert error.code == code
    assert words in error.sentence


@pytest.mark.parametrize("written", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_wrong_statement_of_implicit_or_explicit_does_not_matter(
    written: Any, tmp_path: Path
) -> None:
    stored = voxels()

    def change(dataset: Dataset, _: int) -> None:
        dataset.file_meta.TransferSyntaxUID = written

    write_series(tmp_path, stored, change)
    pair = (ImplicitVRLittleEndian.encode(), ExplicitVRLittleEndian.encode())
    pair = tuple(one.ljust(len(one) + len(one) % 2, b"\0") for one in pair)  # type: ignore[assignment]
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        old, new = pair if written == ImplicitVRLittleEndian else pair[::-1]
        at = content.index(old)
        length = len(new).to_bytes(2, "little")
        group = int.from_bytes(content[140:144], "little") + len(new) - len(old)
        content = content[: at - 2] + length + new + content[at + len(old) :]
        path.write_bytes(content[:140] + group.to_bytes(4, "little") + content[144:])
    np.testing.assert_array_equal(read_series(tmp_path).volume.array, stored.astype(int).T - 1024)


def test_uncompressed_pixels_of_a_compressed_syntax_are_read(tmp_path: Path) -> None:
    stored = voxels()

    def change(dataset: Dataset, _: int) -> None:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian

    write_series(tmp_path, stored, change)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        old = ExplicitVRLittleEndian.encode().ljust(20, b"\0")
        at = content.index(old)
        new = JPEGBaseline8Bit.encode()
        group = int.from_bytes(content[140:144], "little") + len(new) - len(old)
        content = content[: at - 2] + len(new).to_bytes(2, "little") + new + content[at + 20 :]
        path.write_bytes(content[:140] + group.to_bytes(4, "little") + content[144:])
    np.testing.assert_array_equal(read_series(tmp_path).volume.array, stored.astype(int).T - 1024)


@pytest.mark.parametrize("at", [0.25, 0.5, 0.75, 1.0])
def test_a_header_that_ends_within_a_sequence_is_truncated(at: float, tmp_path: Path) -> None:
    write_series(tmp_path, voxels())
    dataset = make_slice(2, voxels(1)[0])
    item = Dataset()
    item.ReferencedSOPClassUID = item.ReferencedSOPInstanceUID = "1.2.3.4"
    dataset.ReferencedImageSequence = [item, item]
    dataset["ReferencedImageSequence"].is_undefined_length = True
    item.is_undefined_length_sequence_item = True
    path = tmp_path / "002.dcm"
    save(dataset, path)
    content = path.read_bytes()
    begin = content.index(b"\x08\0\x40\x11SQ") + 12
    end = content.index(b"\x18\0\x50\0")
    path.write_bytes(content[: begin + int((end - 9 - begin) * at)])
    error = refused(tmp_path)
    assert error.code == "truncated"
    assert error.sentence.startswith("file 3 of 5 ends ")


def test_elements_out_of_order_are_refused_with_a_way_out(tmp_path: Path) -> None:
    write_series(tmp_path, voxels())
    path = tmp_path / "001.dcm"
    content = path.read_bytes()
    one, two, end = (
        content.index(tag) for tag in (b"\x28\0\x02\0", b"\x28\0\x04\0", b"\x28\0\x10\0")
    )
    path.write_bytes(content[:one] + content[two:end] + content[one:two] + content[end:])
    error = refused(tmp_path)
    assert error.code == "damaged"
    assert "file 2 of 5 has elements out of order" in error.sentence
    assert "gdcmconv" in error.sentence


def csa(count: int) -> bytes:
    """A Siemens CSA header that says how many images a mosaic has."""
    name = b"NumberOfImagesInMosaic".ljust(64, b"\0")
    text = str(count).encode().ljust(4, b"\0")
    element = name + (1).to_bytes(4, "little") + b"US\0\0" + bytes(4)
    element += (1).to_bytes(4, "little") + bytes(4)
    item = bytes(4) + len(text).to_bytes(4, "little") + bytes(8) + text
    return b"SV10\4\3\2\1" + (1).to_bytes(4, "little") + b"M\0\0\0" + element + item


@pytest.mark.parametrize("vendor", ["Siemens", "Siemens XA", "UIH"])
def test_slices_cut_out_of_a_mosaic_are_slices(vendor: str, tmp_path: Path) -> None:
    stored = voxels(4)

    def change(dataset: Dataset, _: int) -> None:
        dataset.SpacingBetweenSlices = 2.5
        if vendor == "Siemens":
            block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
            block.add_new(0x10, "OB", csa(4))
        elif vendor == "Siemens XA":
            block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
            block.add_new(0x0A, "US", 4)
        else:
            block = dataset.private_block(0x0065, "Image Private Header", create=True)
            item = Dataset()
            item.ImagePositionPatient = [0, 0, 0]
            block.add_new(0x51, "SQ", [item] * 4)

    write_series(tmp_path, stored, change)
    np.testing.assert_array_equal(read_series(tmp_path).volume.array, stored.astype(int).T - 1024)
    for path in sorted(tmp_path.iterdir())[1:]:
        path.unlink()
    assert read_series(tmp_path).volume.shape == (6, 4, 1)
