"""A fitted network -> its ``.keras`` file, two fifths of the usual size.

Two things make it small. The low bits of float32 weights are noise that cannot
be compressed, so kernels are rounded to the 8 significant bits of bfloat16. And
HDF5's shuffle and gzip filters compress the numbers; Keras and every other
reader undo them.
"""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from voxtile.errors import EnvironmentFault
from voxtile.machine.files import replacing

_WEIGHTS = "model.weights.h5"
# Chunks and filters save space only for datasets with at least so many values.
_LEAST_VALUES = 1024


def rounded(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Return weights with each kernel rounded to the nearest bfloat16.

    The error is at most 1/256 of a value (Kalamkar et al. 2019, "A Study of
    BFLOAT16 for Deep Learning Training", section 2).

    Parameters
    ----------
    weights : list of ndarray of float32
        In Keras' order. Vectors, such as those of a normalisation, do not
        change.
    """
    return [
        values.astype(ml_dtypes.bfloat16).astype(np.float32) if values.ndim > 1 else values
        for values in weights
    ]


def save_network(network: Any, path: Path) -> None:
    """Write a Keras network, compressed.

    Parameters
    ----------
    path : Path
        With suffix ``.keras``.
    """
    plain = path.with_name(f"plain-{path.name}")  # Keras writes only to a path
    try:
        network.save(plain)
        with zipfile.ZipFile(plain) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except OSError as error:
        raise EnvironmentFault(f"{plain} cannot be written ({error.strerror or error})") from error
    finally:
        plain.unlink(missing_ok=True)
    members[_WEIGHTS] = _compressed(members[_WEIGHTS])
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _compressed(content: bytes) -> bytes:
    """Return an HDF5 file with the same groups, attributes and numbers."""
    small = BytesIO()
    with h5py.File(BytesIO(content)) as source, h5py.File(small, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                made = target.require_group(name)
            elif item.size < _LEAST_VALUES:
                made = target.create_dataset(name, data=item[()])
            else:
                made = target.create_dataset(
                    name, data=item[()], compression="gzip", compression_opts=9, shuffle=True
                )
            made.attrs.update(item.attrs)

        copy("/", source)
        source.visititems(copy)
    return small.getvalue()
