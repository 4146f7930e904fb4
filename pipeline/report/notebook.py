"""Show a scan and its mask in a notebook: an interactive viewer, or a picture.

With the extra ``notebook`` (ipyniivue) the scan is shown in the viewer NiiVue,
in the browser; without this extra, as a montage of three planes.
"""

import tempfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from voxtile.label_values import label_values
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Label
from voxtile.reading.channels import read_volume
from voxtile.reading.reference import integral, on_grid_of, read_label_map
from voxtile.scoring.overlap import plain_labels
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask, write_volume

from .montage import montage

Source = Volume | str | Path


def view(
    scan: Source,
    mask: Source | None = None,
    *,
    reference: Source | None = None,
    labels: Sequence[Label] | Bundle | None = None,
    how: Literal["auto", "widget", "picture"] = "auto",
) -> Any:
    """Show a scan with its mask in a notebook.

    Parameters
    ----------
    scan : Volume, str or Path
        A volume, a NIfTI file or a DICOM folder. If there are several
        channels, the first is shown.
    mask : Volume, str or Path, optional
        Label map on the grid of the scan.
    reference : Volume, str or Path, optional
        Another label map to compare with: a second overlay in the viewer,
        dashed outlines in the picture.
    labels : sequence of Label or Bundle, optional
        Names and colours of the label values; by default the values
        themselves and a fixed cycle of colours.
    how : {"auto", "widget", "picture"}, default "auto"
        "auto" is the viewer if ipyniivue is installed, else the picture.

    Returns
    -------
    ipyniivue.NiiVue or PIL.Image.Image
        A notebook shows it if it is the last value of a cell. The picture
        becomes part of the notebook: treat the notebook as patient data.

    Raises
    ------
    CaseError
        If a mask is not on the grid of the scan.
    ImportError
        If `how` is "widget" and ipyniivue is not installed.

    Examples
    --------
    >>> import numpy as np, voxtile
    >>> scan = voxtile.Volume(np.zeros((8, 8, 8), np.int16), np.eye(4))
    >>> voxtile.view(scan, how="picture").size[0]
    1152
    """
    if how not in ("auto", "widget", "picture"):
        raise ValueError(f"how {how!r} must be one of 'auto', 'widget', 'picture'")
    image = scan if isinstance(scan, Volume) else read_volume(scan)
    if image.array.ndim > 3:
        image = image.with_array(image.array[..., 0])
    masks = {
        name: _label_map(source, image, name)
        for name, source in (("mask", mask), ("reference", reference))
        if source is not None
    }
    named = _named(labels, masks.values())
    if how == "auto":
        how = "widget" if find_spec("ipyniivue") else "picture"
    if how == "widget":
        return _widget(image, masks, named)
    empty = image.with_array(np.zeros(image.shape, np.uint8))
    # A legend needs at least one line.
    named = named or (Label(value=1, name="nothing labelled", color="#808080"),)
    return montage(image, masks.get("mask", empty), named, reference=masks.get("reference"))


def _label_map(source: Source, image: Volume, name: str) -> Volume:
    """Return a label map in the storage order of the scan."""
    mask = source if isinstance(source, Volume) else read_label_map(Path(source), name).volume
    placed, _ = on_grid_of(mask, image, name)
    array, _ = integral(placed.array, name)
    return placed.with_array(array)


def _named(labels: Sequence[Label] | Bundle | None, masks: Iterable[Volume]) -> tuple[Label, ...]:
    """Return the labels; by default one for each value of the masks."""
    if isinstance(labels, Bundle):
        return labels.spec.labels
    if labels is not None:
        return tuple(labels)
    values = sorted({value for mask in masks for value in label_values(mask.array)} - {0})
    return plain_labels({value: f"label {value}" for value in values})


def _widget(image: Volume, masks: dict[str, Volume], labels: Sequence[Label]) -> Any:
    """Return the viewer NiiVue with the scan and its label maps."""
    try:
        from ipyniivue import NiiVue
        from ipyniivue import Volume as Layer
    except ImportError as error:
        raise ImportError(
            'the viewer needs ipyniivue; run: pip install "voxtile[notebook]", or pass '
            'how="picture"'
        ) from error
    low, high = np.percentile(image.array, (1, 99))
    layers = [
        Layer(
            data=_nifti(image),
            name="scan.nii",
            colormap="gray",
            cal_min=float(low),
            cal_max=float(max(high, low + 1e-6)),
        )
    ]
    table = _colours(labels)
    for name, mask in masks.items():
        layer = Layer(data=_nifti(mask), name=f"{name}.nii", opacity=0.5 if name == "mask" else 0.3)
        layer.set_colormap_label(table)
        layers.append(layer)
    widget = NiiVue()
    widget.load_volumes(layers)
    return widget


def _colours(labels: Sequence[Label]) -> dict[str, list[Any]]:
    """Return a colour table for NiiVue: values, colours and names; background is transparent."""
    parts = [bytes.fromhex(label.color[1:]) for label in labels]
    return {
        **{name: [0, *(part[i] for part in parts)] for i, name in enumerate("RGB")},
        "A": [0, *(255 for _ in parts)],
        "I": [0, *(label.value for label in labels)],
        "labels": ["", *(label.name for label in labels)],
    }


def _nifti(volume: Volume) -> bytes:
    """Return a volume as the bytes of a NIfTI file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii"
        write = write_mask if volume.array.dtype.kind == "u" else write_volume
        write(path, volume)
        return path.read_bytes()
