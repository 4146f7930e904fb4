"""Pack a model to publish it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from voxtile.errors import ModelError, UsageError
from voxtile.models.bundle import Bundle

from .archive import write_archive
from .card import card_notices, card_problems


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive that was written, as the index describes it, and what to look at."""

    name: str
    description: str
    labels: tuple[str, ...]
    size_bytes: int
    sha256: str
    left_out: tuple[str, ...]  # files of the folder that are no part of a model
    notices: tuple[str, ...]


def pack_model(bundle: Bundle, out: Path) -> Packed:
    """Write the archive of a model; ModelError if its card or licence says too little.

    Equal models give equal archives.
    """
    if bundle.others:
        raise ModelError(f"{bundle.name} names several models; pack them one at a time")
    if out.suffix != ".zip":
        raise UsageError(f"--out {out} must end in .zip")
    if os.path.lexists(out):
        raise UsageError(f"{out} exists; name a new file with --out")
    if problems := list(card_problems(bundle)):
        raise ModelError(f"{bundle.folder} cannot be published yet: {'; '.join(problems)}")
    names = write_archive(bundle, out)
    with out.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    there = {path.name for path in bundle.folder.iterdir()}
    return Packed(
        bundle.spec.name,
        bundle.spec.description,
        tuple(label.name for label in bundle.spec.labels),
        out.stat().st_size,
        digest,
        tuple(sorted(there - {*names})),
        tuple(card_notices(bundle)),
    )
