"""A bundle is verified before anything of it is built: bytes, archive, layers, spec."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bundles import write_bundle
from phantoms import ball, make_spec

from voxtile.engines import Engine, load_models
from voxtile.errors import CaseError, ModelError
from voxtile.inference.infer import infer
from voxtile.inference.segmenter import segment
from voxtile.models.bundle import bundle_name, check_keras_archive, load_bundle
from voxtile.models.spec import Label, ModelSpec, Network
from voxtile.models.spec_file import read_spec
from voxtile.preparation.plan import make_plan
from voxtile.reading.scan import ReadPolicy

KERAS = Engine("keras")


def repack(content: bytes, **members: bytes) -> bytes:
    """The archive with members replaced or added (dots written as two underscores)."""
    out = io.BytesIO()
    replaced = {name.replace("__", "."): data for name, data in members.items()}
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as target:
        for item in source.infolist():
            if item.filename not in replaced:
                target.writestr(item.filename, source.read(item.filename))
        for name, data in replaced.items():
            target.writestr(name, data)
    return out.getvalue()


def config_of(content: bytes) -> dict:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return json.loads(archive.read("config.json"))


def test_a_sound_bundle_segments_a_volume(tmp_path: Path, network: bytes) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", network))
    image, _ = ball()
    mask = segment(image, bundle)
    assert mask.array.dtype == np.uint8
    np.testing.assert_array_equal(mask.affine, image.affine)


def test_paths_are_segmented_as_the_volumes_that_they_hold(tmp_path: Path, network: bytes) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", network))
    image, _ = ball()
    several = np.stack([image.array.astype(np.float32)] * 2, axis=-1)
    nibabel.Nifti1Image(several, image.affine).to_filename(tmp_path / "a.nii")
    expected = segment(image, bundle).array
    for paths in (str(tmp_path / "a.nii"), tmp_path / "a.nii", [tmp_path / "a.nii"]):
        mask = segment(paths, bundle, ReadPolicy(volume=0))
        np.testing.assert_array_equal(mask.array, expected)
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
    with pytest.raises(CaseError, match="holds 2 volumes"):
        segment(tmp_path / "a.nii", bundle)
    with pytest.raises(CaseError, match=r"needs 1 channel \(image\), but 2 paths came"):
        segment([tmp_path / "a.nii"] * 2, bundle)


def test_the_batch_changes_probabilities_by_at_most_1e_5(tmp_path: Path, network: bytes) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", network))
    tiles = np.random.default_rng(0).random((6, 16, 16, 3), np.float32)
    (model,) = load_models(bundle, KERAS)
    whole = model(tiles)
    one_by_one = np.concatenate([model(tile[np.newaxis]) for tile in tiles])
    np.testing.assert_allclose(one_by_one, whole, atol=1e-5)


def test_a_model_takes_tiles_of_any_size_that_its_network_does(
    tmp_path: Path, network: bytes
) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", network))
    (model,) = load_models(bundle, KERAS)
    for shape in ((1, 16, 16), (3, 16, 16), (2, 32, 48), (1, 16, 16)):
        assert model(np.zeros((*shape, 3), np.float32)).shape == (*shape, 2)


def test_bytes_that_changed_are_refused(tmp_path: Path, network: bytes) -> None:
    folder = write_bundle(tmp_path / "b", network)
    altered = bytearray(network)
    altered[len(altered) // 2] ^= 1
    (folder / "n.keras").write_bytes(altered)
    with pytest.raises(ModelError, match="was altered or is incomplete"):
        load_bundle(folder)
    (folder / "n.keras").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_bundle(folder)


class Harmful:
    """Leaves a trace if it is ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_archives_that_could_run_code_are_refused_without_side_effect(
    tmp_path: Path, network: bytes
) -> None:
    trace = tmp_path / "trace"
    lambda_layer = {"module": "keras.layers", "class_name": "Lambda", "config": {}}
    function = {"module": "os", "class_name": "function", "config": "system"}
    custom = {
        "module": "keras.layers",
        "class_name": "Conv2D",
        "registered_name": "evil>Conv2D",
        "config": {},
    }
    for part in (lambda_layer, function, custom):
        config = config_of(network)
        config["config"]["layers"].append(part)
        with pytest.raises(ModelError, match="not one of the allowed stock layers"):
            check_keras_archive(repack(network, config__json=json.dumps(config).encode()), "x")
    nested = config_of(network)
    nested["config"]["layers"][1]["config"]["activation"] = function
    with pytest.raises(ModelError, match="not one of the allowed stock layers"):
        check_keras_archive(repack(network, config__json=json.dumps(nested).encode()), "x")
    for content, message in (
        (pickle.dumps(Harmful(trace)), "not a valid Keras 3 archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "not a valid Keras 3 archive"),
        (repack(network, **{"../evil__py": b"x"}), "no network file needs"),
        (network[: len(network) // 2], "not a valid Keras"),
        (repack(network, config__json=b"["), "not a valid Keras"),
    ):
        with pytest.raises(ModelError, match=message):
            check_keras_archive(content, "x")
    assert not trace.exists()


def test_absurd_sizes_are_refused_before_anything_is_built(network: bytes) -> None:
    config = config_of(network)
    for layer in config["config"]["layers"]:
        if "filters" in layer["config"]:
            layer["config"]["filters"] = 10**6
    with pytest.raises(ModelError, match="parameters; at most 2e\\+09"):
        check_keras_archive(repack(network, config__json=json.dumps(config).encode()), "x")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(50_000_000))
    with pytest.raises(ModelError, match="decompresses to more than four times"):
        check_keras_archive(out.getvalue(), "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_slices": 1}, "takes 3 channels, but the spec says 1 x 1"),
        (
            {
                "labels": (
                    Label(value=1, name="a", color="#000000"),
                    Label(value=2, name="b", color="#000000"),
                )
            },
            "gives 2 classes, but the spec has 2 labels",
        ),
    ],
)
def test_a_network_must_fit_its_spec(tmp_path: Path, network: bytes, changes, message) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", network, **changes))
    with pytest.raises(ModelError, match=message):
        load_models(bundle, KERAS)


def test_no_such_model_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a folder nor a shipped bundle; shipped:"):
        load_bundle("liverr")
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(ModelError, match=r"not a valid spec: name is missing; .*labels is missing"):
        load_bundle(tmp_path)


def test_a_spec_survives_json(tmp_path: Path) -> None:
    spec = make_spec(intensity={"method": "window", "center": 40, "width": 400})
    (tmp_path / "spec.json").write_text(spec.dump())
    assert read_spec(tmp_path / "spec.json") == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiles": (8, 8)}, "tiles"),
        ({"context_slices": 4}, "must be odd"),
        ({"multiple": 5}, "multiple of 5"),
        ({"thresholds": (0.5,)}, "are for sigmoid outputs"),
        ({"format": "other"}, "format"),
        ({"overlap": 1.0}, "overlap"),
        (
            {"activation": "sigmoid", "thresholds": (0.5, 0.5)},
            "as many thresholds as labels, not 2 for 1 label",
        ),
        ({"labels": (Label(value=1, name="a", color="#000000"),) * 2}, "label value 1 appears"),
        (
            {
                "activation": "sigmoid",
                "labels": (Label(value=1, name="a", color="#000000", region=(2, 3)),),
            },
            r"region \[2, 3\] of label 1 \(a\) must include its own value",
        ),
        (
            {
                "activation": "sigmoid",
                "labels": (
                    Label(value=1, name="a", color="#000000", region=(1, 2)),
                    Label(value=2, name="b", color="#000000", region=(2, 3)),
                ),
            },
            r"value 3 of the region of b belongs to other labels .* add a label for this value",
        ),
        (
            {
                "labels": (
                    Label(value=1, name="a", color="#000000", region=(1, 2)),
                    Label(value=2, name="b", color="#000000"),
                ),
            },
            "regions may overlap, so they need sigmoid outputs",
        ),
        ({"ignore": 1}, "label 1 .* has the value 1, which is ignored"),
        ({"unlabelled": (1,)}, "label 1 .* has the value 1, which counts as background"),
    ],
)
def test_an_inconsistent_spec_is_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_spec(**changes)


def test_several_networks_are_averaged_by_weight() -> None:
    networks = tuple(
        Network(file=f"{name}.keras", sha256="0" * 64, views=("axial",), weight=weight)
        for name, weight in (("a", 3), ("b", 1))
    )
    spec: ModelSpec = make_spec(networks=networks)

    def always(label: int):
        return lambda tiles: np.broadcast_to(
            np.eye(2, dtype=np.float32)[label], (*tiles.shape[:3], 2)
        )

    image, _ = ball()
    assert infer(image, spec, [always(1), always(0)], make_plan(spec)).array.all()
    assert not infer(image, spec, [always(0), always(1)], make_plan(spec)).array.any()


@pytest.mark.parametrize(
    ("folder", "instead"),
    [
        ("models/liver cv", "liver-cv"),
        ("-liver", "liver"),
        ("Größe,2", "Gr-e-2"),
        ("肝", "model"),
        ("liver\n", "liver"),
        ("a" * 101, "a" * 100),
    ],
)
def test_a_folder_name_that_no_bundle_can_have_is_refused_with_one_that_it_can(
    folder: str, instead: str
) -> None:
    with pytest.raises(ValueError, match=f"rename the folder, for example to '{instead}'"):
        bundle_name(Path(folder))
    assert bundle_name(Path(instead)) == instead


def test_a_folder_given_as_a_dot_has_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "liver").mkdir()
    monkeypatch.chdir(tmp_path / "liver")
    assert bundle_name(Path()) == "liver"
