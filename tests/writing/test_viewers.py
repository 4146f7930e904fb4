"""A mask lies at one place in the world for nibabel, SimpleITK and NiiVue."""

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import ball

from voxtile.writing.nifti import write_mask

# Asks NiiVue where the corner voxels of a file lie, from the matrix that it draws with.
_ASK = """
const [content, done] = arguments;
niivue.NVImage.loadFromBase64({base64: content, name: "mask.nii.gz"}).then((volume) => {
  const affine = volume.hdr.affine;
  const [, i, j, k] = volume.hdr.dims;
  const place = (index) => affine.slice(0, 3).map(
    (row) => row[0] * index[0] + row[1] * index[1] + row[2] * index[2] + row[3]);
  const far = [i - 1, j - 1, k - 1];
  // And from the other side: the voxel that it finds at the place of the last one.
  done({first: place([0, 0, 0]), last: place(far), ras: Array.from(volume.mm2vox(place(far))),
        dims: Array.from(volume.dimsRAS)});
}, (error) => done({error: String(error)}));
"""


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "ASL"])
@pytest.mark.parametrize("tilt_degrees", [0, 25])
def test_three_readers_agree(browser: Any, tmp_path: Path, axes: str, tilt_degrees: int) -> None:
    _, mask = ball(axes=axes, tilt_degrees=tilt_degrees)
    path = tmp_path / "mask.nii.gz"
    write_mask(path, mask)
    last = tuple(size - 1 for size in mask.shape)
    expected = [(mask.affine @ (*index, 1))[:3] for index in ((0, 0, 0), last)]

    image = nibabel.load(path)
    for index, place in zip(((0, 0, 0), last), expected, strict=True):
        np.testing.assert_allclose((image.affine @ (*index, 1))[:3], place, atol=1e-3)
        lps = sitk.ReadImage(str(path)).TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(np.array(lps) * (-1, -1, 1), place, atol=1e-3)

    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>NiiVue</title>")
    browser.get(page.as_uri())
    browser.execute_script(
        files("voxtile.report.page").joinpath("vendor/niivue.umd.js").read_text()
    )
    content = base64.b64encode(path.read_bytes()).decode()
    told = browser.execute_async_script(_ASK, content)
    assert "error" not in told, told
    np.testing.assert_allclose(told["first"], expected[0], atol=1e-3)
    np.testing.assert_allclose(told["last"], expected[1], atol=1e-3)
    # NiiVue turns voxels to RAS order: the last one of storage is at an end of each axis there.
    ends = np.array(told["dims"][1:4]) - 1
    assert all(min(abs(v), abs(v - end)) < 1e-2 for v, end in zip(told["ras"], ends, strict=True))
