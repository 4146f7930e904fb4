"""Folders as people have them: labels find their scans, and no label is taken for a scan."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import ball

from voxtile.errors import ManifestError
from voxtile.manifest.nifti_folder import read_nifti_folder
from voxtile.reading.formats import SUFFIXES
from voxtile.writing.nifti import write_mask


def found(folder: Path, *names: str, **options):
    """(case, channel files, label, split) of each case, and the notices."""
    for name in names:
        path = folder / (name if "." in Path(name).name else f"{name}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def short(path: Path | None) -> str | None:
        if path is None:
            return None
        name = path.relative_to(folder).as_posix()
        return name.removesuffix(".nii.gz")

    given = read_nifti_folder(folder, **options)
    rows = [
        (
            case.case_id,
            {channel: short(path) for channel, path in case.images},
            short(case.label),
            case.split,
        )
        for case in given.cases
    ]
    return rows, "\n".join(given.notices)


IMAGES = ["images", "image", "Imgs", "scans", "VOLUMES"]
LABELS = [
    *("labels", "label", "Masks", "mask", "segmentations", "Segmentation", "annotations", "seg"),
    *("ground_truth", "GT", "label_maps"),
]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("images", IMAGES)
def test_folders_of_images_and_labels_are_paired(tmp_path: Path, images, labels) -> None:
    names = [f"{folder}/{name}" for folder in (images, labels) for name in "ab"]
    rows, notices = found(tmp_path, *names)
    assert rows == [
        (name, {"image": f"{images}/{name}"}, f"{labels}/{name}", None) for name in "ab"
    ]
    assert f"taken for labels, because of the names: {labels}/" in notices
    assert "labels paired: 2 by name" in notices


@pytest.mark.parametrize(
    ("scan", "label"),
    [
        ("{0}", "{0}_seg"),
        ("{0}", "{0}-label"),
        ("{0}", "{0}.seg.nii"),
        ("{0}", "{0}_brainmask"),
        ("{0}", "{0}_GT"),
        ("{0}_image", "{0}_mask"),
        ("{0}_ct", "{0}_seg"),
        ("{0}_ct", "{0}_ct_seg"),
        ("volume-{0}", "segmentation-{0}"),
        ("img{0}", "label{0}"),
        ("img/img{0}", "label/label{0}"),
        ("{0}/image", "{0}/label"),
        ("{0}/scan", "{0}/mask"),
        ("{0}/imaging", "{0}/segmentation"),
        ("{0}/ct", "{0}/seg"),
        ("{0}/{0}", "{0}/mask"),
        ("{0}/{0}", "{0}/{0}_seg"),
        ("{0}/x{0}y", "{0}/mask"),
        ("{0}/ct", "{0}/segmentations/liver"),
        ("images/{0}", "labels/{0}_seg"),
        ("images/{0}/ct", "labels/{0}"),
        ("images/{0}/scan", "labels/{0}/mask"),
        ("images/{0}_0000", "labels/{0}"),
        ("ct/{0}", "labels/{0}"),
        ("site/images/{0}", "site/labels/{0}"),
    ],
)
def test_a_label_is_found_by_the_usual_names(tmp_path: Path, scan, label) -> None:
    numbers = ("001", "002", "010")
    names = [form.format(number) for number in numbers for form in (scan, label)]
    rows, _ = found(tmp_path, *names)
    assert [(row[1]["image"], row[2]) for row in rows] == [
        (scan.format(number), label.format(number)) for number in numbers
    ]


@pytest.mark.parametrize(
    ("scan", "label"),
    [
        ("images/{0}/a", "labels/{0}/a"),
        ("{0}/images/a", "{0}/labels/a"),
        ("images{1}/a", "labels{1}/a"),
        ("images_{0}/a", "labels_{0}/a"),
        ("{0}_images/a", "{0}_masks/a"),
        ("{0}/a", "{0}/a_seg"),
    ],
)
def test_folders_of_splits_become_splits(tmp_path: Path, scan, label) -> None:
    parts = {"train": "Tr", "val": "Val", "test": "Ts"}
    names = [form.format(*part) for part in parts.items() for form in (scan, label)]
    rows, notices = found(tmp_path, *names)
    assert {(row[1]["image"], row[2], row[3]) for row in rows} == {
        (scan.format(*part), label.format(*part), part[0]) for part in parts.items()
    }
    assert "splits are those of the folders' names" in notices


def test_modalities_beside_each_other_are_channels(tmp_path: Path) -> None:
    names = [f"{p}/{name}" for p in ("p1", "p2") for name in ("t1", "T2", "flair", "seg")]
    rows, notices = found(tmp_path, *names)
    assert rows[0] == (
        "p1",
        {"T2": "p1/T2", "flair": "p1/flair", "t1": "p1/t1"},
        "p1/seg",
        None,
    )
    assert "names that end in T2, flair, t1 were read as channels of one case" in notices
    rows, _ = found(tmp_path, pattern="{case}")
    assert len(rows) == 8  # each file is a case


def test_modalities_in_names_are_channels(tmp_path: Path) -> None:
    names = [f"all/{p}_{name}" for p in ("B1", "B2") for name in ("t1ce", "flair", "seg")]
    rows, _ = found(tmp_path, *names)
    assert rows[1] == ("B2", {"flair": "all/B2_flair", "t1ce": "all/B2_t1ce"}, "all/B2_seg", None)


def test_modalities_with_labels_of_their_own_are_cases(tmp_path: Path) -> None:
    rows, _ = found(tmp_path, *(f"p1_{name}" for name in ("t1", "t1_seg", "t2", "t2_seg")))
    assert [(row[1], row[2]) for row in rows] == [
        ({"image": "p1_t1"}, "p1_t1_seg"),
        ({"image": "p1_t2"}, "p1_t2_seg"),
    ]


def test_a_case_without_all_channels_is_left_out_and_said(tmp_path: Path) -> None:
    names = [f"{p}/{name}" for p in ("p1", "p2") for name in ("t1", "flair")]
    rows, notices = found(tmp_path, *names, "p3/t1")
    assert [row[0] for row in rows] == ["p1", "p2"]
    assert "left out p3/t1: it has no flair" in notices
    rows, notices = found(tmp_path, *names, gaps=True)
    assert [row[0] for row in rows] == ["p1", "p2", "p3"]
    assert rows[2][1] == {"t1": "p3/t1"}
    assert "kept p3/t1: it has no flair" in notices
    with pytest.raises(ManifestError, match="of 6 cases, only 2 would have all channels"):
        found(tmp_path, "p4/t1", "p5/t1", "p6/t1")


def test_no_label_of_another_patient_is_taken(tmp_path: Path) -> None:
    rows, notices = found(tmp_path, "p1/scan_1", "p2/seg_1", "p3/followup", "p3/baseline_seg")
    assert [row[2] for row in rows] == [None, None]
    assert "no label for followup, scan_1" in notices
    assert "no image for label p2/seg_1, p3/baseline_seg" in notices


def test_two_labels_of_one_scan_must_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"a has 2 labels \(a_mask, a_seg\); choose with"):
        found(tmp_path, "a", "a_mask", "a_seg")
    rows, notices = found(tmp_path, pattern="{case}_seg")
    assert rows == [("a", {"image": "a"}, "a_seg", None)]
    assert "left out a_mask: by folder or name, neither scans nor labels" in notices


def test_predictions_are_neither_scans_nor_labels(tmp_path: Path) -> None:
    rows, notices = found(tmp_path, "a", "a_seg", "a_pred", "predictions/a")
    assert rows == [("a", {"image": "a"}, "a_seg", None)]
    assert "left out a_pred, predictions/a" in notices


def test_other_folders_beside_images_hold_no_scans(tmp_path: Path) -> None:
    folders = ("images", "labels", "labels_left_right", "votes", "old_masks")
    rows, notices = found(tmp_path, *(f"{folder}/a" for folder in folders))
    assert rows == [("a", {"image": "images/a"}, "labels/a", None)]
    assert "no image for label labels_left_right/a, old_masks/a" in notices
    assert "left out votes/a: by folder or name, neither scans nor labels" in notices
    rows, _ = found(tmp_path / "one", "ct/a", "manual_labels/a")
    assert rows == [("a", {"image": "ct/a"}, "manual_labels/a", None)]
    rows, notices = found(tmp_path / "one", "auto_labels/a")
    assert rows == [("a", {"image": "ct/a"}, None, None)]
    assert "no image for label auto_labels/a, manual_labels/a" in notices


def test_the_real_data_sets_have_a_label_for_each_image(data_dir: Path) -> None:
    for name in ("lidc_nodules_ct", "lumbar_vertebrae_mr", "mouse_brain_mr", "hippocampus"):
        folder = data_dir / "tasks" / name
        folder = folder if folder.is_dir() else data_dir / name
        cases = read_nifti_folder(folder).cases
        images = {path.name: path for path in (folder / "images").glob("*.nii*")}
        assert {path.name for case in cases for _, path in case.images} == set(images)
        assert all(case.label == folder / "labels" / case.images[0][1].name for case in cases)


def test_a_folder_of_labels_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ManifestError, match=r"its files have names of labels \(a_seg, b_seg\); if they"
    ):
        found(tmp_path, "a_seg", "b_seg")
    assert len(found(tmp_path, pattern="{case}")[0]) == 2
    with pytest.raises(ManifestError, match=r"its files have names of labels \(a, b\)"):
        found(tmp_path / "labelsTr", "a", "b")
    assert len(found(tmp_path / "labelsTr", pattern="{case}")[0]) == 2


def test_scans_with_one_name_in_two_folders_stay_two_cases(tmp_path: Path) -> None:
    rows, notices = found(tmp_path, "images/a", "scans/a", "labels/a")
    assert [(row[0], row[2]) for row in rows] == [("images_a", None), ("scans_a", None)]
    assert "no image for label labels/a" in notices


def test_with_a_folder_of_labels_their_words_do_not_matter(tmp_path: Path) -> None:
    names = ("i/a", "i/b", "i/b_mask", "i/c_mask", "l/a_seg", "l/b", "l/c_mask")
    found(tmp_path, *names)
    given = read_nifti_folder(tmp_path / "i", labels=tmp_path / "l")
    assert [(case.case_id, case.label and case.label.name) for case in given.cases] == [
        ("a", "a_seg.nii.gz"),
        ("b", "b.nii.gz"),
        ("c_mask", "c_mask.nii.gz"),
    ]
    assert "left out b_mask" in "\n".join(given.notices)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "images/", "labels/", "p1/", "p2/", "train/", "p1/seg/"]),
            st.sampled_from(["a", "b", "image", "t1", "a_t1", "scan1", "a_0000", "x"]),
            st.sampled_from(["", "_seg", "-label", "_mask"]),
            st.sampled_from(SUFFIXES[:2]),
        ),
        min_size=1,
        max_size=7,
        unique=True,
    )
)
def test_each_file_is_a_scan_or_a_label_once_and_no_label_is_a_scan(
    tmp_path_factory, files
) -> None:
    folder = tmp_path_factory.mktemp("any")
    names = ["".join(parts) for parts in files]
    try:
        rows, notices = found(folder, *names)
    except ManifestError:
        return
    scans = [name for row in rows for name in row[1].values()]
    labels = [row[2] for row in rows if row[2]]
    assert len(set(scans)) == len(scans)
    assert len(set(labels)) == len(labels)
    for name in scans:
        assert not any(word in name for word in ("label", "seg", "mask"))
    for name in names:
        plain, stem = name.removesuffix(".nii.gz"), name.removesuffix(".gz").removesuffix(".nii")
        said = "left out" in notices or stem in notices
        assert plain in scans or plain in labels or said


def test_labels_of_pictures_are_said(tmp_path: Path) -> None:
    from voxtile.manifest.build import Outputs, build_manifest

    _, truth = ball()
    (tmp_path / "d/images").mkdir(parents=True)
    (tmp_path / "d/images/a.nii.gz").touch()
    write_mask(tmp_path / "d/labels/a.nii.gz", truth.with_array(truth.array * np.uint8(255)))
    given = build_manifest(tmp_path / "d", Outputs(tmp_path / "m.csv"), kind="nifti")
    assert "labels of a have only the values 0 and 255" in "\n".join(given.notices)
