"""A scan in a notebook: NiiVue's viewer, or a picture where that is missing."""

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from phantoms import LABELS, ball, make_bundle
from PIL import Image

import voxtile
from voxtile.errors import CaseError
from voxtile.volume import Axes, reorient
from voxtile.writing.nifti import write_mask, write_volume

IMAGE, TRUTH = ball(axes="LPS", tilt_degrees=20)


def test_a_picture_has_the_labels_colour(tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", IMAGE)
    write_mask(tmp_path / "mask.nii.gz", TRUTH)
    scan, mask = str(tmp_path / "scan.nii.gz"), tmp_path / "mask.nii.gz"
    picture = voxtile.view(scan, mask, labels=make_bundle(), how="picture")
    assert isinstance(picture, Image.Image)
    colours = {colour for _, colour in picture.getcolors(2**24)}
    assert (0xE6, 0x19, 0x4B) in colours
    without = voxtile.view(IMAGE, how="picture")
    assert (0xE6, 0x19, 0x4B) not in {colour for _, colour in without.getcolors(2**24)}


def test_a_viewer_holds_scan_mask_and_names() -> None:
    pytest.importorskip("ipyniivue")
    turned = reorient(TRUTH, Axes((2, 0, 1), (True, False, False)))
    widget = voxtile.view(IMAGE, turned, reference=TRUTH, labels=LABELS)
    scan, mask, reference = widget.volumes
    found = nibabel.Nifti1Image.from_bytes(bytes(scan.data))
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), IMAGE.array)
    np.testing.assert_allclose(found.affine, IMAGE.affine, atol=1e-4)
    for layer in (mask, reference):
        found = nibabel.Nifti1Image.from_bytes(bytes(layer.data))
        np.testing.assert_array_equal(np.asanyarray(found.dataobj), TRUTH.array)
        assert layer.colormap_label.labels[1] == "ball"
        assert list(layer.colormap_label.lut[4:8]) == [0xE6, 0x19, 0x4B, 255]


def test_label_values_without_names_are_shown() -> None:
    picture = voxtile.view(IMAGE, TRUTH.with_array(TRUTH.array * 5), how="picture")
    assert len(picture.getcolors(2**24)) > 3


def test_without_the_viewer_there_is_a_picture_or_an_error(monkeypatch) -> None:
    monkeypatch.setattr("voxtile.report.notebook.find_spec", lambda _: None)
    assert isinstance(voxtile.view(IMAGE, TRUTH), Image.Image)
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(ImportError, match=r'pip install "voxtile\[notebook\]"'):
        voxtile.view(IMAGE, TRUTH, how="widget")
    with pytest.raises(ValueError, match="must be one of"):
        voxtile.view(IMAGE, TRUTH, how="3d")


def test_a_mask_on_another_grid_is_refused() -> None:
    other, _ = ball()
    with pytest.raises(CaseError, match="the mask is up to"):
        voxtile.view(other, TRUTH)


def test_the_example_notebook_runs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = Path(__file__).resolve().parents[2] / "docs" / "notebook.ipynb"
    cells = json.loads(path.read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] or "import" in "".join(cell["source"])
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
