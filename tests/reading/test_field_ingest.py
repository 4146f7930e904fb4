"""Inputs as hospitals, archives and other programs send them: read exactly, or refused usefully.

Each row of `field/ingest/cases.csv` is rebuilt from a public bug report. Those of DICOM series are
here; docs/ingest.md has the table of all kinds.
"""

import csv
from pathlib import Path

import numpy as np
import pytest

from voxtile.errors import CaseError
from voxtile.reading.channels import read_scan
from voxtile.reading.nifti import read_nifti
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import canonical

# The notices with which a series is read; it equals expected.nii.gz.
READ: dict[str, list[str]] = {
    "philips_xx_series_data": ["left_aside"],
    "folder_of_dcm_gz": [],
    "says_explicit_is_implicit": [],
    "orientation_jitter_2e-4": ["rounded_geometry"],
    "screen_save_in_series": ["left_aside"],
    "nm_recon_tomo": [],
    "bot_all_zero_rle": [],
    "rle_no_delimiter": ["no_delimiter"],
    "mr_empty_rescale": [],
    "dicomdir_lower_case_files": [],
    "ct_image_type_differs_by_slice": [],
    "no_high_bit": [],
    "demosaicked_slices": [],
}
# The code, and words of the advice, with which a series is refused.
REFUSED = {
    "last_slice_without_preamble_img": ("not_dicom", "convert it"),
    "cut_within_sequence": ("truncated", "file 3 of 4"),
    "element_out_of_order": ("damaged", "rewrite it"),
    "jpeg_extended_12bit_a": ("missing_codec", 'pip install "voxtile[dicom-codecs-gpl]"'),
    "enhanced_two_stacks_apart": ("several_volumes", "(stack 1), 1 (stack 2)"),
    "aborted_last_volume": ("incomplete_volumes", "choose one with --volume 0"),
    "series_uid_per_slice": ("several_series", "--series all"),
}
# With a choice they are read: the choice, and the volume that it gives.
CHOSEN = [
    ("dwi_classic_scrambled_instances", ReadPolicy(volume="b=0"), "expected_0.nii.gz"),
    ("dwi_classic_scrambled_instances", ReadPolicy(volume="b=500"), "expected_1.nii.gz"),
    ("dwi_classic_scrambled_instances", ReadPolicy(volume="b 1000"), "expected_2.nii.gz"),
    ("dwi_enhanced_dimension_index", ReadPolicy(volume="b=0"), "expected_0.nii.gz"),
    ("dwi_enhanced_dimension_index", ReadPolicy(volume="b=500"), "expected_1.nii.gz"),
    ("dwi_enhanced_dimension_index", ReadPolicy(volume="b=1000"), "expected_2.nii.gz"),
    ("dixon_water_fat_one_series", ReadPolicy(volume="water"), "expected_0.nii.gz"),
    ("dixon_water_fat_one_series", ReadPolicy(volume="fat"), "expected_1.nii.gz"),
    ("aborted_last_volume", ReadPolicy(volume=0), "expected.nii.gz"),
    ("series_uid_per_slice", ReadPolicy(series="all"), "expected.nii.gz"),
]
# Kinds of references and of other formats.
ELSEWHERE = {"K3", "K4", "K5", "K6", "K7", "K8", "K18", "K19", "K20", "K26", "K31", "K33"}


@pytest.fixture(scope="module")
def field(data_dir: Path) -> Path:
    """The folder of the inputs."""
    folder = data_dir / "field" / "ingest"
    if not folder.is_dir():
        pytest.skip("the folder field/ingest is not among the real data")
    return folder


def source(field: Path, case: str) -> Path:
    """The path that a case's command names."""
    directory = field / case / "input" / "DICOMDIR"
    return directory if directory.exists() else directory.parent


def require_expected(field: Path, case: str, policy: ReadPolicy, name: str) -> list[str]:
    """Compare voxels exactly, and positions to a hundredth of a millimetre; return the notices."""
    scan = read_scan(source(field, case), policy)
    ours, expected = canonical(scan.volume), canonical(read_nifti(field / case / name).volume)
    np.testing.assert_array_equal(ours.array, expected.array)
    np.testing.assert_allclose(ours.affine, expected.affine, atol=0.01)
    return [notice.code for notice in scan.notices]


def test_every_kind_of_series_is_tested(field: Path) -> None:
    with (field / "cases.csv").open(newline="") as file:
        rows = [
            row["name"] for row in csv.DictReader(file) if row["kind"].split()[0] not in ELSEWHERE
        ]
    assert set(rows) == READ.keys() | REFUSED.keys() | {case for case, _, _ in CHOSEN}


@pytest.mark.parametrize("case", READ)
def test_a_series_is_read_as_expected(field: Path, case: str) -> None:
    assert require_expected(field, case, ReadPolicy(), "expected.nii.gz") == READ[case]


@pytest.mark.parametrize("case", REFUSED)
def test_a_series_is_refused_with_advice(field: Path, case: str) -> None:
    code, words = REFUSED[case]
    with pytest.raises(CaseError) as caught:
        read_scan(source(field, case))
    assert caught.value.code == code
    assert words in caught.value.sentence


@pytest.mark.parametrize(("case", "policy", "name"), CHOSEN)
def test_a_choice_gives_the_expected_volume(
    field: Path, case: str, policy: ReadPolicy, name: str
) -> None:
    require_expected(field, case, policy, name)


def test_each_stack_of_one_file_can_be_chosen(field: Path) -> None:
    stacks = [
        read_scan(field / "enhanced_two_stacks_apart" / "input", ReadPolicy(volume=number)).volume
        for number in range(2)
    ]
    assert [stack.shape for stack in stacks] == [(20, 16, 4)] * 2
    assert stacks[1].affine[2, 3] - stacks[0].affine[2, 3] == pytest.approx(100)
