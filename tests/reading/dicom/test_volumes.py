"""Several volumes at the same places are separated by what tells them apart, or refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicoms import OBLIQUE, make_slice, save
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage

from voxtile.errors import CaseError
from voxtile.reading.channels import read_volume
from voxtile.reading.dicom import read_series
from voxtile.reading.scan import ReadPolicy, volume_choice

PLACES, VOLUMES = 3, 3
Tell = Callable[[Dataset, int, int], None]  # data set, volume, place


def standard(keyword: str, *values: object) -> Tell:
    """Write a value of a standard element for each volume."""
    return lambda dataset, volume, place: setattr(dataset, keyword, values[volume])


def private(tag: int, creator: str, vr: str, *values: object) -> Tell:
    """Write a value of a private element for each volume."""

    def write(dataset: Dataset, volume: int, place: int) -> None:
        block = dataset.private_block(tag >> 16, creator, create=True)
        block.add_new(tag & 0xFF, vr, values[volume])

    return write


def both(*parts: Tell) -> Tell:
    """Write several elements."""

    def write(dataset: Dataset, volume: int, place: int) -> None:
        for part in parts:
            part(dataset, volume, place)

    return write


def drifting(keyword: str, step: float) -> Tell:
    """A time that is later at each place."""
    return lambda dataset, volume, place: setattr(dataset, keyword, 100 * volume + step * place + 1)


def image_type(*words: str) -> Tell:
    """Write the last value of ImageType."""
    return standard("ImageType", *(["ORIGINAL", "PRIMARY", "X", "Y", word] for word in words))


DIRECTIONS = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.6, 0.8])
TELLING: dict[str, Tell] = {
    "b-value": standard("DiffusionBValue", 0.0, 500.0, 1000.0),
    "Siemens b-value": private(0x0019000C, "SIEMENS MR HEADER", "IS", 0, 500, 1000),
    "Siemens b-value as UN": private(0x0019000C, "SIEMENS MR HEADER", "UN", b"0", b"5 ", b"10"),
    "GE b-value": private(
        0x00430039, "GEMS_PARM_01", "IS", [0, 8, 0, 0], [1000000500, 8, 0, 0], [1000, 8, 0, 0]
    ),
    "Philips b-value": private(0x20010003, "Philips Imaging DD 001", "FL", 0, 500, 1000),
    "UIH b-value": private(0x00650009, "Image Private Header", "FD", 0, 500, 1000),
    "direction": standard("DiffusionGradientOrientation", *DIRECTIONS),
    "Siemens direction": private(0x0019000E, "SIEMENS MR HEADER", "FD", *DIRECTIONS),
    "GE direction": both(
        private(0x001900BB, "GEMS_ACQU_01", "DS", 1, 0, 0),
        private(0x001900BC, "GEMS_ACQU_01", "DS", 0, 1, 0),
        private(0x001900BD, "GEMS_ACQU_01", "DS", 0, 0, 1),
    ),
    "b-value and direction": both(
        standard("DiffusionBValue", 0.0, 700.0, 700.0),
        private(0x0019000E, "SIEMENS MR HEADER", "FD", *DIRECTIONS),
    ),
    "echo time": standard("EchoTime", 2.3, 4.6, 6.9),
    "inversion time": standard("InversionTime", 100, 350, 2000),
    "inversion time of each slice": drifting("InversionTime", 11),
    "flip angle": standard("FlipAngle", 5, 10, 15),
    "trigger time": standard("TriggerTime", 0, 40.5, 81),
    "trigger time of each slice": drifting("TriggerTime", 17),
    "temporal position": standard("TemporalPositionIdentifier", 1, 2, 3),
    "Dixon": image_type("WATER", "FAT", "IN_PHASE"),
    "kind of value": standard("ImageType", *(["ORIGINAL", "PRIMARY", word] for word in "MPR")),
    "words of ImageType": image_type("ND", "NORM", "MEAN"),
    "GE kind of value": private(0x0043002F, "GEMS_PARM_01", "SS", 0, 1, 2),
    "Philips kind of value": private(0x20050011, "Philips MR Imaging DD 001", "CS", "M", "P", "R"),
    "label, control and calibration": private(
        0x20050029, "Philips MR Imaging DD 005", "CS", "LABEL", "CONTROL", "M0"
    ),
    "Siemens coil": private(0x0051000F, "SIEMENS MR HEADER", "LO", "H1", "H2", "H3"),
    "PET frame": standard("FrameReferenceTime", 5000.0, 15000.0, 45000.0),
    "PET frame time": standard("AcquisitionTime", "100000.00", "100010.00", "100040.00"),
    "tube voltage": standard("KVP", 80, 100, 140),
    "kernel": standard("ConvolutionKernel", "B31f", "B50f", "B70f"),
    "acquisition": standard("AcquisitionNumber", 3, 1, 2),
}


def write(
    folder: Path, tell: Tell, numbers: list[int] | None = None, modality: str = "MR"
) -> np.ndarray:
    """Write volumes of one value each, in files and instance numbers of no order.

    Returns the value of each volume.
    """
    if numbers is None:
        numbers = np.random.default_rng(1).permutation(PLACES * VOLUMES).tolist()
    for index, number in enumerate(numbers):
        volume, place = divmod(index, PLACES)
        picture = np.full((4, 6), 100 + volume, np.uint16)
        dataset = make_slice(place, picture, Modality=modality, InstanceNumber=number + 1)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        tell(dataset, volume, place)
        save(dataset, folder / f"{(number * 5) % 9}-{index}.dcm")
    return np.arange(VOLUMES) + 100 - 1024


def refused(folder: Path, policy: ReadPolicy | None = None) -> CaseError:
    """The error that a folder is refused with."""
    with pytest.raises(CaseError) as caught:
        read_series(folder, policy)
    return caught.value


@pytest.mark.parametrize("name", TELLING)
def test_each_volume_has_the_slices_of_one_kind(name: str, tmp_path: Path) -> None:
    values = write(tmp_path, TELLING[name])
    found = []
    for number in range(VOLUMES):
        array = read_series(tmp_path, ReadPolicy(volume=number)).volume.array
        assert array.shape == (6, 4, PLACES)
        assert np.ptp(array) == 0
        found.append(array.flat[0])
    assert sorted(found) == values.tolist()


@settings(max_examples=8, deadline=None)
@given(
    numbers=st.permutations(range(PLACES * VOLUMES)),
    name=st.sampled_from(["b-value and direction", "Dixon", "trigger time of each slice"]),
)
def test_the_order_of_instances_never_mixes_volumes(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], name: str
) -> None:
    folder = tmp_path_factory.mktemp("series")
    write(folder, TELLING[name], numbers)
    for number in range(VOLUMES):
        assert np.ptp(read_series(folder, ReadPolicy(volume=number)).volume.array) == 0


@settings(max_examples=8, deadline=None)
@given(numbers=st.permutations(range(PLACES * VOLUMES)))
def test_instances_alone_separate_volumes_only_if_they_are_regular(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("series")
    write(folder, lambda *_: None, numbers)
    error = refused(folder)
    table = np.sort(np.reshape(numbers, (VOLUMES, PLACES)), axis=0)
    if (table[:-1].max(axis=1) < table[1:].min(axis=1)).all():
        assert error.code == "several_volumes"
    else:
        assert error.code in ("mixed_volumes", "several_volumes")
        steps = table - table[0]
        assert (error.code == "several_volumes") == bool((steps == steps[:, :1]).all())


@pytest.mark.parametrize("by_slice", [False, True])
def test_regular_instances_separate_repeats(by_slice: bool, tmp_path: Path) -> None:
    numbers = np.arange(PLACES * VOLUMES)
    numbers = numbers.reshape(PLACES, VOLUMES).T.ravel() if by_slice else numbers
    values = write(tmp_path, lambda *_: None, numbers.tolist())
    for number, value in enumerate(values):
        array = read_series(tmp_path, ReadPolicy(volume=number)).volume.array
        assert (array == value).all()


def test_attributes_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    def tell(dataset: Dataset, volume: int, place: int) -> None:
        dataset.DiffusionBValue = [0.0, 500.0, 1000.0][volume]
        dataset.EchoTime = [10, 20, 30][(volume + place) % 3]

    write(tmp_path, tell)
    error = refused(tmp_path, ReadPolicy(volume=0))
    assert error.code == "mixed_volumes"
    assert "the values of echo time do not agree at all places" in error.sentence


def test_a_place_with_another_set_of_values_is_refused(tmp_path: Path) -> None:
    def tell(dataset: Dataset, volume: int, place: int) -> None:
        dataset.DiffusionBValue = 0.0 if place == 2 else [0.0, 500.0, 1000.0][volume]

    write(tmp_path, tell, list(range(9)))
    assert refused(tmp_path, ReadPolicy(volume=0)).code == "mixed_volumes"


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("EchoTime", [10, 20]),
        ("DiffusionBValue", [0.0, 800.0]),
        ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]),
        ("ImageType", [["DERIVED", "PRIMARY", "M", "W"], ["DERIVED", "PRIMARY", "M", "F"]]),
    ],
)
def test_one_slice_of_another_kind_at_each_place_is_refused(
    keyword: str, values: list[object], tmp_path: Path
) -> None:
    for place in range(5):
        dataset = make_slice(place, np.ones((4, 6), np.uint16), Modality="MR")
        setattr(dataset, keyword, values[place > 2])
        save(dataset, tmp_path / f"{place}")
    assert refused(tmp_path).code == "mixed_volumes"


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("ImageType", [["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "REFORMATTED"]]),
        ("AcquisitionNumber", [1, 2]),
        ("KVP", [100, 120]),
        ("TriggerTime", [10, 20]),
        ("AcquisitionTime", ["235959", "000001"]),
    ],
)
def test_other_differences_between_places_tell_nothing_apart(
    keyword: str, values: list[object], tmp_path: Path
) -> None:
    for place in range(5):
        dataset = make_slice(place, np.full((4, 6), place, np.uint16))
        setattr(dataset, keyword, values[place > 2])
        save(dataset, tmp_path / f"{place}")
    assert (read_series(tmp_path).volume.array == np.arange(5) - 1024).all()


@pytest.mark.parametrize(
    ("name", "listed", "wanted", "number"),
    [
        ("b-value", "0 (b=0), 1 (b=500), 2 (b=1000)", "B 1000", 2),
        ("Dixon", "0 (fat), 1 (in phase), 2 (water)", "water", 0),
        ("kind of value", "0 (magnitude), 1 (phase), 2 (real)", "phase", 1),
        ("trigger time of each slice", "0 (phase 1), 1 (phase 2), 2 (phase 3)", "phase 3", 2),
        ("temporal position", "0 (time 1), 1 (time 2)", "phase 2", 1),
        ("PET frame", "0 (frame 1), 1 (frame 2)", "frame=1", 0),
        ("b-value and direction", "b=700, direction ", "b=700, direction 2", 1),
        ("echo time", "0 (echo=2.3)", "echo=4.6 ms", 1),
    ],
)
def test_volumes_are_listed_and_chosen_by_what_names_them(
    name: str, listed: str, wanted: str, number: int, tmp_path: Path
) -> None:
    values = write(tmp_path, TELLING[name])
    error = refused(tmp_path)
    assert listed in error.sentence
    assert '--volume 0 to --volume 2, or by a value, such as --volume "' in error.sentence
    assert (read_volume(tmp_path, volume=wanted).array == values[number]).all()


@pytest.mark.parametrize("wanted", ["b=700", "b=5", "water", "b=0, water"])
def test_a_value_that_does_not_name_one_volume_is_refused(wanted: str, tmp_path: Path) -> None:
    write(tmp_path, TELLING["b-value and direction"])
    error = refused(tmp_path, ReadPolicy(volume=wanted))
    assert error.code == "no_such_volume"
    assert "b=700" in error.sentence


def test_a_volume_of_its_own_is_chosen_by_its_value(tmp_path: Path) -> None:
    for place in range(3):
        dataset = make_slice(place, np.ones((4, 6), np.uint16), Modality="MR")
        dataset.ImageType = ["DERIVED", "PRIMARY", "DIXON", "WATER"]
        save(dataset, tmp_path / f"{place}")
    assert read_volume(tmp_path, volume="water").shape == (6, 4, 3)
    assert refused(tmp_path, ReadPolicy(volume="fat")).code == "no_such_volume"


@pytest.mark.parametrize(("text", "choice"), [("2", 2), ("b=1000", "b=1000")])
def test_a_choice_is_a_number_or_a_value(text: str, choice: int | str) -> None:
    assert volume_choice(text) == choice
    with pytest.raises(ValueError, match="not a whole number"):
        volume_choice("-1")


# Incomplete volumes


@pytest.mark.parametrize("name", ["temporal position", "b-value", "acquisition", "PET frame"])
@pytest.mark.parametrize("left", [1, 2])
def test_an_aborted_volume_does_not_hinder_the_complete_ones(
    name: str, left: int, tmp_path: Path
) -> None:
    values = write(tmp_path, TELLING[name], list(range(9)))
    last = sorted(tmp_path.iterdir(), key=lambda path: int(path.stem.split("-")[1]))[6:]
    for path in last[left:]:
        path.unlink()
    error = refused(tmp_path)
    assert error.code == "incomplete_volumes"
    assert f"incomplete: {3 - left} slice" in error.sentence
    found = set()
    for number in range(VOLUMES):
        try:
            scan = read_series(tmp_path, ReadPolicy(volume=number))
        except CaseError as problem:
            assert problem.code == "incomplete_volumes"
            continue
        assert [notice.code for notice in scan.notices] == ["incomplete_volumes"]
        found |= set(np.unique(scan.volume.array).tolist())
    assert found == set(values[:2].tolist())


def test_a_repeated_slice_is_left_out_if_it_is_another_acquisition(tmp_path: Path) -> None:
    for place in (0, 1, 2, 3, 1):
        number = 1 + len(list(tmp_path.iterdir())) // 4
        picture = np.full((4, 6), place + 10 * number, np.uint16)
        dataset = make_slice(place, picture, AcquisitionNumber=number)
        save(dataset, tmp_path / f"{place}-{number}")
    error = refused(tmp_path)
    assert error.code == "duplicate_slices"
    assert "or --volume to take one of 2 volumes" in error.sentence
    array = read_series(tmp_path, ReadPolicy(volume=0)).volume.array
    assert (array == np.arange(4) + 10 - 1024).all()


# Stacks


def write_stacks(folder: Path, *orientations: tuple[tuple[float, ...], ...]) -> None:
    """Write a stack of three slices for each orientation."""
    for number, (across, down) in enumerate(orientations):
        for place in range(3):
            dataset = make_slice(0, np.full((4, 6), number, np.uint16))
            dataset.ImageOrientationPatient = [*across, *down]
            at = 2.0 * place * np.cross(across, down) + 40 * number
            dataset.ImagePositionPatient = [f"{value:.8g}" for value in at]
            save(dataset, folder / f"{number}-{place}")


def test_stacks_of_several_orientations_can_be_chosen(tmp_path: Path) -> None:
    write_stacks(tmp_path, ((1, 0, 0), (0, 1, 0)), ((1, 0, 0), (0, 0, -1)), OBLIQUE)
    error = refused(tmp_path)
    assert error.code == "mixed_orientation"
    assert 'choose one with --volume 0 to --volume 2, or --volume "stack 1"' in error.sentence
    for number in range(3):
        assert (read_volume(tmp_path, volume=number).array == number - 1024).all()
    assert (read_volume(tmp_path, volume="stack 3").array == 2 - 1024).all()


def test_one_slice_of_another_orientation_is_no_stack(tmp_path: Path) -> None:
    write_stacks(tmp_path, ((1, 0, 0), (0, 1, 0)), ((1, 0, 0), (0, 0, -1)))
    (tmp_path / "1-0").unlink()
    (tmp_path / "1-2").unlink()
    assert refused(tmp_path, ReadPolicy(volume=0)).code == "mixed_orientation"


@pytest.mark.parametrize("turn", [3e-4, 1e-3])
def test_a_small_turn_is_read_if_it_moves_no_pixel(turn: float, tmp_path: Path) -> None:
    for place in range(4):
        dataset = make_slice(place, np.full((4, 6), place, np.uint16))
        dataset.ImageOrientationPatient = [1, turn * (place % 2), 0, -turn * (place % 2), 1, 0]
        dataset.ImagePositionPatient = [0, 0, 3 * place]
        dataset.PixelSpacing = [0.75, 0.5 * (1 + turn * (place % 2))]
        save(dataset, tmp_path / f"{place}")
    scan = read_series(tmp_path)
    assert [notice.code for notice in scan.notices] == ["rounded_geometry"]
    assert (scan.volume.array == np.arange(4) - 1024).all()
    np.testing.assert_allclose(np.abs(scan.volume.affine[:3, :3]), np.diag([0.5, 0.75, 3]))


# Elements that no table has


@pytest.mark.parametrize(
    "tell",
    [
        private(0x00991001, "SOME VENDOR", "LO", "first", "second", "third"),
        standard("ImageComments", "native", "arterial", "venous"),
        standard("ContrastBolusAgent", "none", "A", "B"),
        private(0x00991002, "SOME VENDOR", "DS", [0, 1, 0], [1, 0, 0], [0, 0, 1]),
    ],
)
def test_an_unknown_element_separates_volumes_too(tell: Tell, tmp_path: Path) -> None:
    write(tmp_path, tell)
    for number in range(VOLUMES):
        assert np.ptp(read_series(tmp_path, ReadPolicy(volume=number)).volume.array) == 0


def test_an_unknown_element_may_contradict_regular_instances(tmp_path: Path) -> None:
    tell = private(0x00991001, "SOME VENDOR", "LO", "water", "fat", "both")
    # Regular from slice to slice, but the volumes are in another order at each place.
    numbers = [
        PLACES * place + (volume + place) % VOLUMES
        for volume in range(VOLUMES)
        for place in range(PLACES)
    ]
    write(tmp_path, tell, numbers)
    error = refused(tmp_path)
    assert error.code == "mixed_volumes"
    assert "other elements contradict the instance numbers" in error.sentence


# Enhanced images


def frame_of(volume: int, place: int, **groups: dict[str, object]) -> Dataset:
    """The functional groups of a frame."""
    frame = Dataset()
    groups["PlanePositionSequence"] = {"ImagePositionPatient": [0, 0, 3 * place]}
    for name, elements in groups.items():
        item = Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        setattr(frame, name, [item])
    return frame


FRAMES: dict[str, Callable[[int, int], dict[str, dict[str, object]]]] = {
    "b-value": lambda v, k: {"MRDiffusionSequence": {"DiffusionBValue": 500.0 * v}},
    "dimension": lambda v, k: {"FrameContentSequence": {"DimensionIndexValues": [1, k + 1, v + 1]}},
    "time": lambda v, k: {"FrameContentSequence": {"TemporalPositionIndex": v + 1}},
    "trigger": lambda v, k: {
        "CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 40.0 * v + k}
    },
    "echo": lambda v, k: {"MREchoSequence": {"EffectiveEchoTime": 5.0 * (v + 1)}},
    "kind of value": lambda v, k: {
        "MRImageFrameTypeSequence": {
            "FrameType": ["ORIGINAL", "PRIMARY", "X", "NONE"],
            "ComplexImageComponent": ["MAGNITUDE", "PHASE", "REAL"][v],
        }
    },
    "contrast": lambda v, k: {
        "MRImageFrameTypeSequence": {"FrameType": ["DERIVED", "PRIMARY", "X", ["W", "F", "IP"][v]]}
    },
    "inversion": lambda v, k: {"MRModifierSequence": {"InversionTimes": [100.0 * (v + 1)]}},
    "label": lambda v, k: {"FrameContentSequence": {"FrameLabel": f"part {v}"}},
    "keV": lambda v, k: {"CTXRayDetailsSequence": {"KVP": 40 + v}},
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_in_no_order_are_separated_by_their_groups(name: str, tmp_path: Path) -> None:
    numbers = np.random.default_rng(2).permutation(PLACES * VOLUMES).tolist()
    frames = [frame_of(*divmod(n, PLACES), **FRAMES[name](*divmod(n, PLACES))) for n in numbers]
    pictures = np.stack([np.full((4, 6), n // PLACES, np.uint16) for n in numbers])
    shared, orientation, measures = (Dataset() for _ in range(3))
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [1, 1]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    dataset = make_slice(
        0,
        pictures,
        SOPClassUID=EnhancedMRImageStorage,
        Modality="MR",
        Rows=4,
        Columns=6,
        NumberOfFrames=len(numbers),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
    )
    save(dataset, tmp_path / "a.dcm")
    found = [
        read_series(tmp_path, ReadPolicy(volume=number)).volume.array for number in range(VOLUMES)
    ]
    assert [np.ptp(array) for array in found] == [0] * VOLUMES
    assert {int(array.flat[0]) for array in found} == set(range(VOLUMES))
