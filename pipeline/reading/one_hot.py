"""Read labels that are stored as channels of 0 and 1, one for each label, as one label map."""

from collections.abc import Mapping, Sequence

import numpy as np

from voxtile.errors import CaseError, counted
from voxtile.label_values import label_type
from voxtile.models.spec import Label

from .joining import by_number, join

# A value at most this far from 0 or 1 was rounded by the program that wrote it.
_BINARY = 1e-3


def flatten(
    channels: np.ndarray,
    labels: Sequence[Label] = (),
    label_map: Mapping[int, int] | None = None,
) -> tuple[np.ndarray, str]:
    """Return the label map of several channels, and a text about their labels for a notice.

    The first channel is label 1, the second label 2; but if every voxel is in
    exactly one channel, the first is the background.

    Parameters
    ----------
    channels : ndarray, shape (i, j, k, n)
    labels : sequence of Label, optional
        Channels of labels that are regions may overlap.
    label_map : mapping of int to int, optional
        Labels to use instead, by the label that each channel would have; 0
        leaves a channel out.

    Raises
    ------
    CaseError
        If a value is not 0 or 1, or channels overlap although their labels may
        not.
    """
    count = channels.shape[3]
    total = np.zeros(channels.shape[:3], np.uint16)
    for channel in range(count):
        mask = channels[..., channel] > 0.5
        if not (np.abs(channels[..., channel] - mask) <= _BINARY).all():
            raise CaseError(
                "several_volumes",
                f"it has {count} volumes with values other than 0 and 1, but must be one volume of "
                "label values, or a channel of 0 and 1 for each label; keep the volume with the "
                "labels, or make a label map (from probabilities, take the largest)",
            )
        total += mask
    first = 0 if (total == 1).all() else 1
    last = first + count - 1
    values = {number: (label_map or {}).get(number, number) for number in range(first, last + 1)}
    meant = [
        by_number(number, value, labels) for number, value in values.items() if number and value
    ]
    array = np.zeros(channels.shape[:3], label_type(values.values()))
    join(array, meant, labels, lambda number: channels[..., number - first] > 0.5, "channel")
    order = "the first is the background, the others" if first == 0 else "they"
    sentence = f"{counted(count, 'channel')} of 0 and 1; {order} were taken as labels 1 to {last}"
    return array, sentence
