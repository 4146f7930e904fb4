"""A fitted network -> its small ``.keras`` file; equal weights give equal bytes.

Keras writes the date and addresses of the process's memory into its files. These
are left out, so that equal networks have the same SHA-256.

The file is small for two reasons. The low bits of float32 weights are noise that
cannot be compressed, so kernels are rounded to the 8 significant bits of bfloat16.
And HDF5's shuffle and gzip filters compress the numbers; Keras and every other
reader decompress them.
"""

import json
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
# Keys of Keras' JSON that differ between processes or moments. Without the first key, which is an
# address in memory, Keras creates each shared object several times.
_FLEETING = {"shared_object_id", "date_saved"}
# The earliest time that a zip archive can have.
_EPOCH = (1980, 1, 1, 0, 0, 0)
# Chunks and filters save space only for datasets with at least this many values.
_LEAST_VALUES = 1024


def rounded(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Return weights with each kernel rounded to the nearest bfloat16.

    The error is at most 1/256 of a value (Kalamkar et al. 2019, "A Study of
    BFLOAT16 for Deep Learning Training", section 2).

    `weights` are float32 in Keras' order. Vectors, such as those of a normalisation, do not change.
    """
    return [
        values.astype(ml_dtypes.bfloat16).astype(np.float32) if values.ndim > 1 else values
        for values in weights
    ]


def save_network(network: Any, path: Path) -> None:
    """Write a Keras network, compressed; the bytes depend only on the network.

    The suffix is ``.keras``.
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
    members = {
        name: _compressed(content) if name == _WEIGHTS else _lasting(content)
        for name, content in members.items()
    }
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in sorted(members.items()):
            item = zipfile.ZipInfo(name, _EPOCH)
            archive.writestr(item, content, zipfile.ZIP_DEFLATED)


def _lasting(content: bytes) -> bytes:
    """Return Keras' JSON without the values that differ between processes or moments."""

    def kept(part: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in part.items() if key not in _FLEETING}

    return json.dumps(json.loads(content, object_hook=kept)).encode()


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
