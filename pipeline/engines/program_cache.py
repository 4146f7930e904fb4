"""Programs that JAX compiled, cached for other workers and later runs.

<cache>/programs/<SHA-256 of JAX' own key and the kind of processor>    a digest, then the program

JAX' own cache has no checksum of a program: a flipped bit would be run. Here a damaged program
counts as missing. Files are replaced whole, so workers need no lock. JAX' key has the
computation, the versions of its libraries, and the kind of GPU.
"""

import hashlib
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from voxtile.errors import EnvironmentFault
from voxtile.machine.cache import cache_folder, trim
from voxtile.machine.files import replacing
from voxtile.models.own_folder import is_private

from .measurements import processor_kind

_MOST_BYTES = 10**9
# Programs that are compiled faster than this are not cached; they would be thousands of files.
_LEAST_S = 0.1
_DIGEST_BYTES = 32


@cache
def cache_programs() -> None:
    """Let JAX cache its programs; JAX_ENABLE_COMPILATION_CACHE=false prevents it.

    If JAX_COMPILATION_CACHE_DIR names a folder, JAX uses that in its own way.
    """
    import jax

    try:
        if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
            return
        # JAX has no public way to give it a cache of one's own.
        from jax._src import compilation_cache as of_jax

        if of_jax._cache is None and hasattr(of_jax, "get_executable_and_time"):
            of_jax._cache = Programs()
            jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_S)
            jax.config.update("jax_raise_persistent_cache_errors", False)
    except (ImportError, AttributeError):  # another version of JAX: nothing is cached
        pass


class Programs:
    """The cache, as JAX calls it (``jax._src.compilation_cache_interface``)."""

    def get(self, key: str) -> bytes | None:
        """Return a program; None if it is missing or damaged, or others may have written it."""
        with suppress(OSError, EnvironmentFault):
            path = _path(key)
            if is_private(path):
                content = path.read_bytes()
                digest, program = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
                if digest == _digest(path, program):
                    os.utime(path)  # the least recently used programs are removed first
                    return program
        return None

    def put(self, key: str, value: bytes) -> None:
        """Cache a program; it is compiled again next time if it cannot be written."""
        with suppress(OSError, EnvironmentFault):
            path = _path(key)
            with replacing(path, private=True) as file:
                file.write(_digest(path, value) + value)
            trim(path.parent.iterdir(), _MOST_BYTES)


def _path(key: str) -> Path:
    """Return the path of a program, which depends on the processor: JAX' key may not."""
    name = hashlib.sha256(f"{key}\n{processor_kind()}".encode()).hexdigest()
    return cache_folder("programs") / name


def _digest(path: Path, program: bytes) -> bytes:
    """Return the digest of a program under its name."""
    return hashlib.sha256(path.name.encode() + program).digest()
