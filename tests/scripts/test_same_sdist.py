"""Equal sources give an equal sdist, wherever and whenever it is built."""

import io
import tarfile
from collections.abc import Mapping

from same_sdist import same_sdist

FILES = {"v-1": None, "v-1/a.py": b"a", "v-1/run": b"#!"}


def sdist(files: Mapping[str, bytes | None], date: int, owner: str, umask: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size, info.mtime, info.uname = len(content or b""), date, owner
            info.mode = (0o777 if name == "v-1/run" else 0o666) & ~umask
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def test_dates_owners_modes_and_order_do_not_matter() -> None:
    one = same_sdist(sdist(FILES, 1, "ann", 0o022), 1_700_000_000)
    backwards = dict(reversed(FILES.items()))
    assert one == same_sdist(sdist(backwards, 2, "bob", 0o077), 1_700_000_000)
    assert one == same_sdist(one, 1_700_000_000)


def test_names_content_and_what_can_be_run_stay() -> None:
    content = same_sdist(sdist(FILES, 1, "ann", 0o002), 5)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {member.name: (member.mode, member.mtime) for member in tar}
        assert tar.extractfile("v-1/a.py").read() == b"a"
    assert found == {"v-1": (0o755, 5), "v-1/a.py": (0o644, 5), "v-1/run": (0o755, 5)}


def test_other_content_gives_other_bytes() -> None:
    changed = FILES | {"v-1/a.py": b"b"}
    assert same_sdist(sdist(FILES, 1, "a", 0), 1) != same_sdist(sdist(changed, 1, "a", 0), 1)
