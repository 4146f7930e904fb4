"""Which faces of a scan a label touches, and which of them it touches in training scans too.

A label at a face of the scan may be cut off. But a spinal cord always leaves the scan, and so
does an organ that is larger than the field of view: this is news only if the training scans did
not show it.

Training stores `count_faces` of its cases in ``spec.training["domain"]``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from voxtile.label_values import label_values
from voxtile.models.spec import Label
from voxtile.volume import Volume, canonical

KEY = "faces"
# Faces across R, A and S: the first and the last plane.
_FACES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
# A face is usual if the label touches it in this fraction of the training cases with the label,
# and in at least so many cases.
_USUAL, _FEWEST = 0.25, 5


def touched_faces(mask: Volume, labels: Sequence[Label]) -> list[tuple[str, ...]]:
    """Return which faces of the scan each label touches; axes with only one plane do not count.

    Examples
    --------
    >>> mask = np.zeros((3, 3, 3), np.uint8)
    >>> mask[0, 1, 1] = mask[1, 1, 1] = 1
    >>> touched_faces(Volume(mask, np.eye(4)), [Label(value=1, name="one", color="#000000")])
    [('left',)]
    """
    array = canonical(mask).array
    touching: dict[str, set[int]] = {}
    for axis, names in enumerate(_FACES):
        if array.shape[axis] > 1:
            for name, index in zip(names, (0, -1), strict=True):
                touching[name] = set(np.unique(np.moveaxis(array, axis, 0)[index]).tolist())
    return [
        tuple(name for name, values in touching.items() if values & set(label.values))
        for label in labels
    ]


def count_faces(references: Iterable[Volume], labels: Sequence[Label]) -> dict[str, dict[str, int]]:
    """Count, for each label value, the cases with the label and those in which it touches a face.

    Faces that are never touched are left out. The result is made of JSON values.
    """
    counts: dict[int, Counter[str]] = {label.value: Counter() for label in labels}
    for reference in references:
        present = set(label_values(reference.array))  # read once, however many labels there are
        for label, faces in zip(labels, touched_faces(reference, labels), strict=True):
            if present & set(label.values):
                counts[label.value].update(("cases", *faces))
    return {str(value): dict(found) for value, found in counts.items()}


def add_counts(parts: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Return the sums of several results of `count_faces`."""
    sums: dict[str, Counter[str]] = {}
    for part in parts:
        for value, found in part.items():
            sums.setdefault(value, Counter()).update(found)
    return {value: dict(found) for value, found in sums.items()}


def usual_faces(training: Mapping[str, Any], label: int) -> frozenset[str]:
    """Return the faces that a label touches in a quarter of its training cases or more.

    `training` is `spec.training`, which any program may have written; without valid counts
    there are none.
    """
    domain = training.get("domain")
    table = domain.get(KEY) if isinstance(domain, Mapping) else None
    found = table.get(str(label)) if isinstance(table, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(n, int) for n in found.values()):
        return frozenset()
    least = max(_FEWEST, _USUAL * found.get("cases", 0))
    return frozenset(face for face, count in found.items() if face != "cases" and count >= least)
