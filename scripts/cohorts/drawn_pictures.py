"""Colour pictures with an exact reference: ellipses on crops of scikit-image's own photographs.

A target is a magenta ellipse, partly transparent, with a shade. Ellipses from
green to blue are not targets, so that only the colour shows the targets: a grey
picture does not contain the answer.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from skimage.color import hsv2rgb

from voxtile.errors import EnvironmentFault
from voxtile.machine.files import replacing, write_text

from .phantom_cohorts import table

SPLITS = (("train", 140), ("val", 30), ("test", 30))
SIDE = 128
_FINE = 4  # points along each side of a pixel, for the fraction of a pixel that a shape covers
_PHOTOGRAPHS = (data.astronaut, data.chelsea, data.coffee, data.rocket)


def draw_picture(number: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture, uint8 of shape (128, 128, 3), and its mask, 0 or 255.

    Parameters
    ----------
    number : int
        From 1; a picture does not depend on the other pictures.
    """
    rng = np.random.default_rng([seed, 7, number])
    picture = _background(rng)
    truth = np.zeros((SIDE, SIDE), bool)
    for _ in range(rng.integers(0, 3)):
        picture = _painted(picture, _ellipse(rng), rng.uniform(0.25, 0.65), rng)
    for _ in range(rng.integers(1, 4)):
        share = _ellipse(rng)
        picture = _painted(picture, share, rng.uniform(0.8, 0.92), rng)
        truth |= share >= 0.5
    noisy = picture + rng.normal(0, 0.02, picture.shape)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8), truth * np.uint8(255)


def write_pictures(
    folder: str | Path,
    *,
    seed: int = 0,
    splits: tuple[tuple[str, int], ...] = SPLITS,
    on_case: Callable[[str], None] | None = None,
) -> Path:
    """Write pictures and masks as PNG, and return their manifest, ``cases.csv``.

    Raises
    ------
    EnvironmentFault
        If the folder is not empty or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EnvironmentFault(f"{folder} is not an empty folder; name another or empty it first")
    rows = []
    names = [split for split, count in splits for _ in range(count)]
    for number, split in enumerate(names, start=1):
        case_id = f"picture_{number:03d}"
        row = (case_id, f"images/{case_id}.png", f"labels/{case_id}.png", "1", split)
        for name, array in zip(row[1:3], draw_picture(number, seed=seed), strict=True):
            with replacing(folder / name) as file:
                Image.fromarray(array).save(file, "PNG")
        rows.append(row)
        if on_case:
            on_case(case_id)
    write_text(folder / "labels.csv", "value,name,color\n255,ellipse,#e6194b\n")
    manifest = folder / "cases.csv"
    write_text(manifest, table(("case_id", "image", "label", "pixel_mm", "split"), rows))
    return manifest


def _background(rng: np.random.Generator) -> np.ndarray:
    """Return a crop of a photograph, mirrored and with changed brightness, from 0 to 1."""
    photograph = _PHOTOGRAPHS[rng.integers(len(_PHOTOGRAPHS))]()
    row, column = (int(rng.integers(size - SIDE)) for size in photograph.shape[:2])
    crop = photograph[row : row + SIDE, column : column + SIDE].astype(np.float64) / 255
    return crop[:: rng.choice((1, -1)), :: rng.choice((1, -1))] * rng.uniform(0.6, 1)


def _ellipse(rng: np.random.Generator) -> np.ndarray:
    """Return the fraction of each pixel that an ellipse covers."""
    points = (np.arange(SIDE * _FINE) + 0.5) / _FINE
    y, x = np.meshgrid(points - rng.uniform(15, SIDE - 15), points - rng.uniform(15, SIDE - 15))
    angle = rng.uniform(0, np.pi)
    along = (x * np.cos(angle) + y * np.sin(angle)) / rng.uniform(9, 24)
    across = (y * np.cos(angle) - x * np.sin(angle)) / rng.uniform(9, 24)
    inside = along**2 + across**2 < 1
    share: np.ndarray = inside.reshape(SIDE, _FINE, SIDE, _FINE).mean(axis=(1, 3))
    return share


def _painted(
    picture: np.ndarray, share: np.ndarray, hue: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a picture with a shape of a saturated colour, shaded and partly transparent."""
    colour = hsv2rgb([hue, rng.uniform(0.7, 1), rng.uniform(0.6, 1)])
    shade = 1 + rng.uniform(-0.3, 0.3) * np.linspace(-1, 1, SIDE)[:, np.newaxis, np.newaxis]
    opacity = (rng.uniform(0.75, 1) * share)[..., np.newaxis]
    painted: np.ndarray = (1 - opacity) * picture + opacity * colour * shade
    return painted
