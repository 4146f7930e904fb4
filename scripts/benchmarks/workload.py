"""Make the input of every contestant: one network with its weights, one volume, one tile.

A separate process (``python workload.py FOLDER ...``) writes it to a folder, so
that the process that times contestants imports no network library.

    FOLDER/spec.json, unet.keras   the bundle
    FOLDER/weights.npz             the same weights by layer, for PyTorch
    FOLDER/probe.npz               a tile, and the output of Keras for it in float32
"""

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Hounsfield units that become 0 and 1; every contestant clips there.
LOW, HIGH = -160.0, 240.0
# Mean intensity of air and of each label of the anatomy.
_HU = np.array([-1000.0, 40.0, 110.0, -60.0, 200.0])
# Maximum difference of a float32 contestant from Keras on the probe.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Workload:
    """A network and how it is used.

    Parameters
    ----------
    filters : int
        Filters of the first level; 32 gives 7.8 million parameters, 64 gives 31 million.
    classes : int
        Number of classes, including background.
    tile : int
        Pixels of a tile along either axis.
    spacing_mm : float
        In-plane spacing that the network needs; 0 means the spacing of the scan.
    depth : int
    fit_steps : int
        Training steps on the anatomy before it is timed: a mask of noise would
        be the worst case for scoring, and is not realistic.
    """

    filters: int = 32
    classes: int = 5
    tile: int = 256
    spacing_mm: float = 0.0
    depth: int = 4
    fit_steps: int = 80

    @property
    def name(self) -> str:
        """Name of the folder."""
        wanted = f"-{self.spacing_mm}mm" if self.spacing_mm else ""
        return f"unet{self.filters}-{self.classes}classes-{self.tile}{wanted}"

    def flops_per_pixel(self) -> float:
        """Return multiplications and additions of the convolutions for one pixel of a tile."""
        total, width = 0.0, 1
        for level in range(self.depth + 1):
            wide = self.filters * 2**level
            total += 2 * 9 * (width * wide + wide * wide) / 4**level
            width = wide
        for level in range(self.depth):
            wide = self.filters * 2**level
            # The transposed convolution has one 2x2 kernel tap for each output pixel.
            total += 2 * (2 * wide * wide + 9 * (2 * wide * wide + wide * wide)) / 4**level
        return total + 2 * self.filters * self.classes


def prepare(array: np.ndarray) -> np.ndarray:
    """Return the intensities as the network needs them, float32."""
    clipped = np.clip(array.astype(np.float32), LOW, HIGH)
    return (clipped - np.float32(LOW)) / np.float32(HIGH - LOW)


def anatomy(slices: int, size: int = 512) -> np.ndarray:
    """Return a body (1) with a bright organ (2), a fatty one (3) and a bone (4), uint8."""
    rows, columns = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    labels = np.zeros((size, size, slices), np.uint8, order="F")
    for k in range(slices):
        shift = 0.2 * np.sin(k / 20)
        plane = labels[..., k]
        plane[rows**2 / 0.55 + columns**2 / 0.35 < 1] = 1
        plane[(rows - 0.3) ** 2 + (columns - shift) ** 2 < 0.04] = 2
        plane[(rows + 0.3 + shift) ** 2 + (columns + 0.2) ** 2 < 0.02] = 3
        plane[(rows + 0.1) ** 2 + (columns - 0.4 + shift / 2) ** 2 < 0.01] = 4
    return labels


def scan(slices: int, size: int = 512, seed: int = 0) -> np.ndarray:
    """Return the anatomy with noise, int16 Hounsfield units, shape (size, size, slices)."""
    rng = np.random.default_rng(seed)
    labels = anatomy(slices, size)
    array = np.empty(labels.shape, np.int16, order="F")
    for k in range(slices):
        array[..., k] = _HU[labels[..., k]] + rng.normal(0, 15, (size, size))
    return array


def write_scan(path: Path, array: np.ndarray, spacing_mm: float = 1.0) -> None:
    """Write voxels as NIfTI, axes along R, A and S."""
    import nibabel

    affine = np.diag([spacing_mm, spacing_mm, 2.0, 1.0])
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nibabel.save(image, path)


def write_network(folder: Path, workload: Workload, seed: int = 0) -> None:
    """Write the bundle, the weights by layer, and the probe."""
    from voxtile.models.backend import keras
    from voxtile.models.spec import Label, ModelSpec, Network, Window
    from voxtile.models.unet import build_unet

    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    model = build_unet(
        (None, None, 1),
        workload.classes,
        filters=workload.filters,
        depth=workload.depth,
        normalisation="batch",
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # With untrained statistics (0 and 1), folding them would not be tested.
            n = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, n),
                    rng.normal(0, 0.2, n),
                    rng.normal(0, 0.3, n),
                    rng.uniform(0.5, 2.0, n),
                ]
            )
    _fit(model, workload, rng)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "unet.keras")
    weights: dict[str, Any] = {
        f"{layer.name}/{index}": np.asarray(value)
        for layer in model.layers
        for index, value in enumerate(layer.get_weights())
    }
    np.savez(folder / "weights.npz", **weights)
    tile = rng.random((1, workload.tile, workload.tile, 1), np.float32)
    np.savez(folder / "probe.npz", tile=tile, expected=np.asarray(model.predict_on_batch(tile)))
    spacing = workload.spacing_mm
    spec = ModelSpec(
        name=workload.name,
        spacing_mm=(spacing, spacing, 2.0) if spacing else None,
        intensity=Window(center=(LOW + HIGH) / 2, width=HIGH - LOW),
        tile=(workload.tile, workload.tile),
        multiple=2**workload.depth,
        labels=tuple(
            Label(value=value, name=f"label {value}", color=f"#{value * 2099 % 0xFFFFFF:06x}")
            for value in range(1, workload.classes)
        ),
        activation="softmax",
        networks=(
            Network(
                file="unet.keras",
                sha256=hashlib.sha256((folder / "unet.keras").read_bytes()).hexdigest(),
                views=("axial",),
            ),
        ),
    )
    (folder / "spec.json").write_text(spec.dump())
    (folder / "workload.json").write_text(json.dumps(asdict(workload)))


def _fit(model: Any, workload: Workload, rng: np.random.Generator) -> None:
    """Train a network on the anatomy, for a minute or two."""
    from voxtile.models.backend import keras

    if not workload.fit_steps:
        return
    slices, size, batch = 32, 128, 4
    # Half the resolution, so that a tile shows more of the body.
    images = prepare(scan(slices, size=256, seed=1))
    labels = np.minimum(anatomy(slices, size=256), workload.classes - 1)
    # Another model of the same layers, so that the saved model is never compiled.
    learner = keras.Model(model.input, model.output)
    learner.compile(
        keras.optimizers.Adam(2e-3),
        "sparse_categorical_crossentropy",
        jit_compile=keras.config.backend() == "jax",
    )
    for _ in range(workload.fit_steps):
        places = [(*rng.integers(0, 256 - size, 2), rng.integers(slices)) for _ in range(batch)]
        windows = [(slice(i, i + size), slice(j, j + size), k) for i, j, k in places]
        learner.train_on_batch(
            np.stack([images[window] for window in windows])[..., np.newaxis],
            np.stack([labels[window] for window in windows]),
        )


def main() -> None:
    """Write the folder of one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("workload", help="JSON of its fields")
    words = parser.parse_args()
    write_network(words.folder, Workload(**json.loads(words.workload)))


if __name__ == "__main__":
    sys.exit(main())
