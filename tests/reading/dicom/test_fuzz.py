"""Damaged DICOM: read equal or refused, never a crash, a hang or a foreign exception.

A mutation of structure (a cut, a length, a tag, an element moved, doubled or
lost) must not change what is read. A mutation of a value may, but nothing
else may happen. VOXTILE_FUZZ=300 runs 300 of them.
"""

import os
import re
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest

from voxtile.errors import CaseError
from voxtile.reading.dicom import read_series
from voxtile.reading.scan import ReadPolicy, Scan

COUNT = int(os.environ.get("VOXTILE_FUZZ", "60"))
CASES = (
    "dicom_to_nifti/generic_uncompressed/dicom",
    "dicom_to_nifti/generic_j2k/dicom",
    "dicom_to_nifti/generic_jpeg_lossless/dicom",
    "dicom_to_nifti/generic_jpegls/dicom",
    "dicom_to_nifti/generic_rle/dicom",
    "dicom_to_nifti/ge_4d_fmri/dicom",
    "dicom_to_nifti/siemens_4d_classic/dicom",
    "dicom_to_nifti/siemens_sag_implicit/dicom",
    "dicom_to_nifti/siemens_mosaic_ap/dicom",
    "dicom_to_nifti/siemens_multiframe_xa/dicom",
    "dicom_to_nifti/philips_enhanced_4d/dicom",
    "dicom_to_nifti/philips_enhanced_dual_echo/dicom",
    "dicom_to_nifti/rescale_float_nonisotropic/dicom",
    "dicom_to_nifti/hitachi/dicom",
    "dicom_to_nifti/uih_4d_dti/dicom",
    "edge_cases/dicom/ct_crop_17slices",
    "edge_cases/dicom/mr_small_same_pixels",
)
POLICY = ReadPolicy(volume=0)
LONG_VRS = ("OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UC", "UR", "UT", "UN", "SV", "UV")
ITEM = re.escape(b"\xfe\xff\x00\xe0")
STRUCTURE = ("cut", "length", "tag", "swap", "double", "drop", "fragment")
KINDS = (*STRUCTURE, "value", "header byte", "pixel byte")


def elements(path: Path) -> tuple[list[tuple[int, int, int]], str]:
    """Return (begin, value, end) of the elements before the pixels, and the byte order."""
    with path.open("rb") as file:
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        end = file.tell()
    implicit, little = dataset.original_encoding
    found = []
    for tag in dataset.keys():  # noqa: SIM118, a Dataset iterates over elements
        raw = dataset.get_item(tag)
        if getattr(raw, "value_tell", 0):  # a sequence is parsed at once and has none
            begin = raw.value_tell - (12 if not implicit and raw.VR in LONG_VRS else 8)
            found.append((begin, raw.value_tell))
    ends = [begin for begin, _ in found[1:]] + [end]
    return [(*both, stop) for both, stop in zip(found, ends, strict=True)], "<" if little else ">"


def mutate(path: Path, kind: str, rng: np.random.Generator) -> bytes:
    """Return a file's content with one mutation."""
    content = bytearray(path.read_bytes())
    found, order = elements(path)
    pixels = found[-1][2]
    index = int(rng.integers(len(found)))
    begin, value, end = found[index]
    if kind == "cut":
        return bytes(content[: rng.integers(132, len(content))])
    if kind == "length":
        at = (
            value - 2
            if value - begin == 8 and content[begin + 4 : begin + 6].isalpha()
            else value - 4
        )
        form = order + ("H" if at == value - 2 else "I")
        (length,) = struct.unpack_from(form, content, at)
        changed = rng.choice([length + 2, max(0, length - 2), length + 12, 0, length * 2 + 2])
        struct.pack_into(form, content, at, int(changed) % 2**16)
    elif kind == "tag":
        content[begin + int(rng.integers(4))] ^= 1 << int(rng.integers(8))
    elif kind == "swap":
        first = int(rng.integers(len(found) - 1))
        a, b = found[first], found[first + 1]
        content[a[0] : b[2]] = content[b[0] : b[2]] + content[a[0] : a[2]]
    elif kind == "double":
        content[end:end] = content[begin:end]
    elif kind == "drop":
        del content[begin:end]
    elif kind == "fragment":
        # The length of the pixel data, or of one of their fragments.
        items = [pixels + 4, pixels + 8, *(m.start() + 4 for m in re.finditer(ITEM, content))]
        compressed = content[pixels + 8 : pixels + 12] == b"\xff" * 4
        at = (
            items[int(rng.integers(2, len(items)))]
            if compressed
            else items[content[pixels + 4] > 64]
        )
        struct.pack_into("<I", content, at, int(rng.integers(2**32)) >> int(rng.integers(32)))
    elif kind == "value":
        if end > value:
            content[value + int(rng.integers(end - value))] = int(rng.integers(256))
    elif kind == "header byte":
        content[int(rng.integers(132, pixels))] = int(rng.integers(256))
    elif kind == "pixel byte":
        for at in rng.integers(min(pixels + 8, len(content) - 1), len(content), 20):
            content[int(at)] = int(rng.integers(256))
    return bytes(content)


def mutated_folder(source: Path, folder: Path, kind: str, rng: np.random.Generator) -> None:
    """Copy a series with one file mutated."""
    files = sorted(path for path in source.iterdir() if path.is_file())
    victim = int(rng.integers(len(files)))
    folder.mkdir()
    for index, path in enumerate(files):
        if index == victim:
            (folder / path.name).write_bytes(mutate(path, kind, rng))
        else:
            (folder / path.name).symlink_to(path)


@pytest.fixture(scope="module")
def pristine(data_dir: Path) -> dict[str, Scan]:
    """Every case as it is read undamaged."""
    return {case: read_series(data_dir / case, POLICY) for case in CASES}


def equal(one: Scan, other: Scan) -> bool:
    """Whether two scans have equal voxels in equal places."""
    return np.array_equal(one.volume.array, other.volume.array) and np.array_equal(
        one.volume.affine, other.volume.affine
    )


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_mutation_is_refused_or_changes_nothing(
    seed: int, data_dir: Path, pristine: dict[str, Scan], tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    case, kind = CASES[seed % len(CASES)], KINDS[int(rng.integers(len(KINDS)))]
    mutated_folder(data_dir / case, tmp_path / "series", kind, rng)
    try:
        scan = read_series(tmp_path / "series", POLICY)
    except CaseError as error:
        assert error.code not in ("decoder_failed", "decoder_crashed", "decoder_hung"), error
        return
    if kind in STRUCTURE:
        assert equal(scan, pristine[case]), (case, kind, [str(n) for n in scan.notices])
