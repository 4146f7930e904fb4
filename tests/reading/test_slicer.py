"""Segmentations of 3D Slicer: names, values, layers, and arrays that are a part of the scan."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from grids import LPS, affines

from voxtile.errors import CaseError
from voxtile.export.finished import Finished
from voxtile.export.slicer import write_seg_nrrd
from voxtile.models.spec import Concept, Label
from voxtile.reading.channels import read_mask
from voxtile.reading.reference import read_reference
from voxtile.volume import Axes, Volume, reorient

SHAPE = (6, 5, 4)
AFFINE = list(affines("oblique"))[9]
IMAGE = Volume(np.zeros(SHAPE, np.int16), AFFINE)
COLOR = "#e6194b"
LIVER = Label(value=1, name="Left liver", color=COLOR)
LESION = Label(
    value=2,
    name="Läsion",
    color=COLOR,
    concept=Concept(value="4147007", scheme="SCT", meaning="Mass"),
)


def drawn(*values: int) -> np.ndarray:
    """An array with one line of voxels for each value."""
    array = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values):
        array[1:4, 1 + place, 2] = value
    return array


def written(
    path: Path, layers: list[np.ndarray], segments: list[str], *, begin=(0, 0, 0), more=""
) -> Path:
    """A file as Slicer writes it; a segment is "name layer value [code]"."""
    lps = LPS @ AFFINE
    origin = lps @ [*begin, 1]
    several = len(layers) > 1
    vectors = [f"({','.join(map(repr, lps[:3, axis].tolist()))})" for axis in range(3)]
    sizes = [*([len(layers)] if several else []), *layers[0].shape]
    lines = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {' '.join([*(['none'] if several else []), *vectors])}",
        "encoding: raw",
        f"space origin: ({','.join(map(repr, origin[:3].tolist()))})",
    ]
    for number, segment in enumerate(segments):
        name, layer, value, *code = segment.rsplit("|")
        entry = f"x~SCT^1^Category~SCT^{code[0]}^Meaning~^^~y~^^~^^" if code else "x"
        lines += [
            f"Segment{number}_ID:=Segment_{number + 1}",
            f"Segment{number}_LabelValue:={value}",
            f"Segment{number}_Layer:={layer}",
            f"Segment{number}_Name:={name}",
            f"Segment{number}_Tags:=Segmentation.Status:x|TerminologyEntry:{entry}|",
        ]
    array = np.stack(layers) if several else layers[0]
    text = "\n".join(lines) + f"\n{more}\n"
    path.write_bytes(text.encode() + array.tobytes(order="F"))
    return path


def geometry(begin: tuple[int, ...], affine: np.ndarray = AFFINE) -> str:
    """The lines of a header about the grid that was segmented."""
    numbers = ";".join(map(repr, affine.ravel().tolist()))
    extent = ";".join(f"0;{size - 1}" for size in SHAPE)
    return (
        f"Segmentation_ConversionParameters:=Reference image geometry|{numbers};{extent};|text&\n"
        f"Segmentation_ReferenceImageExtentOffset:={' '.join(map(str, begin))}\n"
    )


def test_segments_are_matched_by_name_then_code_and_not_by_value(tmp_path: Path) -> None:
    segments = ["tumour|0|1|4147007", "left_liver|0|2"]
    path = written(tmp_path / "a.seg.nrrd", [drawn(1, 2)], segments)
    mask, notices = read_reference(path, IMAGE, [LIVER, LESION])
    np.testing.assert_array_equal(mask.array, drawn(2, 1))
    assert not notices
    path = written(tmp_path / "a.seg.nrrd", [drawn(1, 2)], ["Läsion|0|1", "left_liver|0|2"])
    np.testing.assert_array_equal(
        read_reference(path, IMAGE, [LIVER, LESION])[0].array, drawn(2, 1)
    )


def test_segments_without_a_match_are_refused_unless_they_are_numbered(tmp_path: Path) -> None:
    path = written(tmp_path / "a.seg.nrrd", [drawn(1, 2)], ["Milz|0|1", "Leber|0|2"])
    with pytest.raises(CaseError, match=r"numbers 1, 2.*--label-map, such as 1:1") as caught:
        read_reference(path, IMAGE, [LIVER, LESION])
    assert caught.value.code == "label_unmatched"
    assert "Milz" not in caught.value.sentence
    mask, _ = read_reference(path, IMAGE, [LIVER, LESION], {1: 2, 2: 1})
    np.testing.assert_array_equal(mask.array, drawn(2, 1))


def test_values_count_where_segments_have_no_names(tmp_path: Path) -> None:
    path = written(tmp_path / "a.seg.nrrd", [drawn(1, 2)], ["Segment_1|0|1", "Segment_2|0|2"])
    mask, _ = read_reference(path, IMAGE, [LIVER, LESION])
    np.testing.assert_array_equal(mask.array, drawn(1, 2))


def test_a_value_means_another_segment_in_each_layer(tmp_path: Path) -> None:
    layers = [drawn(1), drawn(0, 1)]
    path = written(tmp_path / "a.seg.nrrd", layers, ["left liver|0|1", "Läsion|1|1"])
    mask, _ = read_reference(path, IMAGE, [LIVER, LESION])
    np.testing.assert_array_equal(mask.array, drawn(1, 2))
    with pytest.raises(CaseError, match="only their names tell them apart"):
        read_mask(path)
    path = written(tmp_path / "b.seg.nrrd", [drawn(1), drawn(2)], ["a|0|1", "b|1|2"])
    with pytest.raises(CaseError, match="segments overlap"):
        read_mask(path)
    with pytest.raises(CaseError, match="overlaps others in 3 voxels"):
        read_reference(path, IMAGE, [LIVER, LESION], {1: 1, 2: 2})
    path = written(tmp_path / "c.seg.nrrd", [drawn(1), drawn(0, 2)], ["a|0|1", "b|1|2"])
    np.testing.assert_array_equal(read_mask(path).volume.array, drawn(1, 2))
    path = written(tmp_path / "d.seg.nrrd", [drawn(1), drawn(0, 2)], ["a|0|1", "b|2|2"])
    with pytest.raises(CaseError, match="layer that the file does not have"):
        read_mask(path)


@pytest.mark.parametrize(
    "axes", [Axes((0, 1, 2), (False,) * 3), Axes((2, 0, 1), (True, False, True))]
)
def test_a_part_of_the_scan_is_put_at_its_place(tmp_path: Path, axes: Axes) -> None:
    whole = drawn(1, 2)
    part = np.ascontiguousarray(whole[1:5, 1:4, 2:3])
    segments = ["left liver|0|1", "Läsion|0|2"]
    path = written(tmp_path / "a.seg.nrrd", [part], segments, begin=(1, 1, 2))
    image = reorient(IMAGE, axes)
    mask, _ = read_reference(path, image, [LIVER, LESION])
    np.testing.assert_array_equal(axes.undo(mask.array), whole)
    # Without the scan, the header must say what the array is a part of.
    assert read_mask(path).volume.shape == part.shape
    more = geometry((1, 1, 2))
    path = written(tmp_path / "b.seg.nrrd", [part], segments, begin=(1, 1, 2), more=more)
    scan = read_mask(path)
    np.testing.assert_array_equal(scan.volume.array, whole)
    np.testing.assert_allclose(scan.volume.affine, AFFINE, atol=1e-6)
    assert read_mask(path, survey=True).volume.shape == SHAPE


def test_a_geometry_of_another_grid_is_not_used(tmp_path: Path) -> None:
    part = np.ascontiguousarray(drawn(1)[1:5])
    flat = AFFINE * [0, 1, 1, 1]
    for more in (
        geometry((0, 1, 0)),
        geometry((1, 0, 0), AFFINE * 0.5),
        geometry((4, 0, 0)),
        geometry((1, 0, 0), flat),
    ):
        path = written(tmp_path / "a.seg.nrrd", [part], ["a|0|1"], begin=(1, 0, 0), more=more)
        assert read_mask(path).volume.shape == part.shape


def test_the_grid_of_a_part_is_compared_as_any_other_grid(tmp_path: Path) -> None:
    begin = (1, 1, 2)
    turned = AFFINE @ Axes((1, 0, 2), (False, True, False)).index_affine((1, 1, 1))
    turned[:3, 3] += AFFINE[:3] @ [*begin, 1] - turned[:3] @ [*begin, 1]
    near, far = AFFINE.copy(), AFFINE.copy()
    near[:3, 3] += AFFINE[:3, 2] * 0.09
    far[:3, 3] += AFFINE[:3, 2] * 0.11
    part = np.ascontiguousarray(drawn(1)[1:2, 1:2, 2:3])
    for affine, shape in ((near, SHAPE), (far, part.shape), (turned, part.shape)):
        more = geometry(begin, affine)
        path = written(tmp_path / "a.seg.nrrd", [part], ["a|0|1"], begin=begin, more=more)
        assert read_mask(path).volume.shape == shape


def test_a_segmentation_of_another_place_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.seg.nrrd", [drawn(1)], ["left liver|0|1"], begin=(4, 0, 0))
    with pytest.raises(CaseError, match="voxels outside the image"):
        read_reference(path, IMAGE, [LIVER])
    path = written(tmp_path / "a.seg.nrrd", [drawn(1)], ["left liver|0|1"], begin=(0.3, 0, 0))
    with pytest.raises(CaseError, match="not on the voxels of the image"):
        read_reference(path, IMAGE, [LIVER])


def test_an_export_reads_back_with_its_regions(tmp_path: Path) -> None:
    labels = (
        Label(value=1, name="whole", color=COLOR, region=(1, 2)),
        Label(value=2, name="core", color=COLOR),
    )
    mask = IMAGE.with_array(drawn(1, 2))
    write_seg_nrrd(Finished("c1", tmp_path, labels, "model"), mask)
    path = tmp_path / "exports/seg.nrrd/c1.seg.nrrd"
    back, notices = read_reference(path, IMAGE, labels)
    np.testing.assert_array_equal(back.array, mask.array)
    assert not notices


@pytest.mark.parametrize("name", ["Segmentation.seg.nrrd", "SegmentationOverlapping.seg.nrrd"])
def test_files_that_slicer_wrote(name: str) -> None:
    with resources.as_file(resources.files("slicerio").joinpath(f"data/{name}")) as path:
        image = read_mask(path.with_name("CTChest4.nrrd")).volume
        lungs = [Label(value=3, name="Right lung", color=COLOR)]
        lungs += [Label(value=4, name="left lung", color=COLOR)]
        mask, notices = read_reference(path, image, lungs)
        if name == "Segmentation.seg.nrrd":
            stored = read_mask(path).volume.array
            np.testing.assert_array_equal(mask.array == 3, stored == 5)
            np.testing.assert_array_equal(mask.array == 4, stored == 6)
    assert np.unique(mask.array).tolist() == [0, 3, 4]
    assert [notice.code for notice in notices] == ["label_left_out"]
