"""Make a manifest from a data set."""

import os
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from voxtile.case import Case
from voxtile.errors import CaseError, ManifestError, UsageError, counted, first_few
from voxtile.label_values import label_values
from voxtile.machine.files import write_json, write_text
from voxtile.reading.formats import (
    family_of,
    format_of,
    is_dicom,
    is_volume,
    split_suffix,
    volumes_among,
)
from voxtile.reading.reference import integral, read_label_map
from voxtile.run_folder.protection import inputs_of, protect

from .bids import read_bids
from .build_options import BuildOptions
from .datalist import read_decathlon, read_monai
from .dicom_tree import read_dicom_tree
from .names import find_files, run_folders
from .nifti_folder import read_nifti_folder
from .nnunet import read_nnunet
from .source import Found, read_json
from .table import Table, table_of

Source = Literal["dicom", "nifti", "nnunet", "msd", "monai", "bids"]


_USED: dict[str, tuple[Source, ...]] = {
    "labels": ("nifti",),
    "label_pattern": ("nifti", "bids"),
    "suffixes": ("bids",),
    "root": ("monai",),
    "fold": ("nnunet",),
    "gaps": ("bids", "nifti"),
}


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files to write: a manifest, the key of its pseudonyms, and the names of label values."""

    manifest: Path
    key: Path | None = None
    label_names: Path | None = None


def build_manifest(
    source: Path,
    outputs: Outputs,
    *,
    kind: Source,
    options: BuildOptions | None = None,
    on_files: Callable[[int, int], None] | None = None,
) -> Found:
    """Make a manifest from a data set.

    Parameters
    ----------
    source : Path
        A folder, or the JSON file of msd and monai.
    outputs : Outputs
        Files to write; they must not exist yet or be inside a DICOM series.
    on_files : callable, optional
        Called with (files done, all files) while headers are read.

    Raises
    ------
    ManifestError
        Lists everything that is wrong with the source; nothing is written then.
    ValueError
        If an option does not belong to the kind.
    """
    options = options or BuildOptions()
    for name, kinds in _USED.items():
        value = getattr(options, name)
        chosen = value is not None and value is not False and value != ()  # fold 0 is chosen
        if chosen and kind not in kinds:
            raise UsageError(f"{name} is an option of --from {' or '.join(kinds)}, not of {kind}")
    if outputs.key is not None and kind != "dicom":
        raise UsageError(f"a key is written only for --from dicom; {kind} uses no pseudonyms")
    wanted = (outputs.manifest, outputs.key, outputs.label_names)
    present = [path for path in wanted if path is not None and os.path.lexists(path)]
    if present:
        raise ManifestError([f"{path} exists; name another, or move it away" for path in present])
    # On a disk that ignores case these may be one file, and the last would replace the others.
    names = [str(path.absolute()).casefold() for path in wanted if path is not None]
    if len(set(names)) < len(names):
        raise ManifestError(["--out, --key and --label-names must be different files"])
    found = read_source(source, kind, options, identify=outputs.key is not None, on_files=on_files)
    written = (path for path in wanted if path is not None)
    protect(inputs_of(found.cases), *written, advice="name another file")
    if outputs.label_names is not None and not found.labels:
        raise ManifestError(
            [
                f"{source} names no single label values; leave --label-names out and write "
                'a file such as {"1": "liver"} yourself, for train --labels'
            ]
        )
    text = table_of(found.cases, outputs.manifest.parent).csv()
    if outputs.key is not None:
        write_text(outputs.key, _key_table(found).csv(), private=True)
    if outputs.label_names is not None:
        write_json(outputs.label_names, {str(value): name for value, name in found.labels})
    write_text(outputs.manifest, text)
    return found


def detect(source: Path) -> Source:
    """Return the kind of source that a path looks like.

    Raises
    ------
    ManifestError
        If it looks like no kind of source, or like several.
    """
    if source.is_file() and is_dicom(source):
        return "dicom"
    if source.is_file():
        return "nifti" if is_volume(source) else _detect_json(source)
    if not source.is_dir():
        raise ManifestError([f"{source} does not exist"])
    if (source / "dataset.json").is_file():
        kind = _detect_json(source / "dataset.json")
        return "msd" if kind == "monai" else kind
    if (source / "dataset_description.json").is_file() or _has_subjects(source):
        return "bids"
    files = find_files(source)
    found = [path for path in files if family_of(path) == "volume"]
    volumes = bool(found)
    dicom = any(not split_suffix(path.name)[1] and is_dicom(path) for path in files)
    if not volumes and not dicom:
        volumes = bool(volumes_among(files))  # pictures or archives
    if volumes and dicom:
        raise ManifestError(
            [
                f"{source} holds both {format_of(found[0]).name} and DICOM files; choose with "
                f"--from {', '.join(get_args(Source))}"
            ]
        )
    if not volumes and not dicom:
        raise ManifestError(
            [
                f"{source} holds no scan of a format that voxtile reads (docs/ingest.md lists "
                f"them), among {counted(len(files), 'file')}; name the folder of the scans"
            ]
        )
    return "nifti" if volumes else "dicom"


def _of_pictures(found: Found) -> Iterator[str]:
    """Yield a notice if the first labels have only the values 0 and 255, as pictures have."""
    labels = [(case.case_id, case.label) for case in found.cases if case.label is not None]
    white = []
    for name, path in [pair for pair in labels if is_volume(pair[1])][:3]:
        try:
            array, _ = integral(read_label_map(path, "label").volume.array, "label")
        except CaseError:  # `manifest check` says what is wrong with it
            continue
        if set(label_values(array)) - {0} == {255}:
            white.append(name)
    if white:
        yield (
            f"labels of {first_few(white)} have only the values 0 and 255, as pictures have; if "
            "255 is label 1 of a model, pass --label-map 255:1 to `voxtile run`"
        )


def _detect_json(path: Path) -> Source:
    """Return the kind of source that a JSON file describes."""
    document = read_json(path)
    if isinstance(document, dict):
        if "channel_names" in document or "file_ending" in document:
            return "nnunet"
        if "training" in document and "modality" in document:
            return "msd"
    return "monai"


def _has_subjects(folder: Path) -> bool:
    """Whether a folder has BIDS subjects with volumes in them."""
    return any(
        family_of(path) == "volume"
        for subject in sorted(folder.glob("sub-*"))[:3]
        for path in subject.glob("**/sub-*_*")
    )


def read_source(
    source: Path,
    kind: Source,
    options: BuildOptions | None = None,
    *,
    identify: bool = False,
    on_files: Callable[[int, int], None] | None = None,
) -> Found:
    """Return the cases of a source with all notices; arguments and errors as `build_manifest`."""
    found = _read(source, kind, options or BuildOptions(), identify, on_files)
    left = _of_runs(source) if kind in ("dicom", "nifti") else ()
    return replace(found, notices=(*found.notices, *left, *_of_pictures(found)))


def _of_runs(source: Path) -> Iterator[str]:
    """Yield a notice about the run folders below a source."""
    runs = run_folders(source.rglob("run*.json"))
    if names := sorted(str(folder.relative_to(source)) for folder in runs):
        yield f"left out {first_few(names)}: results of voxtile, whose masks are not references"


def _read(
    source: Path,
    kind: Source,
    options: BuildOptions,
    identify: bool,
    on_files: Callable[[int, int], None] | None,
) -> Found:
    """Return the cases of a source."""
    match kind:
        case "dicom" if source.is_file():
            return Found((Case("case001", (("image", source),)),))
        case "nifti" if source.is_file():
            return read_nifti_folder(source, pattern="{case}")
        case "dicom":
            return read_dicom_tree(source, identify=identify, on_files=on_files)
        case "nifti":
            return read_nifti_folder(
                source, labels=options.labels, pattern=options.label_pattern, gaps=options.gaps
            )
        case "nnunet":
            return read_nnunet(source if source.is_dir() else source.parent, options.fold)
        case "msd":
            return read_decathlon(source / "dataset.json" if source.is_dir() else source)
        case "monai":
            return read_monai(source, options.root)
        case "bids":
            return read_bids(
                source,
                suffixes=options.suffixes,
                label_pattern=options.label_pattern,
                gaps=options.gaps,
            )


def _key_table(found: Found) -> Table:
    """Return the key of the pseudonyms."""
    header = ("case_id", "group", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")
    return Table(header, tuple(astuple(who) for who in found.key))
