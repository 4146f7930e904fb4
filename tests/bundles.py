"""Model folders with one small network, for tests."""

import hashlib
from pathlib import Path

from phantoms import make_spec

from voxtile.models.spec import Network


def write_bundle(folder: Path, content: bytes, **changes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "n.keras").write_bytes(content)
    settings = {
        "context_slices": 3,
        "multiple": 4,
        "networks": (
            Network(file="n.keras", sha256=hashlib.sha256(content).hexdigest(), views=("axial",)),
        ),
        **changes,
    }
    (folder / "spec.json").write_text(make_spec(**settings).dump())
    return folder
