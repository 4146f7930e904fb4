"""Everything below a folder, links to folders followed: one walk for all who read or hash."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def files_below(folder: Path, on_error: Callable[[OSError], object]) -> Iterator[Path]:
    """Yield all that is no folder and not hidden below a folder; each folder once, linked or not.

    Parameters
    ----------
    folder : Path
    on_error : callable
        Called with the error of a folder that cannot be listed; where it
        returns, the walk goes on without it.
    """
    seen = set()
    for root, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        real = Path(root).resolve()
        if real in seen:  # a link back up, or a second way to the same place
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if not name.startswith("."))
