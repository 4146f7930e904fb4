"""What `voxtile models verify` measured, by model and kind of processor."""

from .engine import EngineName, Precision


def accepted_precision(sha256: str, engine: EngineName, device: str) -> Precision | None:
    """Return the fastest reduced precision that the evidence allows, or None."""
    return None
