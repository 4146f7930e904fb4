"""Say for each voxel whether prediction and reference agree, for people to see."""

import numpy as np

# True positive, false positive, false negative, and both masks with different labels: four colours
# of Okabe and Ito (2008) that differ for every kind of colour vision. errors.js has the same ones.
ERRORS = (
    ("true positive", "#56b4e9"),
    ("false positive", "#d55e00"),
    ("false negative", "#f0e442"),
    ("another label", "#0072b2"),
)


def error_map(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return for each voxel its place in `ERRORS`, from 1; 0 where both masks are background.

    Examples
    --------
    >>> error_map(np.array([0, 1, 1, 0, 2]), np.array([0, 1, 0, 2, 1]))
    array([0, 1, 2, 3, 4], dtype=uint8)
    """
    marked = (reference != 0) * 2 + (prediction != 0)
    errors: np.ndarray = np.array([0, 2, 3, 4], np.uint8)[marked]
    errors[(marked == 3) & (prediction == reference)] = 1
    return errors
