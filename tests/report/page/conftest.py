"""A run to write pages of."""

from pathlib import Path

import numpy as np
import pytest
from phantoms import ball, make_bundle, threshold_model
from runs import add_case, write_manifest

from voxtile.batch.drive import run_manifest
from voxtile.writing.nifti import write_mask


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run of three cases, the last one worst, beside its manifest."""
    rows = [add_case(tmp_path, f"c{number}") for number in range(3)]
    _, truth = ball()
    astray = truth.with_array(np.roll(truth.array, 4, axis=0))
    write_mask(tmp_path / "c2_label.nii.gz", astray)
    manifest = write_manifest(tmp_path, rows)
    run_manifest(manifest, make_bundle(), tmp_path / "out", models=[threshold_model])
    return tmp_path
