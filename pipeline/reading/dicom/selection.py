"""Choose the series to read among everything that a folder holds.

Scouts, objects without pixels and images without a position in the patient
never count as a volume. If several series are left, the user must choose.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from operator import ge, le

import numpy as np

from voxtile.errors import CaseError, Notice, counted, first_few

from .header import Instance, Slice
from .stack import clusters

# An image with such a problem is not a slice of a volume, but a report page or a projection.
NO_VOLUME = ("colour", "no_geometry")
# Unit vectors that differ by more are at least half a degree apart, like the planes of a scout. The
# limit of `stack` is smaller: a series between both limits may be chosen here but is refused there.
_SEVERAL_ORIENTATIONS = 0.01
_HOW = (
    "choose one with --series (or a column `series`): its id, a SeriesInstanceUID, or rules such "
    "as modality=CT, slices>=20, largest, separated by commas"
)
_ALL = ", or pass --series all to read them as one, if they are slices of one volume"


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The images of one series."""

    uid: str  # SeriesInstanceUID; never shown
    images: tuple[Instance, ...]  # in name order, scouts left out
    scouts: int = 0
    pictures: int = 0  # screen pictures and scouts that were removed from its images
    joined: int = 1  # number of series that were joined

    @property
    def label(self) -> str:
        """A pseudonym: always the same for the same series, without information about it."""
        return hashlib.sha256(self.uid.encode()).hexdigest()[:8]

    @property
    def modality(self) -> str:
        """Code of the modality."""
        return self.images[0].modality if self.images else "OT"

    @property
    def slices(self) -> tuple[Slice, ...]:
        """All slices, in name order."""
        return tuple(piece for image in self.images for piece in image.slices)

    @property
    def may_be_volume(self) -> bool:
        """Whether at least one image has a position, or may have but is damaged."""
        return any(
            image.problem is None or image.problem.code not in NO_VOLUME for image in self.images
        )

    @property
    def orientations(self) -> int:
        """Number of orientations; scouts in three planes are often not marked as scouts."""
        vectors = [piece.orientation for piece in self.slices]
        return len(clusters(vectors, _SEVERAL_ORIENTATIONS))

    def __str__(self) -> str:
        slices = self.slices
        if not slices:
            files = counted(len(self.images), "unusable file")
            return f"id={self.label} ({self.modality}, {files})"
        rows, columns = slices[0].spacing
        normal = np.cross(slices[0].orientation[:3], slices[0].orientation[3:])
        along = np.unique(np.round([normal @ piece.position for piece in slices], 3))
        spacing = f"{columns:.3g} x {rows:.3g}"
        if len(along) > 1:
            spacing += f" x {np.median(np.diff(along)):.3g}"
        return f"id={self.label} ({self.modality}, {counted(len(slices), 'slice')}, {spacing} mm)"


def choose_series(instances: Sequence[Instance], rule: str | None) -> tuple[Series, list[Notice]]:
    """Return the series to read, and notices about other objects.

    Parameters
    ----------
    rule : str or None
        A SeriesInstanceUID, or terms separated by commas: ``id=3f2a90c1``,
        ``modality=CT``, ``description=t1*``, ``slices>=20``,
        ``slices<=300``, ``largest``, ``all``.

    Raises
    ------
    CaseError
        If not exactly one series is left.
    """
    every = _group(instances)
    for series in every:
        _require_known(series)
    found = [series for series in every if series.may_be_volume]
    if not found:
        raise _nothing(instances, every)
    # A series of several orientations is not a volume, so it never competes with one that may be.
    found = [series for series in found if series.orientations <= 1] or found
    chosen = found if rule is None else _apply(rule, found)
    if not chosen:
        raise CaseError(
            "no_such_series",
            f"no series matches the rule; the folder has {first_few(found, 20)}; {_HOW}",
        )
    if len(chosen) > 1:
        raise CaseError(
            "several_series",
            f"there are {len(chosen)} series: {first_few(chosen, 20)}; put the files of one into a "
            "folder of their own",
            _HOW + (_ALL if _may_be_one(chosen) else ""),
        )
    series = _without_foreign(chosen[0])
    notices = _left_aside(instances, every, found, series)
    for image in series.images:
        if image.problem is not None:
            raise image.problem
    worlds = len({image.frame_of_reference for image in series.images})
    if worlds == len(series.images) > 2:
        sentence = f"each of {worlds} files states its own frame of reference; read as one"
        notices.append(Notice("frames_of_reference", sentence))
    elif worlds > 1:
        raise CaseError(
            "mixed_frame_of_reference",
            f"the images of the series have {worlds} frames of reference, so that their positions "
            "cannot be compared; put those of one into a folder of their own",
        )
    return series, notices


def _without_foreign(series: Series) -> Series:
    """Return a series without images that are clearly not its slices: screen pictures, scouts."""
    placed = [image for image in series.images if image.slices]
    primary = [image for image in placed if not image.secondary]
    classes = {image.sop_class for image in primary or placed}
    looks = Counter(_look(image) for image in primary or placed)
    usual, count = looks.most_common(1)[0] if looks else (None, 0)
    images = tuple(
        image
        for image in series.images
        if not _is_picture(image, classes, bool(primary))
        and not (usual and 2 * count > len(placed) and image.slices and _is_scout(image, usual))
    )
    left = len(series.images) - len(images)
    return replace(series, images=images, pictures=left) if left and images else series


def _is_picture(image: Instance, classes: Collection[str], primary: bool) -> bool:
    """Whether an image is a picture; `classes` are the slices', `primary` if any is primary."""
    foreign = image.sop_class not in classes
    if image.problem is not None and image.problem.code in NO_VOLUME:
        return foreign or (image.secondary and primary)
    return foreign and image.secondary and primary


_Look = tuple[tuple[float, ...], tuple[int, int], tuple[float, float]]


def _look(image: Instance) -> _Look:
    """Return the orientation, size and spacing of an image's first slice."""
    piece = image.slices[0]
    return piece.orientation, (piece.rows, piece.columns), piece.spacing


def _is_scout(image: Instance, usual: _Look) -> bool:
    """Whether an image's orientation differs much from the usual, and its size or spacing too."""
    orientation, size, spacing = _look(image)
    turned = np.abs(np.subtract(orientation, usual[0])).max() > _SEVERAL_ORIENTATIONS
    scaled = np.abs(np.divide(spacing, usual[2]) - 1).max() > _SEVERAL_ORIENTATIONS
    return bool(turned and (size != usual[1] or scaled))


def _may_be_one(found: Sequence[Series]) -> bool:
    """Whether several series may be one volume: slices are alike, all at different positions."""
    slices = [piece for series in found for piece in series.slices]
    sizes = {(piece.rows, piece.columns) for piece in slices}
    turned = len(clusters([piece.orientation for piece in slices], _SEVERAL_ORIENTATIONS))
    places = {piece.position for piece in slices}
    return len(sizes) == turned == 1 and len(places) == len(slices) > 2


def _group(instances: Sequence[Instance]) -> list[Series]:
    """Return the series in the order of their first file, with their scouts counted."""
    grouped: dict[str, list[Instance]] = {}
    for instance in instances:
        if instance.kind != "other":
            grouped.setdefault(instance.series, []).append(instance)
    return [
        Series(
            uid,
            tuple(image for image in images if image.kind == "image"),
            sum(image.kind == "scout" for image in images),
        )
        for uid, images in grouped.items()
    ]


def _require_known(series: Series) -> None:
    """Refuse damaged files whose series is unknown.

    A file that ends within its header has no SeriesInstanceUID, or only a part
    of it: it may be the missing slice of another series.
    """
    damaged = [
        image.problem
        for image in series.images
        if image.problem is not None and image.problem.code in ("truncated", "damaged")
    ]
    if damaged and not series.slices:
        raise damaged[0]


def _nothing(instances: Sequence[Instance], every: Sequence[Series]) -> CaseError:
    """Return the error that says why no series is a volume."""
    problems = [
        image.problem for series in every for image in series.images if image.problem is not None
    ]
    if problems:
        return problems[0]
    if any(series.scouts for series in every):
        return CaseError(
            "only_scouts",
            "the folder has only scouts (localisers), which never count as the volume; name the "
            "folder of the series itself",
        )
    return CaseError(
        "not_an_image",
        f"no scan is among {counted(len(instances), 'DICOM object')} (reports, plans and "
        "segmentations are not scans); name the folder of the series itself",
    )


def _left_aside(
    instances: Sequence[Instance],
    every: Sequence[Series],
    found: Sequence[Series],
    chosen: Series,
) -> list[Notice]:
    """Return notices about objects that were not read."""
    notices = []
    if len(found) > 1:
        what = f"{chosen.joined} series were read as one, " if chosen.joined > 1 else ""
        notices.append(
            Notice("series_chosen", f"{what}{chosen} was chosen from {len(found)} series")
        )
    aside = {
        "scouts": sum(series.scouts for series in every),
        "images without a position in the patient": sum(
            len(series.images) for series in every if not series.may_be_volume
        ),
        "pictures and scouts within the series": chosen.pictures,
        "slices of a series with several orientations": sum(
            len(series.slices) for series in every if series.may_be_volume and series not in found
        ),
        "other DICOM objects": sum(instance.kind == "other" for instance in instances),
    }
    words = [f"{what} ({count})" for what, count in aside.items() if count]
    if words:
        notices.append(Notice("left_aside", f"not read: {', '.join(words)}"))
    return notices


def _apply(rule: str, found: Sequence[Series]) -> list[Series]:
    """Return the series that match a rule."""
    terms = [term.strip() for term in rule.split(",") if term.strip()]
    tests = [_test(term) for term in terms if term not in ("largest", "all")]
    chosen = [series for series in found if all(test(series) for test in tests)]
    # Wherever it is in the rule, it picks the largest of the series that match the other terms.
    if "largest" in terms and chosen:
        most = max(len(series.slices) for series in chosen)
        chosen = [series for series in chosen if len(series.slices) == most]
    if "all" in terms and len(chosen) > 1:
        images = tuple(image for series in chosen for image in series.images)
        return [replace(chosen[0], images=images, joined=len(chosen))]
    return chosen


def _test(term: str) -> Callable[[Series], bool]:
    """Return the test of one term of a rule."""
    if match := re.fullmatch(r"modality\s*=\s*([A-Za-z]{2,10})", term):
        modality = match[1].upper()
        return lambda series: series.modality == modality
    if match := re.fullmatch(r"slices\s*(>=|<=)\s*(\d{1,9})", term):
        compare, limit = (ge if match[1] == ">=" else le), int(match[2])
        return lambda series: bool(compare(len(series.slices), limit))
    if match := re.fullmatch(r"id\s*=\s*([0-9a-f]{8})", term):
        label = match[1]
        return lambda series: series.label == label
    if match := re.fullmatch(r"description\s*=\s*(.+)", term):
        pattern = match[1].casefold()
        return lambda series: any(
            fnmatchcase(image.description.casefold(), pattern) for image in series.images
        )
    if re.fullmatch(r"[0-9]+(\.[0-9]+)+", term):
        return lambda series: series.uid == term
    raise CaseError(
        "bad_series_rule",
        "the rule for the series must consist of id=..., modality=..., description=..., "
        "slices>=..., slices<=..., largest, all, or a SeriesInstanceUID; correct it",
    )
