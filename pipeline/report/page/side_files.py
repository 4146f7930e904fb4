"""The files that a page loads when a case is opened, and the viewer.

    report_files/
      niivue.umd.js            the viewer, with its licence
      sections/<case_id>.js    three sections of a case
      volumes/<case_id>.js     its image, masks and reference, made small

The files are scripts, because a page opened from a disk may load scripts but not data. The first
line of each is a comment with a stamp: the hashes of its sources and of its content.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtile.machine.files import write_text
from voxtile.volume import Volume
from voxtile.writing.nifti import nifti_bytes

from .page import VIEWER, json_text, resource
from .pictures import Picture

KINDS = ("sections", "volumes")
# Stored instead of the hash of the inputs if the stamp covers the inputs.
NO_INPUTS = "-"
_STAMP = "// voxtile "
_VIEWER = (VIEWER, "LICENSE-niivue.txt")


@dataclass(frozen=True, slots=True)
class SideFiles:
    """The side files of a page, which hold patient images."""

    folder: Path

    def has(self, case_id: str) -> bool:
        """Whether a case has pictures."""
        return all(self._path(kind, case_id).is_file() for kind in KINDS)

    def all(self) -> list[Path]:
        """Return the side files that exist; their stamps show which they are."""
        paths = (path for kind in KINDS for path in (self.folder / kind).glob("*.js"))
        return [path for path in paths if _has_stamp(path)]

    def write(self, kind: str, case_id: str, content: Any, stamp: str) -> None:
        """Write a side file: a script that passes its content to the page."""
        call = f"receive({json_text({'id': f'{kind}/{case_id}', 'content': content})});\n"
        digest = hashlib.sha256(call.encode()).hexdigest()
        write_text(self._path(kind, case_id), f"{_STAMP}{stamp} {digest}\n{call}")

    def write_viewer(self) -> None:
        """Write NiiVue and its licence, unless they exist already."""
        for name in _VIEWER:
            content, path = resource(f"vendor/{name}"), self.folder / name
            if not path.is_file() or path.read_bytes() != content.encode():
                write_text(path, content)

    def remove_all(self) -> None:
        """Remove the pictures and the viewer; files that voxtile did not write are not removed."""
        for path in (*self.all(), *(self.folder / name for name in _VIEWER)):
            path.unlink(missing_ok=True)
        for folder in (*(self.folder / kind for kind in KINDS), self.folder):
            with suppress(OSError):  # missing, or not empty
                folder.rmdir()

    def inlined(self, case_ids: Iterable[str]) -> dict[str, str]:
        """Return the contents of the side files, for a page without side files."""
        blocks = {}
        for case_id in case_ids:
            for kind in KINDS:
                call = self._path(kind, case_id).read_text("utf-8").split("\n", 1)[1]
                blocks[f"{kind}/{case_id}"] = call[call.index("(") + 1 : call.rindex(")")]
        if blocks:
            # As JSON text, so that the page reads all blocks in the same way.
            viewer = base64.b64encode(resource(f"vendor/{VIEWER}").encode()).decode()
            blocks["viewer-script"] = json.dumps(viewer)
        return blocks

    def made_from(self, kind: str, case_id: str) -> tuple[str, str]:
        """Return the stamp of a side file and the hash of its inputs; empty if it was changed."""
        line, _, call = self._path(kind, case_id).read_bytes().partition(b"\n")
        words = line.decode("utf-8", "replace").strip().removeprefix(_STAMP).split(" ")
        whole = call.startswith(b"receive(") and call.endswith(b");\n")
        # Version 0.1.0 wrote no digest.
        if not whole or (len(words) > 2 and words[2] != hashlib.sha256(call).hexdigest()):
            return "", ""
        return words[0], "" if words[1:2] in ([], [NO_INPUTS]) else words[1]

    def _path(self, kind: str, case_id: str) -> Path:
        """Return the path of a side file."""
        return self.folder / kind / f"{case_id}.js"


def volumes_of(picture: Picture) -> dict[str, Any]:
    """Return the volumes of a picture as base64 NIfTI, with its window and notes."""
    return {
        "image": encoded(picture.image),
        "prediction": encoded(picture.prediction),
        "reference": encoded(picture.reference),
        "window": picture.window,
        "notes": picture.notes,
    }


def encoded(volume: Volume | None) -> str | None:
    """Return a volume as base64 NIfTI."""
    return None if volume is None else base64.b64encode(nifti_bytes(volume)).decode()


def _has_stamp(path: Path) -> bool:
    """Whether a file begins as a side file does."""
    with path.open("rb") as file:
        return file.read(len(_STAMP)) == _STAMP.encode()
