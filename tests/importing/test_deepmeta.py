"""A network that others trained gives the masks of its plain run, from the scan as acquired."""

import json
from pathlib import Path

import numpy as np
import pytest
from skimage.exposure import equalize_adapthist

from voxtile import segment
from voxtile.engines.exchange import import_model
from voxtile.reading.nifti import read_nifti


def test_masks_of_deepmeta_equal_those_of_its_plain_run(data_dir: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = data_dir / "networks/deepmeta"
    if not folder.is_dir():
        pytest.skip("the network deepmeta is not on this machine")
    spec = json.loads((folder / "spec.json").read_text())
    spec["intensity"] = {"method": "clahe", "clip_limit": 0.03}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    network = folder / "deepmeta_unet3plus.onnx"
    bundle = import_model(network, tmp_path / "spec.json", tmp_path / "deepmeta")
    scan = read_nifti(folder / "mouse_mri_clahe.nii.gz").volume
    few = scan.with_array(np.where(np.arange(128) % 16 == 8, scan.array, 0))
    mask = segment(few, bundle).array
    plain = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    (name,) = (part.name for part in plain.get_inputs())
    for index in range(8, 128, 16):
        plane = equalize_adapthist(few.array[..., index] / few.array.max(), clip_limit=0.03)
        (logits,) = plain.run(None, {name: plane[np.newaxis, np.newaxis].astype(np.float32)})
        expected = logits[0].argmax(axis=0)
        assert (mask[..., index] == expected).mean() > 0.9999
    assert {1, 2} <= {*np.unique(mask)}
