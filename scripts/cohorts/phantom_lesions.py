"""A synthetic FLAIR scan of a small head: 0 to 8 small lesions, and equally bright structures.

Intensities are relative to white matter (1): grey matter 1.15, fluid 0.3,
lesions 1.4 to 1.9. Vessels (tubes), the lining of the ventricles and the choroid
plexus (a small ball in the fluid) are as bright as lesions. A lesion is round
and in white matter.
"""

import numpy as np

from voxtile.models.spec import Label

from .solids import Ellipsoid, Grid, Layer, Point, Tube, Union, Warped, Wave, occupancy, rotation

LABELS = (Label(value=1, name="lesion", color="#e6194b"),)
_GREY, _FLUID, _SKULL, _SCALP = 1.15, 0.3, 0.08, 0.9
# One of this many cases has no lesion.
_HEALTHY = 6
_MOST_LESIONS = 8
_DIAMETER_MM = (2.0, 8.0)
# A scan with lesions has one large lesion, whose axes are at least three quarters of this size.
_LARGE_MM = 5.0


def draw_grid(rng: np.random.Generator) -> Grid:
    """Return the grid of a random protocol."""
    step = rng.uniform(0.85, 1.1)
    slices = rng.uniform(1.5, 2.5)
    return Grid(
        (round(122 / step), round(146 / step), round(rng.uniform(70, 80) / slices)),
        (step, step, slices),
    )


def draw_solids(rng: np.random.Generator, grid: Grid, number: int) -> list[Layer]:
    """Return solids with intensity and label; later ones cover earlier ones.

    Parameters
    ----------
    grid : Grid
        A lesion that does not fill at least half of some voxel is not drawn.
    number : int
        Number of the case; cases with a number divisible by 6 have no lesion.
    """
    waves, folds = _waves(rng, 2.0, 80), _waves(rng, 2.2, 17)
    size = rng.uniform(0.93, 1.05)

    def head(less: float) -> Ellipsoid:
        a, b, c = (np.array([57.0, 69.0, 60.0]) * size - less).tolist()
        return Ellipsoid((0, 0, -6), (a, b, c))

    bent = waves + folds
    white = head(13)
    solids: list[Layer] = [
        (Warped(head(0), waves), _SCALP, 0),
        (Warped(head(3), waves), _SKULL, 0),
        (Warped(head(6), waves), _FLUID, 0),
        (Warped(head(8), bent), _GREY, 0),
        (Warped(white, bent), 1.0, 0),
    ]
    bright = rng.uniform(1.4, 1.9)
    ventricles = []
    for side in (-1, 1):
        x, y, z = (np.array([side * 8.0, 0, 2]) + rng.normal(0, 1, 3)).tolist()
        along = rotation((float(rng.normal(8, 3)), 0, side * float(rng.normal(-8, 3))))
        across = rng.uniform(3.5, 6.5)
        body = (across, rng.uniform(24, 30) * size, rng.uniform(6, 9))
        lining = rng.uniform(0.6, 1.4)
        a, b, c = (radius + lining for radius in body)
        solids.append((Warped(Ellipsoid((x, y, z), (a, b, c), along), waves), bright * 0.9, 0))
        ventricles.append(Ellipsoid((x, y, z), body, along))
    solids.append((Warped(Union(tuple(ventricles)), waves), _FLUID, 0))
    for ventricle in ventricles:
        x, y, z = ventricle.centre_mm
        plexus = (x, y - rng.uniform(3, 10), z + rng.uniform(-2, 2))
        radius = rng.uniform(1.2, 2.4)
        solids.append((Warped(Ellipsoid(plexus, (radius, 1.6 * radius, radius)), waves), bright, 0))
    for _ in range(int(rng.integers(5, 10))):
        vessel = Tube(_course(rng, size), rng.uniform(0.7, 1.3))
        solids.append((vessel, bright * rng.uniform(0.85, 1.1), 0))
    taken: list[tuple[Point, float]] = []
    wanted = 0 if number % _HEALTHY == 0 else int(rng.integers(1, _MOST_LESIONS + 1))
    while len(taken) < wanted:
        least, most = _DIAMETER_MM
        diameter = rng.uniform(least if taken else _LARGE_MM, most)
        middle = _in_white_matter(rng, white, ventricles, diameter / 2)
        if any(np.linalg.norm(np.subtract(middle, at)) < diameter / 2 + r + 2 for at, r in taken):
            continue
        radii = diameter / 2 * np.clip(rng.uniform(0.75, 1.0, 3), least / diameter, 1)
        a, b, c = radii.tolist()
        turn = rotation((float(rng.uniform(0, 180)), float(rng.uniform(0, 180)), 0.0))
        lesion = Ellipsoid(middle, (a, b, c), turn)
        _, share = occupancy(lesion, grid)
        if not share.size or share.max() < 0.5:
            continue
        taken.append((middle, diameter / 2))
        solids.append((lesion, bright * rng.uniform(0.9, 1.1), 1))
    return solids


def degrade(image: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Return the image as a scanner would give it: uneven, noisy, in arbitrary units.

    Parameters
    ----------
    image : ndarray of float32, shape (i, j, k)
        White matter is 1.

    Returns
    -------
    ndarray of int16, at least 0

    Notes
    -----
    The field of the coil is smooth and multiplies the image; the noise of a
    magnitude image is Rician (Gudbjartsson and Patz 1995, Magn Reson Med 34(6):910-914).
    """
    x, y, z = (axis / 60 for axis in grid.axes_mm)
    slopes = rng.uniform(-0.15, 0.15, 6)
    terms = (x, y, z, x * y, y * z, x * x)
    field = np.exp(sum(float(slope) * term for slope, term in zip(slopes, terms, strict=True)))
    sigma = rng.uniform(0.03, 0.06)
    image = image * field
    real = image + sigma * rng.standard_normal(grid.shape, np.float32)
    imaginary = sigma * rng.standard_normal(grid.shape, np.float32)
    gain = float(np.exp(rng.uniform(np.log(100), np.log(4000))))
    return np.asarray(np.rint(gain * np.hypot(real, imaginary)).astype(np.int16))


def _waves(rng: np.random.Generator, height: float, length: float) -> tuple[Wave, ...]:
    """Return a wave along each pair of axes."""
    return tuple(
        Wave(
            moved,
            along,
            float(height * rng.uniform(0.5, 1)),
            float(length * rng.uniform(0.8, 1.4)),
            float(rng.uniform(0, 2 * np.pi)),
        )
        for moved in range(3)
        for along in range(3)
        if moved != along
    )


def _course(rng: np.random.Generator, size: float) -> tuple[Point, ...]:
    """Return the winding line of a vessel, from near the middle to the surface."""
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    places = np.linspace(0.3, 1.0, 7)[:, None] * direction * np.array([46, 58, 48]) * size
    places[:, 2] -= 6
    places += np.cumsum(rng.normal(0, 1.5, places.shape), axis=0)
    return tuple((float(x), float(y), float(z)) for x, y, z in places)


def _in_white_matter(
    rng: np.random.Generator, white: Ellipsoid, ventricles: list[Ellipsoid], radius: float
) -> Point:
    """Return a random centre for a lesion of this radius: in white matter, outside of fluid."""
    while True:
        x, y, z = rng.uniform(-1, 1, 3) * np.array(white.radii_mm) + np.array(white.centre_mm)
        point = tuple(np.array([value], np.float32) for value in (x, y, z))
        # The folds of the cortex are up to 6 mm deep, the lining of a ventricle up to 1.4 mm.
        inside = white.level_mm(*point)[0] < -radius - 4
        outside = all(part.level_mm(*point)[0] > radius + 2.5 for part in ventricles)
        if inside and outside and abs(z) < 30:
            return float(x), float(y), float(z)
