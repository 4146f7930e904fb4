"""A synthetic CT of a small abdomen: three organs between tissue of similar density.

                                HU without and with contrast
    1 liver                       52   110
    2 spleen                      45   125
    3 left kidney                 32   175
      right kidney, no label      32   175
      stomach, bowel              35    50 to 60, differing from loop to loop
      muscle of wall and back     50    65
      aorta, vena cava            42   190, 130

The left kidney differs from the right one only by its position. With little
contrast, organs differ from muscle, stomach and bowel only by a border of fat,
if it exists. The abdomen has the size of an infant's abdomen, so that a plane
has few pixels.
"""

from dataclasses import dataclass

import numpy as np

from voxtile.models.spec import Label

from .solids import Difference, Ellipsoid, Grid, Layer, Point, Tube, Union, Warped, Wave, rotation

LABELS = (
    Label(value=1, name="liver", color="#8b4513"),
    Label(value=2, name="spleen", color="#9400d3"),
    Label(value=3, name="left kidney", color="#e6a817"),
)
_FAT, _BONE, _GAS, _AIR = -105.0, 320.0, -850.0, -1000.0


def draw_grid(rng: np.random.Generator) -> Grid:
    """Return the anisotropic grid of a random protocol."""
    step = rng.uniform(0.7, 0.9)
    field = rng.uniform(122, 134)
    columns = int(np.clip(round(field / step), 136, 192))
    rows = int(np.clip(round(field * rng.uniform(0.84, 0.92) / step), 128, 192))
    slices = rng.uniform(3.0, 5.0)
    return Grid((columns, rows, round(rng.uniform(84, 100) / slices)), (step, step, slices))


@dataclass(frozen=True)
class _Body:
    """One patient: where organs are, how large and how bright, all drawn at random."""

    rng: np.random.Generator
    contrast: float
    size: float

    def value(self, without: float, with_contrast: float, spread: float) -> float:
        """Return HU between the values without and with contrast."""
        return without + self.contrast * (with_contrast - without) + self.rng.normal(0, spread)

    def at(self, x: float, y: float, z: float, spread: float = 2.0) -> Point:
        """Return a centre near a point, in mm."""
        a, b, c = (np.array([x, y, z]) * self.size + self.rng.normal(0, spread, 3)).tolist()
        return a, b, c

    def radii(self, x: float, y: float, z: float) -> Point:
        """Return radii near these values, in mm."""
        a, b, c = (np.array([x, y, z]) * self.size * self.rng.uniform(0.9, 1.12, 3)).tolist()
        return a, b, c

    def turned(
        self, x: float, y: float, z: float, spread: float = 9.0
    ) -> tuple[Point, Point, Point]:
        """Return a rotation near these angles, in degrees."""
        a, b, c = (np.array([x, y, z]) + self.rng.normal(0, spread, 3)).tolist()
        return rotation((a, b, c))

    def bowel(self) -> list[Layer]:
        """Return loops of bowel below the organs, some with gas."""
        rng, solids = self.rng, list[Layer]()
        for _ in range(int(rng.integers(7, 12))):
            middle = self.at(rng.uniform(-30, 30), rng.uniform(0, 24), rng.uniform(-48, -6))
            across = rng.uniform(5, 9)
            radii = self.radii(across, across, rng.uniform(8, 15))
            loop = Ellipsoid(middle, radii, self.turned(0, 0, 0, 40))
            solids.append((loop, self.value(35, 60, 12), 0))
            if rng.random() < 0.4:
                top = (middle[0], middle[1] + across * 0.4, middle[2])
                solids.append((Ellipsoid(top, (across * 0.5, across * 0.4, across * 0.6)), _GAS, 0))
        return solids

    def kidneys(self) -> list[Layer]:
        """Return both kidneys, each with its hilum; the left one has a label."""
        size, solids, kidney = self.size, list[Layer](), self.value(32, 175, 6)
        for side, label in ((-1, 3), (1, 0)):
            middle = self.at(side * 24, -19, -14 if side < 0 else -18, 2.5)
            whole = Ellipsoid(middle, self.radii(9.5, 9, 18), self.turned(0, side * 10, 0, 6))
            inwards = (middle[0] - side * 9 * size, middle[1] + 3, middle[2])
            hilum = Ellipsoid(inwards, (6 * size, 4 * size, 8 * size))
            solids.append((Difference(whole, hilum), kidney, label))
            pelvis = Ellipsoid(inwards, (4 * size, 2 * size, 5 * size))
            solids.append((pelvis, self.value(8, 30, 4), 0))
        return solids

    def spine(self) -> list[Layer]:
        """Return the vertebrae and their canal."""
        rng, size, solids = self.rng, self.size, list[Layer]()
        pitch, first = rng.uniform(13, 16), rng.uniform(-8, 8)
        for number in range(-5, 6):
            middle = (0, -27 * size, first + number * pitch)
            vertebra = Ellipsoid(middle, (9 * size, 7 * size, pitch * 0.46))
            solids.append((vertebra, _BONE * rng.uniform(0.6, 1.1), 0))
        return [*solids, (Ellipsoid((0, -37 * size, 0), (4 * size, 3 * size, 300)), 35, 0)]


def draw_solids(rng: np.random.Generator) -> list[Layer]:
    """Return solids with HU and label; later ones cover earlier ones."""
    body = _Body(rng, rng.uniform(0.1, 1.0), rng.uniform(0.92, 1.06))
    waves = _waves(rng)
    size, value, at, radii, turned = body.size, body.value, body.at, body.radii, body.turned
    muscle = value(50, 65, 3)
    thickness = rng.uniform(3.0, 7.0)
    outside = np.array([56.0, 44.0, 400.0]) * size
    outline, wall, cavity = (
        Ellipsoid((0, 0, 0), (float(a - less), float(b - less), float(c)))
        for less in (0, thickness, thickness + rng.uniform(3, 5))
        for a, b, c in [outside]
    )
    liver = Union(
        (
            Ellipsoid(at(25, 3, 17), radii(22, 25, 26), turned(0, 0, 0)),
            Ellipsoid(at(4, 17, 24), radii(24, 10, 15), turned(0, 12, -8)),
        )
    )
    # The bed of the gall bladder, and the dent of the right kidney in the liver.
    liver_cut = Difference(liver, Ellipsoid(at(24, -22, -12), radii(13, 12, 20)))
    stomach = Ellipsoid(at(-18, 17, 18), radii(15, 11, 18), turned(0, 25, 0))
    spleen = Difference(
        Ellipsoid(at(-38, -9, 24), radii(10, 17, 19), turned(8, 0, 20)),
        Ellipsoid(at(-25, 0, 24), radii(10, 11, 18)),
    )
    solids: list[Layer] = [
        (outline, _FAT, 0),
        (_tube(-9, -25, 5.5 * size), muscle, 0),  # psoas, left and right
        (_tube(9, -25, 5.5 * size), muscle, 0),
        (Ellipsoid((0, -38 * size, 0), (26 * size, 6 * size, 300)), muscle, 0),
    ]
    solids += body.bowel()
    solids += [
        (stomach, value(35, 50, 12), 0),
        (spleen, value(45, 125, 6), 2),
        (liver_cut, value(52, 110, 6), 1),
    ]
    if rng.random() < 0.7:
        bubble = (stomach.centre_mm[0], stomach.centre_mm[1] + 5, stomach.centre_mm[2])
        solids.append((Ellipsoid(bubble, (8, 4, 9)), _GAS, 0))
    solids.append((Ellipsoid(at(17, 14, -4), radii(5, 6, 8)), value(8, 8, 4), 0))  # gall bladder
    solids += body.kidneys()
    vessels = value(42, 190, 8)
    solids += [
        (_tube(-3, -18, 3.2 * size), vessels, 0),  # aorta
        (_tube(6, -17, 3.6 * size), value(42, 130, 8), 0),  # vena cava
    ]
    # Organs end at the wall, without fat between organ and wall.
    solids += [(Difference(outline, cavity), muscle, 0), (Difference(outline, wall), _FAT, 0)]
    solids += body.spine()
    return [(Warped(solid, waves), hounsfield, label) for solid, hounsfield, label in solids]


def degrade(image: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Return the image as a scanner would give it: cupping, streaks and noise, in whole HU.

    Parameters
    ----------
    image : ndarray of float32, shape (i, j, k)
        Ideal HU.

    Returns
    -------
    ndarray of int16
        At least -1024.

    Notes
    -----
    Noise has the spectrum of filtered back-projection, a ramp that ends with
    the kernel (Kijewski and Judy 1987, Phys Med Biol 32(5):565-575): it is grainy
    within a slice and independent between slices.
    """
    x, y, _ = grid.axes_mm
    distance = (x / 56) ** 2 + (y / 44) ** 2
    image = image + rng.uniform(-12, 12) * np.clip(distance, 0, 1.2) * (image > -500)
    image += _streaks(grid, rng)
    return np.asarray(np.rint(np.maximum(image + _noise(grid, rng), -1024)).astype(np.int16))


def _waves(rng: np.random.Generator) -> tuple[Wave, ...]:
    """Return one long and one short wave along each pair of axes."""
    return tuple(
        Wave(moved, along, float(height), float(length), float(rng.uniform(0, 2 * np.pi)))
        for moved in range(3)
        for along in range(3)
        if moved != along
        for height, length in (
            (rng.uniform(1.0, 3.0), rng.uniform(70, 120)),
            (rng.uniform(0.2, 0.8), rng.uniform(18, 35)),
        )
    )


def _tube(x: float, y: float, radius: float) -> Tube:
    """Return a tube that runs through the whole scan."""
    return Tube(((x, y, -150.0), (x, y, 150.0)), radius)


def _streaks(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Return streaks in HU: pairs of bright and dark lines through the spine."""
    x, y, _ = grid.axes_mm
    streaks = np.zeros(grid.shape, np.float32)
    for index in range(grid.shape[2]):
        for angle in rng.uniform(0, np.pi, int(rng.poisson(1.5))):
            across = (x * np.sin(angle) - (y + 27) * np.cos(angle))[..., 0]
            line = np.exp(-((across / rng.uniform(1, 2.5)) ** 2)) * across / 1.5
            streaks[..., index] += rng.uniform(5, 20) * line
    return streaks


def _noise(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Return noise in HU, correlated within each slice."""
    columns, rows, slices = grid.shape
    step = grid.spacing_mm[0]
    frequency = np.hypot(
        np.fft.fftfreq(columns, step)[None, :, None], np.fft.rfftfreq(rows, step)[None, None, :]
    )
    # The transfer of a soft kernel is one half at about 0.35 per mm.
    power = frequency * np.exp(-((frequency / rng.uniform(0.3, 0.42)) ** 2))
    white = rng.standard_normal((slices, columns, rows), np.float32)
    grain = np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(power), s=(columns, rows))
    return np.asarray(np.moveaxis(grain / grain.std() * rng.uniform(10, 24), 0, 2), np.float32)
