"""Results folders of nnU-Net with small networks, and their output computed with NumPy."""

import json
from pathlib import Path

import numpy as np
from scipy.signal import correlate2d

PLANS = {
    "dataset_name": "Dataset001_Ball",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "original_median_spacing_after_transp": [2.5, 1.5, 1.2],
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 50.0, "std": 20.0, "percentile_00_5": -5.0, "percentile_99_5": 120.0}
    },
    "configurations": {
        "2d": {
            "preprocessor_name": "DefaultPreprocessor",
            "patch_size": [16, 24],
            "spacing": [1.5, 1.2],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": {"is_seg": False, "order": 3},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1},
            "architecture": {
                "network_class_name": "a.b.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": 3,
                    "strides": [[1, 1], [2, 2], [1, 2]],
                    "conv_op": "torch.nn.modules.conv.Conv2d",
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
                    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
            },
        },
        "3d_fullres": {"patch_size": [8, 8, 8]},
    },
}
DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "ball": 1}}
STRIDES = ((1, 1), (2, 2), (1, 2))
FILTERS = (3, 4, 5)


def write_results(folder: Path, plans=None, dataset=None, folds=("0",)) -> Path:
    """A results folder whose checkpoints are empty files."""
    for fold in folds:
        (folder / f"fold_{fold}").mkdir(parents=True)
        (folder / f"fold_{fold}/checkpoint_final.pth").write_bytes(b"")
    (folder / "plans.json").write_text(json.dumps(PLANS if plans is None else plans))
    (folder / "dataset.json").write_text(json.dumps(DATASET if dataset is None else dataset))
    return folder


def arrays(residual: bool, channels: int = 1, classes: int = 2, seed: int = 0) -> dict:
    """The state dict of a network with three stages, with PyTorch's names and axes."""
    rng = np.random.default_rng(seed)
    found = {}

    def layer(name, *shape, bias=True):
        size = np.prod(shape[1:])
        found[f"{name}.weight"] = rng.normal(0, np.sqrt(2 / size), shape).astype(np.float32)
        if bias:
            width = shape[1] if "transpconvs" in name else shape[0]
            found[f"{name}.bias"] = rng.normal(0, 0.3, width).astype(np.float32)

    def block(name, before, width, size=3, bias=True):
        layer(f"{name}.conv", width, before, size, size, bias=bias)
        found[f"{name}.all_modules.0.weight"] = found[f"{name}.conv.weight"]
        found[f"{name}.norm.weight"] = rng.uniform(0.5, 1.5, width).astype(np.float32)
        found[f"{name}.norm.bias"] = rng.normal(0, 0.3, width).astype(np.float32)

    before = channels
    if residual:
        block("encoder.stem.convs.0", channels, FILTERS[0])
        before = FILTERS[0]
    for stage, width in enumerate(FILTERS):
        for part in range(2):
            if residual:
                name = f"encoder.stages.{stage}.blocks.{part}"
                block(f"{name}.conv1", before, width)
                block(f"{name}.conv2", width, width)
                if before != width:
                    block(f"{name}.skip.1", before, width, size=1, bias=False)
            else:
                block(f"encoder.stages.{stage}.0.convs.{part}", before, width)
            before = width
    for stage, (below, width) in enumerate(((5, 4), (4, 3))):
        layer(f"decoder.transpconvs.{stage}", below, width, *STRIDES[-1 - stage])
        block(f"decoder.stages.{stage}.convs.0", 2 * width, width)
        layer(f"decoder.seg_layers.{stage}", classes, width, 1, 1)
    return found


def output(state: dict, tile: np.ndarray, residual: bool) -> np.ndarray:
    """The logits of a tile (channels, rows, columns), computed as PyTorch documents its layers."""

    def conv(x, name, stride=(1, 1)):
        kernel = state[f"{name}.weight"].astype(float)
        bias = state.get(f"{name}.bias", np.zeros(len(kernel)))
        padded = np.pad(x, [(0, 0), *[((size - 1) // 2,) * 2 for size in kernel.shape[2:]]])
        planes = [
            sum(correlate2d(one, part, "valid") for one, part in zip(padded, parts, strict=True))
            for parts in kernel
        ]
        return (np.stack(planes) + bias[:, None, None])[:, :: stride[0], :: stride[1]]

    def leaky(x):
        return np.where(x > 0, x, 0.01 * x)

    def block(x, name, stride=(1, 1)):
        x = conv(x, f"{name}.conv", stride)
        mean, var = x.mean(axis=(1, 2), keepdims=True), x.var(axis=(1, 2), keepdims=True)
        weight, bias = (state[f"{name}.norm.{part}"][:, None, None] for part in ("weight", "bias"))
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    def pooled(x, stride):
        rows, columns = stride
        return x.reshape(len(x), x.shape[1] // rows, rows, -1, columns).mean(axis=(2, 4))

    def upsampled(x, name):
        kernel = state[f"{name}.weight"].astype(float)
        found = np.einsum("iyx,ioab->oyaxb", x, kernel)
        found = found.reshape(kernel.shape[1], x.shape[1] * kernel.shape[2], -1)
        return found + state[f"{name}.bias"][:, None, None]

    x, skips = tile.astype(float), []
    if residual:
        x = leaky(block(x, "encoder.stem.convs.0"))
    for stage, stride in enumerate(STRIDES):
        for part in range(2):
            step = stride if part == 0 else (1, 1)
            if not residual:
                x = leaky(block(x, f"encoder.stages.{stage}.0.convs.{part}", step))
                continue
            name, skip = f"encoder.stages.{stage}.blocks.{part}", pooled(x, step)
            if f"{name}.skip.1.conv.weight" in state:
                skip = block(skip, f"{name}.skip.1")
            x = leaky(block(leaky(block(x, f"{name}.conv1", step)), f"{name}.conv2") + skip)
        skips.append(x)
    for stage, skip in enumerate(skips[-2::-1]):
        x = np.concatenate([upsampled(x, f"decoder.transpconvs.{stage}"), skip])
        x = leaky(block(x, f"decoder.stages.{stage}.convs.0"))
    return conv(x, "decoder.seg_layers.1")
