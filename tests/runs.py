"""Small manifests, and runs of them with a model that is one function."""

import csv
from pathlib import Path

from phantoms import ball, make_bundle, threshold_model

from voxtile.batch.drive import run_manifest
from voxtile.writing.nifti import write_mask, write_volume


def write_manifest(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "cases.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def add_case(folder: Path, case_id: str, *, label: bool = True, **grid) -> dict[str, str]:
    image, truth = ball(**grid)
    write_volume(folder / f"{case_id}.nii.gz", image)
    row = {"case_id": case_id, "image": f"{case_id}.nii.gz", "label": ""}
    if label:
        write_mask(folder / f"{case_id}_label.nii.gz", truth)
        row["label"] = f"{case_id}_label.nii.gz"
    return row


def run(manifest: Path, out: Path, model=threshold_model, settings=None, **spec):
    return run_manifest(manifest, make_bundle(**spec), out, models=[model], settings=settings)
