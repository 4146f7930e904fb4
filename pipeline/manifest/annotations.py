"""Give each series of a DICOM tree the SEG or RTSTRUCT that was drawn on it, by their UIDs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxtile.errors import counted

_NOUN = ("SEG or RTSTRUCT file", "SEG or RTSTRUCT files")


@dataclass(frozen=True, slots=True)
class Annotation:
    """A SEG or RTSTRUCT: its UID, and the series and frames of reference that it names."""

    path: Path
    uid: str
    drawn_on: tuple[str, ...]
    frames: tuple[str, ...]

    def series(self, frame_of: Mapping[str, str]) -> tuple[str, str]:
        """Return the series that it was drawn on (empty if unknown), and the reason in words.

        If it names no series, it belongs to the only series with its frame of
        reference; if several have it, to none, because their grids may differ.
        """
        named = [uid for uid in self.drawn_on if uid in frame_of]
        if self.drawn_on:
            if len(named) == 1:
                return named[0], "by the series that is named inside"
            return "", "naming several series" if named else "naming a series that is not here"
        alike = [uid for uid, frame in frame_of.items() if frame in self.frames]
        if len(alike) == 1:
            return alike[0], "by the frame of reference, which a single series has"
        return "", "naming no series; no series or several have the frame of reference"


def drawn_labels(
    annotations: Sequence[Annotation], frame_of: Mapping[str, str]
) -> tuple[dict[str, Path], list[str]]:
    """Return the label of each series that has exactly one, and notices.

    Parameters
    ----------
    frame_of : mapping of str to str
        The frame of reference of each series, by SeriesInstanceUID.
    """
    # Copies of a file count once.
    single = {one.uid or str(one.path): one for one in reversed(annotations)}
    found: dict[str, list[Path]] = {}
    paired: list[tuple[str, str]] = []
    left = Counter[str]()
    for one in single.values():
        uid, reason = one.series(frame_of)
        if uid:
            found.setdefault(uid, []).append(one.path)
            paired.append((reason, uid))
        else:
            left[reason] += 1
    labels = {uid: paths[0] for uid, paths in found.items() if len(paths) == 1}
    counts = Counter(reason for reason, uid in paired if uid in labels)
    shared = len(paired) - counts.total()
    notices = [f"{counted(count, *_NOUN)} paired {reason}" for reason, count in counts.items()]
    left["of a series that has several; name one in column label"] = shared
    notices += [f"left out: {counted(n, *_NOUN)} {why}" for why, n in left.items() if n]
    return labels, notices
