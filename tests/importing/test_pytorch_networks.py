"""2D networks of MONAI and segmentation_models.pytorch come in as docs/own-network.md says."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxtile.engines import Engine, load_models
from voxtile.engines.exchange import import_model

PAGE = Path(__file__).resolve().parents[2] / "docs/own-network.md"
SPEC = {
    "name": "x",
    "tile": [32, 64],
    "multiple": 32,
    "labels": [
        {"value": 1, "name": "a", "color": "#ff0000"},
        {"value": 2, "name": "b", "color": "#00ff00"},
    ],
    "activation": "softmax",
    "networks": [{"layout": "channels_first", "output": "logits"}],
}


def monai(name: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    def build() -> Any:
        nets = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed")
        return getattr(nets, name)(*arguments, **options)

    return build


def smp(name: str) -> Callable[[], Any]:
    def build() -> Any:
        module = pytest.importorskip(
            "segmentation_models_pytorch", reason="segmentation_models.pytorch is not installed"
        )
        return getattr(module, name)("resnet18", encoder_weights=None, in_channels=1, classes=3)

    return build


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "build",
    [
        pytest.param(monai("UNet", 2, 1, 3, (8, 16), (2,)), id="monai UNet"),
        pytest.param(monai("BasicUNet", 2, 1, 3, (4, 4, 8, 8, 8, 4)), id="monai BasicUNet"),
        pytest.param(monai("SegResNet", 2, 8, 1, 3), id="monai SegResNet"),
        pytest.param(smp("Unet"), id="smp Unet"),
        pytest.param(smp("DeepLabV3Plus"), id="smp DeepLabV3Plus"),
    ],
)
def test_probabilities_are_those_of_pytorch(build, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    net = build().eval()
    tiles = np.random.default_rng(0).normal(0, 1, (2, 32, 64, 1)).astype(np.float32)
    with torch.no_grad():
        logits = net(torch.from_numpy(tiles).movedim(3, 1))
    _, code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, PAGE.name, "exec"), names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the older
        names["to_onnx"](net, 1, str(tmp_path / "net.onnx"))
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    bundle = import_model(tmp_path / "net.onnx", tmp_path / "spec.json", tmp_path / "x")
    (model,) = load_models(bundle, Engine("onnx"))
    np.testing.assert_allclose(model(tiles), logits.softmax(1).movedim(1, 3), atol=1e-5)
