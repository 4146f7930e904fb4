"""Write names and colours beside the masks, for 3D Slicer and ITK-SNAP.

A NIfTI mask holds only numbers; these tables give their labels.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from voxtile.errors import CaseError, Notice
from voxtile.machine.files import remove, replacing, write_text
from voxtile.models.spec import Label
from voxtile.volume import Volume

from .finished import Finished
from .terminology import rgb

_SCRIPT = "itksnap.sh"
_LAUNCH = """#!/bin/sh
# Open a scan with its mask, names and colours in ITK-SNAP:
#   ./itksnap.sh CASE_ID SCAN
# SCAN is a NIfTI file, or one DICOM file of the series.
here=$(dirname "$0")
if [ $# -ne 2 ]; then
    echo "usage: $0 CASE_ID SCAN" >&2
    exit 2
fi
exec itksnap -g "$2" -s "$here/$1.nii.gz" -l "$here/itksnap_labels.txt"
"""


def write_tables(case: Finished, mask: Volume) -> tuple[Notice, ...]:
    """Write ``slicer.ctbl``, ``itksnap_labels.txt`` and ``itksnap.sh`` into ``masks/``."""
    folder = case.mask_path.parent
    script = folder / _SCRIPT
    for path in (*(folder / name for name in _tables(case.labels)), script):
        if os.path.lexists(path) and not _is_ours(path):
            raise CaseError(
                "not_ours",
                f"{path.name} in {folder.name} is not from voxtile and would be replaced; move it "
                "away, or rename it",
            )
    for name, text in _tables(case.labels).items():
        write_text(folder / name, text)
    with replacing(script) as file:
        file.write(_LAUNCH.encode())
    script.chmod(script.stat().st_mode | 0o111)
    return ()


def remove_other_tables(folder: Path, labels: Sequence[Label]) -> None:
    """Remove the tables of a folder ``masks/`` if they have other labels than the new masks."""
    for name, text in _tables(labels).items():
        try:
            same = (folder / name).read_bytes() == text.encode()
        except OSError:
            continue
        if not same:
            for other in (*_tables(labels), _SCRIPT):
                if _is_ours(folder / other):
                    remove(folder / other)
            return


def _is_ours(path: Path) -> bool:
    """Whether a file says that voxtile made it, or is voxtile's script."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return b"made by voxtile" in content[:200] or content == _LAUNCH.encode()


def _tables(labels: Sequence[Label]) -> dict[str, str]:
    """Return the text of each table, by the name of its file."""
    return {"slicer.ctbl": slicer_table(labels), "itksnap_labels.txt": itksnap_table(labels)}


def slicer_table(labels: Sequence[Label]) -> str:
    """Return a colour table of 3D Slicer: value, name, red, green, blue, alpha.

    Examples
    --------
    >>> print(slicer_table([Label(value=1, name="left lung", color="#e6194b")]), end="")
    # Color table, made by voxtile
    0 Background 0 0 0 0
    1 left_lung 230 25 75 255
    """
    lines = ["# Color table, made by voxtile", "0 Background 0 0 0 0"]
    for label in labels:
        red, green, blue = rgb(label)
        # Blanks separate cells; Slicer shows an underscore as a blank.
        name = "_".join(label.name.split())
        lines.append(f"{label.value} {name} {red} {green} {blue} 255")
    return "\n".join(lines) + "\n"


def itksnap_table(labels: Sequence[Label]) -> str:
    """Return a label description of ITK-SNAP: index, colour, opacity, visibility, mesh, name.

    Examples
    --------
    >>> print(itksnap_table([Label(value=1, name="left lung", color="#e6194b")]), end="")
    # ITK-SnAP Label Description File, made by voxtile
    # IDX -R- -G- -B- -A-- VIS MSH LABEL
    0 0 0 0 0 0 0 "Clear Label"
    1 230 25 75 1 1 1 "left lung"
    """
    lines = [
        "# ITK-SnAP Label Description File, made by voxtile",
        "# IDX -R- -G- -B- -A-- VIS MSH LABEL",
        '0 0 0 0 0 0 0 "Clear Label"',
    ]
    for label in labels:
        red, green, blue = rgb(label)
        name = " ".join(label.name.split()).replace('"', "'")
        lines.append(f'{label.value} {red} {green} {blue} 1 1 1 "{name}"')
    return "\n".join(lines) + "\n"
