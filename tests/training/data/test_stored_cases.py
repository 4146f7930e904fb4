"""What training keeps of its cases: exactly the planes that a run would show the network."""

from functools import partial
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest

from voxtile.case import Case
from voxtile.errors import ManifestError
from voxtile.models.spec import View, ZScore
from voxtile.phantoms.ellipsoids import Ellipsoid, centred_affine, draw
from voxtile.preparation.intensity import measure
from voxtile.preparation.planes import in_plane, to_planes
from voxtile.preparation.prepared import prepare_planes
from voxtile.preparation.resampling import resamplers
from voxtile.reading.scan import ReadPolicy
from voxtile.scoring.overlap import plain_labels
from voxtile.training.data.plane_stacks import store_planes
from voxtile.training.data.stored_cases import StoredCase, describe_cases, notice_lines, store_cases
from voxtile.training.recipe.recipe import Recipe
from voxtile.volume import Axes, Volume, canonical, reorient
from voxtile.writing.nifti import write_mask

SHAPE, SPACING_MM = (14, 12, 9), (1.0, 1.4, 2.3)
VIEWS: tuple[View, ...] = ("axial", "coronal", "sagittal")
ORIENTATIONS = [
    "".join(pair[flip] for pair, flip in zip(order, flips, strict=True))
    for order in permutations(("RL", "AP", "SI"))
    for flips in product((0, 1), repeat=3)
]


def store(folder: Path, axes: str = "RAS", name: str = "c") -> tuple[StoredCase, Volume, Volume]:
    """A stored phantom, with its image and truth."""
    affine = centred_affine(SHAPE, SPACING_MM, axes=axes)
    solids = [Ellipsoid((1, 0, 0), (5, 6, 7), 900, label=1), Ellipsoid((1, 0, 0), (2, 3, 3), 40, 3)]
    image, truth = draw(SHAPE, affine, solids, noise=30)
    image = image.with_array((image.array + 500).astype(np.uint16))
    write_mask(folder / f"{name}.nii", image)
    write_mask(folder / f"{name}_label.nii", truth)
    case = Case(name, (("image", folder / f"{name}.nii"),), folder / f"{name}_label.nii", line=2)
    stored = store_cases([case], folder, labels=(), manifest=Path("m.csv"))
    return stored[0], image, truth


@pytest.mark.parametrize("axes", ORIENTATIONS[::5])
def test_a_stored_case_has_the_voxels_of_its_files(tmp_path: Path, axes: str) -> None:
    stored, image, truth = store(tmp_path, axes)
    np.testing.assert_array_equal(stored.volume.array, image.array)
    np.testing.assert_allclose(stored.volume.affine, image.affine, atol=1e-5)
    np.testing.assert_array_equal(stored.reference.array, truth.array)
    assert stored.facts.shape == canonical(image).shape
    assert stored.facts.values == (1, 3)


def test_a_scan_in_place_of_a_reference_is_refused_at_once(tmp_path: Path) -> None:
    affine = centred_affine(SHAPE, SPACING_MM)
    many = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    write_mask(tmp_path / "c.nii", Volume(many, affine))
    case = Case("c", (("image", tmp_path / "c.nii"),), tmp_path / "c.nii", line=2)
    with pytest.raises(
        ManifestError, match=r"reference has 1512 values, but .* at most 1000 labels"
    ):
        store_cases([case], tmp_path, labels=(), manifest=Path("m.csv"))


@pytest.mark.parametrize("spacing_mm", [None, (1.3, 1.3, 1.3), (0.8, 2.0, 3.0)])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "SLA"])
def test_training_planes_are_those_of_a_run(
    tmp_path: Path, axes: str, spacing_mm: tuple[float, float, float] | None
) -> None:
    stored, image, truth = store(tmp_path, axes)
    recipe = Recipe(views=VIEWS, spacing_mm=spacing_mm, intensity=ZScore(clip=(1, 99)))
    ras, reference = canonical(image), canonical(truth)
    scaling = measure(ras.array, recipe.scaling)
    for view, stack in zip(VIEWS, store_planes(stored, recipe, tmp_path), strict=True):
        planes = to_planes(ras.array, view)[..., np.newaxis]
        there = None
        if spacing_mm is not None:
            old, new = in_plane(view, ras.spacing_mm), in_plane(view, spacing_mm)
            there, _ = resamplers((planes.shape[1], planes.shape[2]), old, new)
        shown = np.stack(list(prepare_planes(planes, [scaling], there, 1)))
        kept, label = stack.open()
        np.testing.assert_allclose(kept, shown, atol=1e-5)
        assert stack.shape == label.shape == shown.shape[:3]
        assert set(np.unique(label)) <= {0, 1, 3}
        for value, indices in stack.label_planes:
            has = (label == value).any(axis=(1, 2))
            assert indices == tuple(np.flatnonzero(has))
        if there is None:
            np.testing.assert_array_equal(label, to_planes(reference.array, view))


def test_resampled_labels_keep_their_size_in_mm(tmp_path: Path) -> None:
    stored, _, truth = store(tmp_path)
    recipe = Recipe(views=("axial",), spacing_mm=(0.5, 0.5, 1.0), intensity=ZScore())
    (stack,) = store_planes(stored, recipe, tmp_path)
    _, label = stack.open()
    before = np.count_nonzero(truth.array == 1) * SPACING_MM[0] * SPACING_MM[1]
    assert np.count_nonzero(label == 1) * 0.25 == pytest.approx(before, rel=0.1)


def test_every_unusable_case_is_named_with_its_line(tmp_path: Path) -> None:
    store(tmp_path)
    (tmp_path / "bad.nii").write_bytes(b"no scan")
    cases = [
        Case("c", (("image", tmp_path / "c.nii"),), tmp_path / "c_label.nii", line=2),
        Case("d", (("image", tmp_path / "bad.nii"),), tmp_path / "c_label.nii", line=3),
        Case("e", (("image", tmp_path / "c.nii"),), tmp_path / "bad.nii", line=4),
    ]
    with pytest.raises(ManifestError) as caught:
        store_cases(cases, tmp_path, labels=(), manifest=Path("m.csv"))
    assert [problem[:20] for problem in caught.value.problems] == [
        "m.csv line 3: case d",
        "m.csv line 4: case e",
    ]


def test_a_value_beside_the_given_labels_is_refused(tmp_path: Path) -> None:
    store(tmp_path)
    case = Case("c", (("image", tmp_path / "c.nii"),), tmp_path / "c_label.nii", line=2)
    with pytest.raises(ManifestError, match="the reference has values 3") as caught:
        store_cases([case], tmp_path, labels=plain_labels({1: "a"}), manifest=Path("m.csv"))
    # A run has an option to rename values, a training has none.
    assert caught.value.problems[0].endswith(
        "the model has only 0, 1; change the values in the file"
    )


def test_each_kind_of_warning_is_shown_once_for_all_cases(tmp_path: Path) -> None:
    cases = []
    for name in "abc":
        *_, truth = store(tmp_path, name=name)
        if name != "a":
            write_mask(
                tmp_path / f"{name}_label.nii", reorient(truth, Axes((0, 1, 2), (True,) * 3))
            )
        paths = tmp_path / f"{name}.nii", tmp_path / f"{name}_label.nii"
        cases.append(Case(name, (("image", paths[0]),), paths[1], line=2))
    for _ in range(2):  # the second time from what was kept
        stored = store_cases(cases, tmp_path / "work", labels=(), manifest=Path("m.csv"))
        (line,) = notice_lines(stored)
        assert line.startswith(
            "label_reoriented: 2 of 3 cases; in b the reference is stored as LPI"
        )


def test_complete_arrays_are_used_again_and_changed_ones_are_made_again(tmp_path: Path) -> None:
    recipe = Recipe(views=("axial", "coronal"), intensity=ZScore())
    stored, _, _ = store(tmp_path)
    stacks = store_planes(stored, recipe, tmp_path)
    arrays = [stored.image, stored.label, *(stack.image for stack in stacks)]
    times = [path.stat().st_mtime_ns for path in arrays]

    again, _, _ = store(tmp_path)
    assert again == stored
    assert store_planes(again, recipe, tmp_path) == stacks
    assert [path.stat().st_mtime_ns for path in arrays] == times

    (tmp_path / "planes/c_axial.json").write_text('{"torn')
    assert store_planes(again, recipe, tmp_path) == stacks
    assert stacks[0].image.stat().st_mtime_ns > times[2]

    write_mask(tmp_path / "c_label.nii", again.reference.with_array(again.reference.array % 2))
    case = Case("c", (("image", tmp_path / "c.nii"),), tmp_path / "c_label.nii", line=2)
    (changed,) = store_cases([case], tmp_path, labels=(), manifest=Path("m.csv"))
    assert changed.made_from != stored.made_from
    assert stored.label.stat().st_mtime_ns > times[1]


def test_a_reference_that_is_ignored_completely_is_refused(tmp_path: Path) -> None:
    affine = centred_affine(SHAPE, SPACING_MM)
    write_mask(tmp_path / "i.nii", Volume(np.ones(SHAPE, np.uint8), affine))
    write_mask(tmp_path / "l.nii", Volume(np.full(SHAPE, 255, np.uint8), affine))
    case = Case("c", (("image", tmp_path / "i.nii"),), tmp_path / "l.nii", line=2)
    for labels in ((), plain_labels({1: "a"})):
        with pytest.raises(
            ManifestError, match=r"line 2: case c: every voxel .* ignored value 255"
        ):
            store_cases([case], tmp_path, labels=labels, ignore=255, manifest=Path("m.csv"))


def test_a_scan_is_read_as_the_policy_says(tmp_path: Path) -> None:
    affine = centred_affine(SHAPE, SPACING_MM)
    image = np.ones(SHAPE, np.float32)
    image[0, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / "i.nii")
    write_mask(tmp_path / "l.nii", Volume(np.ones(SHAPE, np.uint8), affine))
    case = Case("c", (("image", tmp_path / "i.nii"),), tmp_path / "l.nii", line=2)
    common = {"labels": (), "manifest": Path("m.csv")}
    for do in (describe_cases, partial(store_cases, folder=tmp_path / "work")):
        with pytest.raises(ManifestError, match=r"line 2: case c: .*--nan fill"):
            do([case], **common)  # type: ignore[operator]
    (facts,) = describe_cases([case], policy=ReadPolicy(nan="fill"), **common)  # type: ignore[arg-type]
    assert (facts.channels[0].least, facts.channels[0].most) == (1, 1)
    (stored,) = store_cases([case], tmp_path, policy=ReadPolicy(nan="fill"), **common)  # type: ignore[arg-type]
    assert np.isfinite(stored.volume.array).all()
    assert stored.notices
