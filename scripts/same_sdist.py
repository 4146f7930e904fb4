"""Write an sdist again without what differs between machines: dates, owners, modes, order.

    python scripts/same_sdist.py dist/voxtile-0.1.0.tar.gz

setuptools heeds SOURCE_DATE_EPOCH in a wheel, but not in an sdist. The wheel is built from the
unpacked sdist, so its modes are equal too.
"""

import gzip
import io
import os
import sys
import tarfile
from pathlib import Path


def same_sdist(content: bytes, epoch: int) -> bytes:
    """Return a .tar.gz with the same files, all of this date."""
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as old,
        gzip.GzipFile("", "wb", fileobj=buffer, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old, key=lambda one: one.name):
            clean = tarfile.TarInfo(member.name)
            clean.type, clean.size, clean.mtime = member.type, member.size, epoch
            clean.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(clean, old.extractfile(member))
    return buffer.getvalue()


if __name__ == "__main__":
    sdist = Path(sys.argv[1])
    sdist.write_bytes(same_sdist(sdist.read_bytes(), int(os.environ["SOURCE_DATE_EPOCH"])))
