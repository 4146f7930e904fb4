"""Read DICOM elements, standard and private, as numbers and words; invalid ones as missing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement

# Value representations whose values are short texts of ASCII.
_TEXTS = ("DS", "IS", "CS", "TM", "DA", "DT", "SH", "LO", "UI")


def numbers(value: Any) -> tuple[float, ...]:
    """Return the numbers of an element's value; empty if it is missing, empty or not numbers."""
    try:
        if value is None or value == "":
            return ()
        many = [value] if isinstance(value, int | float | str) else list(value)
        return tuple(float(number) for number in many)
    except (ValueError, TypeError, OverflowError, NotImplementedError):
        return ()


def words(value: Any) -> tuple[str, ...]:
    """Return the code strings of an element's value in capitals."""
    many = [value] if isinstance(value, str) else value or ()
    return tuple(str(word).strip().upper() for word in many)


def value_of(dataset: Dataset, tag: int) -> Any:
    """Return the value of an element, or None; numbers and words are returned as text.

    pydicom would take 20 times as long to convert an element, and 10 times as
    long to find that an element is missing.
    """
    if tag not in dataset.keys():  # noqa: SIM118
        return None
    raw = dataset.get_item(tag)
    if isinstance(raw, RawDataElement) and raw.VR in _TEXTS and isinstance(raw.value, bytes):
        texts = [text.strip(" \0") for text in raw.value.decode("latin-1").split("\\")]
        return texts if len(texts) > 1 else texts[0]
    if isinstance(raw, RawDataElement) and raw.VR == "US" and raw.length == 2 and raw.value:
        return int.from_bytes(raw.value, "little" if raw.is_little_endian else "big")
    return dataset[tag].value


def named(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an element by its keyword, as `value_of` does."""
    return value_of(dataset, tag_for_keyword(keyword) or 0)


def private_blocks(dataset: Dataset) -> dict[tuple[int, str], int]:
    """Return the block of each private creator in each group (PS3.5 section 7.8.1)."""
    blocks: dict[tuple[int, str], int] = {}
    for tag in map(int, dataset.keys()):
        if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
            creator = str(value_of(dataset, tag) or "").strip()
            blocks.setdefault((tag >> 16, creator), tag & 0xFF)
    return blocks


def private(
    dataset: Dataset,
    tag: int,
    creator: str,
    blocks: Mapping[tuple[int, str], int] | None = None,
) -> Any:
    """Return the value of a private element, by group and last byte of its tag, or None.

    `blocks` are those of the data set, if they are known.
    """
    found = private_blocks(dataset) if blocks is None else blocks
    block = found.get((tag >> 16, creator))
    if block is None:
        return None
    whole = (tag & 0xFFFF0000) | block << 8 | (tag & 0xFF)
    return value_of(dataset, whole)


def unpacked(value: Any, form: str) -> Any:
    """Return the numbers in a private value whose VR the file does not give (UN).

    `form` is "text", or the numpy type of the numbers, little-endian.
    """
    if not isinstance(value, bytes):
        return value
    if form == "text":
        return value.decode("ascii", "replace").strip("\0 ").split("\\")
    whole = len(value) // np.dtype(form).itemsize * np.dtype(form).itemsize
    return np.frombuffer(value[:whole], form).tolist()
