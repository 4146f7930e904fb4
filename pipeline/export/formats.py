"""The export formats: the function that writes each, and the path of a case in it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from voxtile.errors import UsageError


@dataclass(frozen=True, slots=True)
class Format:
    """An export format."""

    # ``module:function`` in this package, imported when needed: highdicom takes a second.
    writer: str
    # File or folder of a case below ``exports/<format>/``; empty if it is not named by the case id.
    place: str = ""


FORMATS = {
    "seg.nrrd": Format("slicer:write_seg_nrrd", "{}.seg.nrrd"),
    "tables": Format("tables:write_tables"),
    "dicom-seg": Format("dicom_seg:write_binary_seg", "{}.dcm"),
    "dicom-seg-labelmap": Format("dicom_seg:write_labelmap_seg", "{}.dcm"),
    "bids": Format("bids:write_bids"),
    "binary": Format("binary:write_binary", "{}"),
    "stl": Format("surfaces:write_stl", "{}"),
    "glb": Format("surfaces:write_glb", "{}.glb"),
    "png": Format("picture:write_png", "{}.png"),
}
# Written while the network runs, because probabilities are not stored otherwise.
PROBABILITIES: dict[str, type[np.unsignedinteger]] = {
    "probabilities": np.uint8,
    "probabilities16": np.uint16,
}
PLACES = {name: found.place for name, found in FORMATS.items()} | dict.fromkeys(PROBABILITIES, "{}")


def check_formats(names: Iterable[str], *, running: bool = False) -> tuple[str, ...]:
    """Return the names, each once; only a run that is about to begin can write probabilities.

    UsageError if a name is not the name of a format, or no name is given.
    """
    wanted = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    known = tuple(PLACES) if running else tuple(FORMATS)
    for name in wanted:
        if name in PROBABILITIES and not running:
            raise UsageError(
                f"{name} exist only while a model runs; run the manifest again with "
                f"--export {name} --fresh, or into another folder"
            )
        if name not in known:
            raise UsageError(f"format {name!r} is not one of {', '.join(known)}")
    if not wanted:
        raise UsageError(f"name at least one format of {', '.join(known)}")
    return wanted
