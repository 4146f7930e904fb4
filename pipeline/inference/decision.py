"""From the probabilities of a plane to label values."""

import numpy as np

from voxtile.label_values import label_type
from voxtile.models.spec import ModelSpec


def decide(probabilities: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Turn the probabilities of a plane into label values.

    Probabilities are float32, (rows, columns, classes), values uint8 or uint16, (rows, columns).
    Softmax: the class with the largest probability wins (in a tie, background). Sigmoid: each label
    at or above its threshold is written, in the spec's order.
    """
    kind = label_type(label.value for label in spec.labels)
    if spec.activation == "softmax":
        values = np.array([0, *(label.value for label in spec.labels)], kind)
        return np.asarray(values[probabilities.argmax(axis=-1)])
    plane = np.zeros(probabilities.shape[:2], kind)
    thresholds = spec.thresholds or (0.5,) * len(spec.labels)
    for index, (label, threshold) in enumerate(zip(spec.labels, thresholds, strict=True)):
        plane[probabilities[..., index] >= threshold] = label.value
    return plane
