"""The manifest that a run of a folder of scans keeps as ``manifest.csv`` in its run folder.

``run.json`` holds the hashes of the manifests that voxtile wrote there, and is written first. So a
manifest that a person changed is never replaced, whenever a run is killed.
"""

import hashlib
import os
from typing import Any

from voxtile.errors import ManifestError

from .facts import KEPT, readable_facts
from .layout import RunFolder


def kept_hashes(folder: RunFolder, text: str | None) -> dict[str, Any]:
    """Return what ``run.json`` says about kept manifests if a run writes `text`, or nothing.

    ManifestError if another file than a manifest that a run wrote would be replaced.
    """
    known = {one for facts in readable_facts(folder) for one in facts.content.get(KEPT, ())}
    there = _hash_of(folder)
    kept = [there] if there in known else []
    if text is not None:
        new = hashlib.sha256(text.encode()).hexdigest()
        if there is not None and there not in (new, *known):
            raise ManifestError(
                f"{folder.manifest} was not written by a run, or was changed afterwards; run this "
                "manifest itself, or move it away"
            )
        kept = list(dict.fromkeys([*kept, new]))
    return {KEPT: kept} if kept else {}


def _hash_of(folder: RunFolder) -> str | None:
    """Return the hash of the kept manifest; empty if it is no file, None if nothing is there."""
    if not os.path.lexists(folder.manifest):
        return None
    if folder.manifest.is_symlink() or not folder.manifest.is_file():
        return ""
    return hashlib.sha256(folder.manifest.read_bytes()).hexdigest()
