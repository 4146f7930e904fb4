"""Small scans with a known reference, and specs and bundles for them, for tests."""

from pathlib import Path

import numpy as np

from voxtile.models.bundle import Bundle
from voxtile.models.spec import Label, ModelSpec, Network
from voxtile.phantoms.ellipsoids import Ellipsoid, centred_affine, draw
from voxtile.volume import Volume

BALL = Ellipsoid((2.0, -1.0, 1.0), (9.0, 9.0, 9.0), 100, label=1)
LABELS = (Label(value=1, name="ball", color="#e6194b"),)


def ball(
    shape=(24, 20, 12), spacing_mm=(1.2, 1.5, 2.5), axes="RAS", tilt_degrees=0.0
) -> tuple[Volume, Volume]:
    """A ball of 9 mm radius off the middle of a grid: image (0 and 100) and reference."""
    affine = centred_affine(shape, spacing_mm, axes=axes, tilt_degrees=tilt_degrees)
    return draw(shape, affine, [BALL])


def make_spec(**changes) -> ModelSpec:
    """A spec for `threshold_model`: no scaling, one label, tiles of 16 x 16."""
    settings = {
        "name": "threshold",
        "tile": (16, 16),
        "intensity": {"method": "none"},
        "labels": LABELS,
        "activation": "softmax",
        "networks": (Network(file="none.keras", sha256="0" * 64, views=("axial",)),),
        **changes,
    }
    return ModelSpec(**settings)


def make_bundle(**changes) -> Bundle:
    """A bundle without files, for runs with `models=[...]`."""
    return Bundle(Path("threshold"), make_spec(**changes))


def threshold_model(tiles: np.ndarray) -> np.ndarray:
    """Return label 1 where the middle channel is above 50: exact on the ball."""
    middle = tiles[..., tiles.shape[-1] // 2]
    return np.stack([middle <= 50, middle > 50], axis=-1).astype(np.float32)
