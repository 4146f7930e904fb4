"""What nnU-Net does with a scan, expressed as a spec; anything else is refused."""

from pathlib import Path

import pytest
from nnunet_folders import DATASET, PLANS, write_results

from voxtile.errors import ModelError, VoxtileError
from voxtile.importing.plans import fold_folders, read_trained, well_formed
from voxtile.models.spec import Fixed, Foreground, Network, ZScore

NETWORK = Network(file="fold_0.keras", sha256="0" * 64)


def changed(configuration=None, **changes) -> dict:
    """Plans with other entries."""
    own = {**PLANS["configurations"]["2d"], **(configuration or {})}
    return {**PLANS, "configurations": {"2d": own}, **changes}


def spec_of(folder: Path, plans=None, dataset=None, mirroring=(0, 1), orientation=None):
    trained = read_trained(write_results(folder, plans, dataset))
    return trained.spec("ball", [NETWORK], mirroring, orientation)


def test_the_stages_of_nnunet_are_in_the_spec(tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "r")
    assert (spec.crop, spec.resampling, spec.padding, spec.average) == (
        *("nonzero", "spline", "zero", "logits"),
    )
    assert (spec.weighting, spec.overlap, spec.orientation) == ("gaussian_nnunet", 0.5, "stored")
    assert spec.intensity == Fixed(mean=50, sd=20, low=-5, high=120)
    assert (spec.activation, spec.channels) == ("softmax", ("image",))
    assert [(label.value, label.name) for label in spec.labels] == [(1, "ball")]
    assert spec.networks[0].output == "logits"


@pytest.mark.parametrize(
    ("order", "view", "tile", "spacing", "flip"),
    [
        # nnU-Net's rows of planes along k are along j; voxtile's are along i.
        ([0, 1, 2], "axial", (24, 16), (1.2, 1.5, 2.5), "A"),
        ([0, 2, 1], "axial", (16, 24), (1.5, 1.2, 2.5), "R"),
        ([1, 0, 2], "coronal", (24, 16), (1.2, 2.5, 1.5), "S"),
        ([2, 0, 1], "sagittal", (24, 16), (2.5, 1.2, 1.5), "S"),
    ],
)
def test_planes_lie_along_the_axis_that_is_moved_to_the_front(
    tmp_path: Path, order, view, tile, spacing, flip
) -> None:
    plans = {**PLANS, "transpose_forward": order}
    spec = spec_of(tmp_path / "r", plans, mirroring=(0,))
    assert (spec.views, spec.tile, spec.spacing_mm) == ((view,), tile, spacing)
    assert spec.flips == (flip,)


def test_an_orientation_is_that_of_the_training_scans(tmp_path: Path) -> None:
    assert spec_of(tmp_path / "a", orientation="LPS").orientation == "LPS"
    turning = {**PLANS, "image_reader_writer": "NibabelIOWithReorient"}
    assert spec_of(tmp_path / "b", turning).orientation == "RAS"


def test_each_channel_has_its_own_scheme(tmp_path: Path) -> None:
    own = {
        "normalization_schemes": ["ZScoreNormalization"] * 2,
        "use_mask_for_norm": [True, False],
    }
    dataset = {**DATASET, "channel_names": {"0": "T1", "1": "T2"}}
    spec = spec_of(tmp_path / "r", changed(own), dataset)
    assert spec.channel_intensity == (Foreground(), ZScore())
    assert len(spec.channels) == 2


def test_regions_are_written_in_their_order_and_the_ignore_label_is_not(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    dataset = {**DATASET, "labels": labels, "regions_class_order": [1, 2]}
    spec = spec_of(tmp_path / "r", dataset=dataset)
    assert spec.activation == "sigmoid"
    found = [(label.value, label.name, label.values) for label in spec.labels]
    assert found == [(1, "whole", (1, 2)), (2, "core", (2,))]


def test_plans_of_earlier_versions_and_inherited_configurations_are_understood(
    tmp_path: Path,
) -> None:
    own = dict(PLANS["configurations"]["2d"])
    del own["architecture"]
    own |= {"UNet_class_name": "PlainConvUNet", "pool_op_kernel_sizes": [[1, 1], [2, 2]]}
    plans = {**PLANS, "configurations": {"base": own, "2d": {"inherits_from": "base"}}}
    trained = read_trained(write_results(tmp_path / "r", plans))
    assert trained.architecture().strides == ((1, 1), (2, 2))
    assert trained.spec("ball", [NETWORK], ()).flips == ()


def network(**changes) -> dict:
    """A configuration with another architecture."""
    known = PLANS["configurations"]["2d"]["architecture"]
    options = {**known["arch_kwargs"], **changes}
    return {"architecture": {**known, "arch_kwargs": options}}


@pytest.mark.parametrize(
    ("plans", "dataset", "words"),
    [
        (changed({"preprocessor_name": "Mine"}), DATASET, "preprocessor_name 'Mine'"),
        (changed({"normalization_schemes": ["Mine"]}), DATASET, "normalization scheme 'Mine'"),
        (changed({"resampling_fn_data": "mine"}), DATASET, "resampling_fn_data 'mine'"),
        (changed({"resampling_fn_data_kwargs": {"order": 1}}), DATASET, "order 3 was needed"),
        (changed(image_reader_writer="NaturalImage2DIO"), DATASET, "image_reader_writer"),
        (changed(network(block="BottleneckD")), DATASET, "a network with block"),
        (changed(network(norm_op="BatchNorm2d")), DATASET, "norm_op BatchNorm2d"),
        (changed(), {**DATASET, "labels": {"background": 0, "a": 2}}, "consecutive labels"),
        (changed(), {"channel_names": {"0": "CT"}}, "no entry labels"),
    ],
)
def test_what_would_give_other_masks_is_refused(tmp_path: Path, plans, dataset, words) -> None:
    trained = read_trained(write_results(tmp_path / "r", plans, dataset))
    with pytest.raises(ModelError, match=words):
        trained.architecture()
        trained.spec("ball", [NETWORK], ())


@pytest.mark.parametrize("value", [None, "x", [], {}, -1, [[]], {"0": {}}])
def test_entries_of_another_kind_are_refused_as_such(tmp_path: Path, value) -> None:
    own = PLANS["configurations"]["2d"]
    documents = [
        *(({**PLANS, key: value}, DATASET) for key in PLANS),
        *((changed({key: value}), DATASET) for key in own),
        *((PLANS, {**DATASET, key: value}) for key in DATASET),
        *((changed(network(**{key: value})), DATASET) for key in ("strides", "norm_op_kwargs")),
    ]
    refused = 0
    for number, (plans, dataset) in enumerate(documents):
        folder = write_results(tmp_path / f"{number}", plans, dataset)
        try:
            with well_formed(folder):
                trained = read_trained(folder)
                trained.architecture()
                trained.spec("ball", [NETWORK], (0, 1))
        except VoxtileError:
            refused += 1
    assert refused > len(documents) / 2  # any other exception fails the test


def test_the_only_2d_configuration_of_a_data_set_is_found(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 0 trained 2D configurations \(none\)"):
        read_trained(tmp_path)
    write_results(tmp_path / "nnUNetTrainer__nnUNetPlans__2d")
    write_results(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    assert read_trained(tmp_path).folder.name == "nnUNetTrainer__nnUNetPlans__2d"
    write_results(tmp_path / "nnUNetTrainerDA5__nnUNetPlans__2d")
    with pytest.raises(ModelError, match="has 2 trained 2D configurations"):
        read_trained(tmp_path)


def test_folds_are_all_but_the_one_of_all_cases(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "r", folds=("0", "3", "all"))
    assert [path.name for path in fold_folders(folder, None)] == ["fold_0", "fold_3"]
    assert [path.name for path in fold_folders(folder, ["all"])] == ["fold_all"]
    with pytest.raises(ModelError, match="has no fold 7; its folds are 0, 3, all"):
        fold_folders(folder, ["7"])
