"""Run the predictor of nnU-Net, 2D configuration, on one case, from file to file.

    python nnunet_peer.py FOLDER IMAGE OUT

nnU-Net does everything as its command line does: reading, resampling,
normalisation, sliding window, resampling of the logits, writing, with the
processes that it starts by default. Only the network is replaced, by the network
that the other contestants run, with its weights, without the final softmax.
Mirroring is off, because the other contestants do not mirror.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from workload import HIGH, LOW, Workload

# nnU-Net needs these variables when it is imported, although prediction uses no such folder.
for _name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(_name, os.devnull)


def plans(workload: Workload) -> dict[str, Any]:
    """Return plans for one 2D configuration, as the planner of nnU-Net writes them."""
    shape = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    spacing = [workload.spacing_mm or 1.0] * 2
    channel = {
        "max": HIGH,
        "mean": LOW,
        "median": LOW,
        "min": LOW,
        "percentile_00_5": LOW,
        "percentile_99_5": HIGH,
        "std": HIGH - LOW,
    }
    return {
        "dataset_name": "Dataset001_Bench",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, *spacing],
        "original_median_shape_after_transp": [300, 512, 512],
        "image_reader_writer": "SimpleITKIO",
        # Rows and columns of a plane along x and y, as the other contestants see them.
        "transpose_forward": [0, 2, 1],
        "transpose_backward": [0, 2, 1],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": channel},
        "configurations": {
            "2d": {
                "data_identifier": "nnUNetPlans_2d",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 12,
                "patch_size": [workload.tile] * 2,
                "median_image_size_in_voxels": [512.0, 512.0],
                "spacing": spacing,
                # Clips to the percentiles, then (x - mean) / std: LOW becomes 0, HIGH 1.
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {**shape, "order": 3},
                "resampling_fn_seg_kwargs": {**shape, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {**shape, "order": 1},
                "batch_dice": True,
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet."
                    "PlainConvUNet",
                    "arch_kwargs": {"strides": [[1, 1]] + [[2, 2]] * workload.depth},
                    "_kw_requires_import": [],
                },
            }
        },
    }


def dataset(workload: Workload) -> dict[str, Any]:
    """Return the content of dataset.json."""
    labels = {"background": 0, **{f"label {n}": n for n in range(1, workload.classes)}}
    return {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }


def main() -> None:
    """Predict one case."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    from unet_torch import load_unet

    folder, image, out = map(Path, sys.argv[1:4])
    workload = Workload(**json.loads((folder / "workload.json").read_text()))
    network = load_unet(folder, workload.filters, workload.depth, workload.classes, softmax=False)
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        allow_tqdm=False,
    )
    manager = PlansManager(plans(workload))
    predictor.manual_initialization(
        network,
        manager,
        manager.get_configuration("2d"),
        [network.state_dict()],
        dataset(workload),
        "nnUNetTrainer",
        None,
    )
    predictor.predict_from_files([[str(image)]], [str(out)])


if __name__ == "__main__":
    main()
