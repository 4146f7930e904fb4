"""Networks in 8-bit integers: made when a model is verified, kept in the cache.

    <cache>/quantised/<key>/
      model.xml, model.bin    the network as OpenVINO reads it

Weights and activations become integers of 8 bits with a scale each, by what
the activations are on real tiles (post-training quantisation; Jacob et al.
2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 2.1). Processors multiply such
numbers about four times as fast as float32 (AVX-512 VNNI, AVX-VNNI, AMX).
"""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from voxtile.machine.cache import cache_folder
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

from .kept_networks import sound
from .translated import MODEL

# Another number whenever the way of making them changes.
_FORMAT = 1


def quantised(network: Network) -> Path | None:
    """Return the ``model.xml`` of a network in integers; None where none was made here."""
    place = quantised_place(network)
    return None if sound(place) is None else place / MODEL


def quantised_digest(bundle: Bundle) -> str | None:
    """Return what identifies a bundle's networks in integers; None where one is missing.

    They depend on the tiles that they were made with, so the bundle's own
    SHA-256 does not tell them apart. Other members of an ensemble are not
    looked at.
    """
    parts = []
    for network in bundle.spec.networks:
        entry = sound(quantised_place(network))
        if entry is None:
            return None
        parts += [f"{name} {digest}" for name, digest in sorted(entry["sha256"].items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def digest_name(bundle: Bundle) -> str:
    """Return the name under which an engine's versions have a bundle's `quantised_digest`."""
    return f"int8 of {bundle.sha256[:12]}"


def quantised_place(network: Network) -> Path:
    """Return the folder in which a network in integers is kept, or would be."""
    try:
        program = version("openvino")
    except PackageNotFoundError:
        program = "none"
    parts = [str(_FORMAT), network.sha256, program]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return cache_folder() / "quantised" / key
