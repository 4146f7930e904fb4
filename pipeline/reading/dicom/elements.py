"""Values of DICOM elements, standard and private, as numbers and words; missing where invalid."""

from typing import Any

import numpy as np
from pydicom import Dataset


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


def private(dataset: Dataset, group: int, creator: str, element: int) -> Any:
    """Return the value of a private element, or None."""
    try:
        return dataset.private_block(group, creator)[element].value
    except KeyError:
        return None


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
