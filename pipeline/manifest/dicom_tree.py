"""Read a tree of DICOM: a case for each series, under pseudonyms.

Case ids and groups are numbered in the order of the files' paths, so they say
nothing about a patient. The key of the pseudonyms is returned only on request.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import astuple, dataclass, field, replace
from os.path import commonpath
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import ManifestError, counted, first_few
from voxtile.machine.at_once import in_order
from voxtile.reading.dicom import catalogue

from .annotations import Annotation, drawn_labels
from .names import find_files
from .source import Found, Identity

# Number of files per request to the reader: small enough to show progress and keep replies small.
_AT_ONCE = 200

OnFiles = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Whose:
    """The patient of an image by its header, as hashes; empty if the header has no value."""

    patient: str
    issuer: str
    study: str


@dataclass(slots=True)
class _Series:
    """The images of one series found so far."""

    uid: str
    label: str
    modality: str
    # `whose` and `identity` are from the first image, `everyone` from all images.
    whose: _Whose
    identity: tuple[str, str]
    frame: str = ""  # of reference
    everyone: set[_Whose] = field(default_factory=set)
    # For each folder, its images: their SOPInstanceUID and number of slices.
    folders: dict[Path, dict[str, int]] = field(default_factory=dict)

    @property
    def images(self) -> dict[str, int]:
        """Number of slices of each image; a copied image counts once."""
        return {uid: count for inside in self.folders.values() for uid, count in inside.items()}

    @property
    def repeats(self) -> bool:
        """Whether several folders hold the same image."""
        return sum(map(len, self.folders.values())) > len(self.images)

    @property
    def home(self) -> Path:
        """The innermost folder that holds the whole series."""
        return Path(commonpath(self.folders))

    def copies(self) -> list["_Series"]:
        """Return a series for each folder that holds all its images, or the series itself.

        A folder with only some of the images is not a copy: a row for this
        folder would give a shorter volume that looks valid.
        """
        count = len(self.images)
        whole = [folder for folder, inside in self.folders.items() if len(inside) == count]
        return [replace(self, folders={one: self.folders[one]}) for one in whole] or [self]


def read_dicom_tree(
    folder: Path, *, identify: bool = False, on_files: OnFiles | None = None
) -> Found:
    """Return a case for each series below a folder, if the series may be a volume.

    A case's image is the folder that holds its series; if that folder holds
    several series, a column ``series`` chooses by pseudonym. Modality and number
    of slices are columns. Scouts and objects without images are left out; notices
    give their number. With `identify` the key of the pseudonyms is returned
    too. `on_files` is called with (files done, all files) while headers are read.
    """
    paths = [path for path in find_files(folder) if path.name.upper() != "DICOMDIR"]
    counts = dict.fromkeys(("scout", "picture", "other", "damaged"), 0)
    annotations: list[Annotation] = []
    every = _found_series(_entries(paths, identify, on_files), counts, annotations)
    volumes = sorted(
        (copy for series in every.values() for copy in series.copies()),
        key=lambda series: (min(series.folders), series.label),
    )
    if not volumes:
        raise ManifestError(
            [f"{folder} holds no series of DICOM images (of {counted(len(paths), 'file')})"]
        )
    folders, read = (sum(len(one.folders) for one in some) for some in (every.values(), volumes))
    counts["excerpt"] = folders - read
    crowded = _crowded(volumes, list(every.values()), folder)
    everyone = set().union(*(series.everyone for series in every.values()))
    patients = _patients(volumes, everyone)
    several = list(dict.fromkeys(patients))
    numbered = dict(zip(several, _numbered("patient", len(several)), strict=True))
    ids = _numbered("case", len(volumes))
    named = [
        (name, numbered[patient], series)
        for name, patient, series in zip(ids, patients, volumes, strict=True)
    ]
    labels, drawn = drawn_labels(annotations, {one.uid: one.frame for one in every.values()})
    cases = tuple(
        Case(
            name,
            (("image", series.home),),
            group=group,
            label=labels.get(series.uid),
            series=f"id={series.label}" if series.uid in crowded else None,
            extras=(("modality", series.modality), ("slices", str(sum(series.images.values())))),
        )
        for name, group, series in named
    )
    key = tuple(
        Identity(name, group, *series.identity, series.uid) for name, group, series in named
    )
    repeated = [name for name, _, series in named if series.repeats]
    mixed = sum(_contradict(series.everyone) for series in every.values())
    notices = _notices(counts, everyone, mixed, len(volumes) - len(every), repeated)
    return Found(cases, (*drawn, *notices), key=key if identify else ())


def _found_series(
    entries: Iterable[tuple[Path, dict[str, Any] | None]],
    counts: dict[str, int],
    annotations: list[Annotation],
) -> dict[str, _Series]:
    """Return the series of all images by UID; add other files to `counts` and `annotations`."""
    every: dict[str, _Series] = {}
    for path, entry in entries:
        if entry is None:
            continue
        kind = entry["kind"]
        if kind in counts:
            counts[kind] += 1
        if kind == "annotation":
            uids = entry["instance"], tuple(entry["drawn_on"]), tuple(entry["frames"])
            annotations.append(Annotation(path, *uids))
        if kind != "image":
            continue
        whose = _Whose(entry["patient"], entry["issuer"], entry["study"])
        patient, study = entry.get("identity", ("", ""))
        new = _Series(entry["series"], entry["label"], entry["modality"], whose, (patient, study))
        new.frame = entry["frame"]
        series = every.setdefault(new.uid, new)
        images = series.folders.setdefault(path.parent, {})
        images[entry["instance"] or str(path)] = entry["slices"]
        series.everyone.add(whose)
    return every


def _contradict(images: Set[_Whose]) -> bool:
    """Whether images cannot belong to one patient: their ids or issuers differ."""
    return any(
        len({getattr(one, name) for one in images} - {""}) > 1 for name in ("patient", "issuer")
    )


def _patients(volumes: Sequence[_Series], everyone: Set[_Whose]) -> list[str]:
    """Return the patient of each volume, so that one patient is never in two groups.

    Equal ids of different issuers are different patients, but an id without an
    issuer may be any of them. An image without an id belongs to the patient of
    its study; if no image of the study has an id, the study counts as a patient.
    """
    issuers: dict[str, set[str]] = {}
    known: dict[str, _Whose] = {}
    for one in sorted(everyone, key=astuple):
        if one.patient:
            issuers.setdefault(one.patient, set()).add(one.issuer)
            if one.study:
                known.setdefault(one.study, one)
    patients = []
    for series in volumes:
        whose = series.whose if series.whose.patient else known.get(series.whose.study)
        if whose is None:
            patients.append(f"study {series.whose.study}")
        elif "" in issuers[whose.patient]:
            patients.append(whose.patient)
        else:
            patients.append(f"{whose.issuer} {whose.patient}")
    return patients


def _crowded(volumes: Sequence[_Series], every: Sequence[_Series], root: Path) -> set[str]:
    """Return the series whose folder, or a folder below it, also holds another series."""
    below: dict[Path, set[str]] = {}
    for series in every:
        for folder in series.folders:
            for outer in (folder, *folder.parents):
                below.setdefault(outer, set()).add(series.uid)
                if outer == root:
                    break
    return {series.uid for series in volumes if len(below[series.home]) > 1}


def _numbered(word: str, count: int) -> list[str]:
    """Return ``case001``, ``case002`` and so on."""
    digits = max(3, len(str(count)))
    return [f"{word}{number:0{digits}d}" for number in range(1, count + 1)]


def _notices(
    counts: dict[str, int], everyone: Set[_Whose], mixed: int, copies: int, repeated: Sequence[str]
) -> Iterator[str]:
    """Yield notices about what was left out, and about groups."""
    words = {
        "scout": ("scout (localiser)", "scouts (localisers)"),
        "picture": (
            "image without a position in the patient",
            "images without a position in the patient",
        ),
        "other": ("DICOM object without an image", "DICOM objects without images"),
        "damaged": ("file that is damaged or not DICOM", "files that are damaged or not DICOM"),
        "excerpt": (
            "folder with only a part of a series that another folder holds completely",
            "folders with only a part of a series that another folder holds completely",
        ),
    }
    left = [counted(counts[kind], *word) for kind, word in words.items() if counts[kind]]
    if left:
        yield f"left out: {', '.join(left)}"
    if not all(one.patient for one in everyone):
        yield (
            "some images have no patient id; those of one study count as one patient, so check "
            "the column group before you split"
        )
    issued = {one.patient for one in everyone if one.issuer}
    if any(one.patient in issued for one in everyone if not one.issuer):
        yield (
            "some images with a patient id name its issuer and others with the same id do not; "
            "all of them count as one patient"
        )
    studies: dict[str, set[_Whose]] = {}
    for one in everyone:
        studies.setdefault(one.study, set()).add(one)
    studies.pop("", None)
    if count := sum(map(_contradict, studies.values())):
        yield (
            f"images of several patient ids are in {counted(count, 'study', 'studies')}; each id "
            "counts as a patient, so check the column group before you split"
        )
    if mixed:
        yield (
            f"images of several patient ids are in {mixed} series; the group is that of the first "
            "file, so check these series"
        )
    if copies:
        yield (
            f"copies of a series in other folders gave {counted(copies, 'more row')}, in the same "
            "group; remove rows that you do not need"
        )
    if repeated:
        yield (
            f"some images of {first_few(repeated)} are in several folders, and no folder holds all "
            "of them; such a series is one row for all its folders, and the reader leaves "
            "identical copies out; remove folders that you do not need"
        )
    yield "paths are written as they are on disk; rename folders whose names identify a patient"


def _entries(
    paths: Sequence[Path], identify: bool, on_files: OnFiles | None
) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Yield every file with the entry that the reader gives for it."""
    batches = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    read = in_order(lambda some: catalogue(some, identify=identify), batches)
    done = 0
    for some, entries in zip(batches, read, strict=True):
        yield from zip(some, entries, strict=True)
        done += len(some)
        if on_files is not None:
            on_files(done, len(paths))
