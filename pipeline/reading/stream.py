"""A file that is decompressed while it is read, to its end, so that every checksum is checked.

The compression is recognised by its first bytes: gzip, bzip2, zstd or none;
a format may name another compression, such as zlib without a header.
"""

import bz2
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from backports import zstd
from isal import igzip, isal_zlib

from voxtile.errors import CaseError
from voxtile.machine.files import is_special

Compression = Literal["none", "gzip", "bzip2", "zstd", "zlib"]

_MAGIC: dict[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
}
# Maximum number of bytes that one compressed byte can become; a header that promises more is
# wrong. Deflate reaches 1032:1; the others compress runs of equal bytes further.
_MOST_INFLATION: dict[Compression, int] = {
    "none": 1,
    "gzip": 1100,
    "zlib": 1100,
    "bzip2": 2**20,
    "zstd": 2**17,
}
# Bytes after the last voxel that are accepted; some writers pad.
SLACK = 2**16
_CHUNK = 2**22
# isal's type stub declares its exception class as an instance.
_ISAL_ERROR: Any = isal_zlib.error
_INFLATE_ERRORS = (igzip.BadGzipFile, _ISAL_ERROR, zlib.error, zstd.ZstdError)


class Stream:
    """A file, decompressed while it is read; every read is checked.

    Parameters
    ----------
    code : str
        Code of the error for a path that is not a file.
    needed : str
        What to name instead, such as "a NIfTI file".
    start : int
        Where the stream begins in the file.
    compression : optional
        By default recognised at `start`.
    name : str
        What messages call the file; by default its name.
    """

    def __init__(
        self,
        path: Path,
        code: str,
        needed: str,
        *,
        start: int = 0,
        compression: Compression | None = None,
        name: str = "",
    ) -> None:
        self.name = name or path.name
        if path.is_dir():
            raise CaseError(code, f"{self.name} is a folder; name {needed}")
        if is_special(path):
            raise CaseError(code, f"{self.name} is a pipe, socket or device; name {needed}")
        self.size = max(0, path.stat().st_size - start)
        self._raw = path.open("rb")
        self._raw.seek(start)
        begin = self._raw.read(4)
        self._raw.seek(start)
        found = [kind for magic, kind in _MAGIC.items() if begin.startswith(magic)]
        self.compression: Compression = compression or (found[0] if found else "none")
        self._file: Any = _OPENERS[self.compression](self._raw)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def read_into(self, target: memoryview) -> int:
        """Fill `target` and return the number of bytes read; fewer only at the end of the file."""
        filled = 0
        try:
            while filled < len(target):
                got = self._file.readinto(target[filled : filled + _CHUNK])
                if not got:
                    break
                filled += got
        except EOFError as error:
            raise CaseError(
                "truncated",
                f"{self.name}: the {self.compression} stream ends too early; copy the file again",
            ) from error
        except (*_INFLATE_ERRORS, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # an error of the disk; for damaged data, bzip2's OSError has no number
            raise CaseError(
                "corrupt",
                f"{self.name}: the {self.compression} stream is damaged ({error}); copy the file "
                "again",
            ) from error
        return filled

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes; fewer only at the end of the file."""
        target = bytearray(count)
        return bytes(target[: self.read_into(memoryview(target))])

    def require(self, promised: int, what: str) -> None:
        """Refuse a header that promises more bytes than the file can hold."""
        if promised > self.size * _MOST_INFLATION[self.compression]:
            compressed = "" if self.compression == "none" else " compressed"
            raise CaseError(
                "truncated",
                f"{self.name}: the header promises {what}, {promised} bytes, but the file has "
                f"{self.size}{compressed}; copy it again",
            )

    def finish(self, promised: int, slack: int = SLACK) -> None:
        """Read to the end of a stream, which checks its checksum; refuse one that is too long."""
        read = 0
        while got := len(self.read(min(slack + 1 - read, _CHUNK))):
            read += got
            if read > slack:
                raise CaseError(
                    "too_long",
                    f"{self.name} holds more than the {promised} bytes that its header promises, "
                    "so the header or the file is damaged; copy it again",
                )


class _Inflated:
    """A zlib stream as a file; gzip is recognised by its header, as MetaImage's readers do."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def readinto(self, target: memoryview) -> int:
        """Fill a part of `target`; return 0 at the end, or raise EOFError if the end is missing."""
        while not self._inflate.eof:
            piece = self._inflate.unconsumed_tail or self._raw.read(2**16)
            got = self._inflate.decompress(piece, len(target))
            if got:
                target[: len(got)] = got
                return len(got)
            if not piece:
                raise EOFError
        return 0


_OPENERS: dict[Compression, Callable[[Any], Any]] = {
    "none": lambda raw: raw,
    "gzip": lambda raw: igzip.GzipFile(fileobj=raw, mode="rb"),
    "bzip2": bz2.BZ2File,
    "zstd": zstd.ZstdFile,
    "zlib": _Inflated,
}
