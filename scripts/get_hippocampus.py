"""Download Task04 Hippocampus of the Medical Segmentation Decathlon, with its manifest.

    DIR/Task04_Hippocampus.tar        the original archive, verified
    DIR/Task04_Hippocampus/           its content
        imagesTr labelsTr imagesTs dataset.json
        images labels                 links to imagesTr and labelsTr, with the names that are used
                                      in manifests/hippocampus.csv
        hippocampus.csv               its 217 cases, and the other labelled cases as test

A second run does only the missing steps, and an interrupted download goes on. Nothing is
written outside of DIR.
"""

import csv
import hashlib
import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer
from fetching.unpacking import unpack

from voxtile.cli.output import explained
from voxtile.errors import CaseError, EnvironmentFault, SourceError
from voxtile.machine.download import alone, download
from voxtile.machine.files import write_text
from voxtile.reading.nifti import survey_nifti
from voxtile.volume import grid_difference

URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar"
MD5 = "9d24dba78a72977dbd1d2e110310f31b"
NAME = "Task04_Hippocampus"
MANIFEST = Path(__file__).resolve().parents[1] / "manifests" / "hippocampus.csv"
# Labelled cases of the Decathlon that are not in the manifest (260 minus 217).
OTHERS = 43
_CASE = re.compile(r"\./labelsTr/(hippocampus_\d{3})\.nii\.gz")


def get(
    folder: Path,
    *,
    url: str = URL,
    md5: str = MD5,
    listed: Path = MANIFEST,
    say: Callable[[str], None] = typer.echo,
) -> Path:
    """Download the data, unless they exist, and write their manifest; return its path.

    Raises
    ------
    SourceError
        If the downloaded files are not the expected ones.
    EnvironmentFault
        If the download fails or the folder cannot be written.
    """
    data, archive = folder / NAME, folder / f"{NAME}.tar"
    with alone(data):
        if data.is_dir():
            say(f"{data} exists; nothing is downloaded")
        else:
            if download(url, archive, f"md5:{md5}"):
                say(f"{archive}: {archive.stat().st_size:,} bytes, MD5 is correct")
            else:
                say(f"{archive} exists and its MD5 is correct; nothing is downloaded")
            say(f"{data}: {unpack(archive, data):,} files")
        for name in ("images", "labels"):
            _link(data / name, f"{name}Tr")
        manifest = data / "hippocampus.csv"
        write_text(manifest, _manifest(data, listed, say))
    return manifest


def _manifest(data: Path, listed: Path, say: Callable[[str], None]) -> str:
    """Return the manifest: the cases of `listed`, and all others with a usable label as test."""
    with listed.open(newline="") as file:
        rows = {row["case_id"]: row for row in csv.DictReader(file)}
    known = set(rows)
    labelled = _labelled(data)
    absent = sorted(known - labelled)
    if absent:
        raise SourceError(
            f"{data / 'dataset.json'} does not list {len(absent)} of the {len(known)} cases of "
            f"{listed.name}, such as {absent[0]}; it is another edition of the data set"
        )
    for case_id in sorted(labelled):
        problem = _problem(data, case_id)
        if problem and case_id in known:
            raise SourceError(f"{case_id}: {problem}; remove {data} and run the same command again")
        if problem:
            say(f"{case_id} is left out: {problem}")
        elif case_id not in known:
            image, label = f"images/{case_id}.nii.gz", f"labels/{case_id}.nii.gz"
            row = {"case_id": case_id, "image": image, "label": label, "split": "test"}
            rows[case_id] = row
    others = sorted(set(rows) - known)
    if len(others) != OTHERS:
        say(f"{len(others)} other labelled cases were found, but {OTHERS} were expected")
    # The rule of manifests/README.md: the SHA-256 of a held-back id is divisible by 5.
    broken = [name for name in others if int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5]
    if broken:
        say(f"not held back by the rule of manifests/README.md: {', '.join(broken)}")
    text = StringIO(newline="")
    writer = csv.DictWriter(text, ("case_id", "image", "label", "split"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[case_id] for case_id in sorted(rows))
    splits = [row["split"] for row in rows.values()]
    counts = ", ".join(f"{splits.count(split)} {split}" for split in ("train", "val", "test"))
    say(f"{data / 'hippocampus.csv'}: {counts}")
    return text.getvalue()


def _labelled(data: Path) -> set[str]:
    """Return the ids that dataset.json lists with a label."""
    path = data / "dataset.json"
    try:
        names = [pair["label"] for pair in json.loads(path.read_text())["training"]]
        matches = [_CASE.fullmatch(name) for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path} is not a case list of the Decathlon ({type(error).__name__}); remove {data} "
            "and run the same command again"
        ) from error
    return {match[1] for match in matches if match}


def _problem(data: Path, case_id: str) -> str | None:
    """Return why a case cannot be scored, from its headers alone; None if it can."""
    try:
        image, label = (
            survey_nifti(data / f"{kind}Tr" / f"{case_id}.nii.gz").volume
            for kind in ("images", "labels")
        )
    except CaseError as error:
        return error.sentence
    if image.shape != label.shape or grid_difference(image.shape, image.affine, label.affine):
        return f"its label, {label.shape}, has another grid than its image, {image.shape}"
    return None


def _link(path: Path, target: str) -> None:
    """Make a link beside its target, unless the path exists."""
    if path.exists():
        return
    try:
        path.unlink(missing_ok=True)  # a broken link
        path.symlink_to(target, target_is_directory=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be linked to {target} ({error.strerror or error}); name a folder on a "
            "file system that supports links"
        ) from error


def main(
    folder: Annotated[Path, typer.Argument(help="Folder for the data; created if missing.")],
) -> None:
    """Download the Decathlon's hippocampus data (CC-BY-SA 4.0), verify them and list the cases."""
    with explained():
        manifest = get(folder)
        typer.echo(f"try: voxtile run {manifest} hippocampus --split test --out out")


if __name__ == "__main__":
    typer.run(main)
