"""Real DICOM: every series of the corpus becomes the NIfTI that it must, or is refused."""

import csv
import subprocess
import sys
from itertools import count
from pathlib import Path

import dcm2niix
import numpy as np
import pydicom
import pytest

from voxtile.errors import CaseError
from voxtile.reading.dicom import read_series
from voxtile.reading.nifti import read_nifti
from voxtile.reading.scan import ReadPolicy, Scan
from voxtile.volume import Volume, canonical, is_sheared

# What the series without a reference are refused with, and those that need a choice.
REFUSED = {
    "ct_tilt14_siemens": "gantry_tilt",
    "ct_tilt18_philips_phantom": "gantry_tilt",
    "ct_not_a_volume": "several_volumes",
    "ct_uneven_spacing_ge": "missing_slices",
    "mr_mixed_orientation": "mixed_orientation",
    "ge_4d_fmri": "several_volumes",
    "siemens_4d_classic": "several_volumes",
    "philips_4d_fmri": "several_volumes",
    "philips_enhanced_4d": "several_volumes",
    "siemens_mosaic_ap": "several_volumes",
    "siemens_mosaic_rl": "several_volumes",
    "ge_4d_150files_interleaved": "several_volumes",
    "siemens_mosaic_axial_35": "several_volumes",
    "siemens_mosaic_jpeg_lossless": "several_volumes",
    "uih_4d_dti": "several_volumes",
    "philips_enhanced_dual_echo": "several_volumes",
}
CASES = [
    "ge_sag_explicit",
    "ge_single_slice",
    "ge_4d_fmri",
    "siemens_sag_implicit",
    "siemens_4d_classic",
    "siemens_multiframe_xa",
    "philips_cor",
    "philips_4d_fmri",
    "philips_enhanced_anat",
    "philips_enhanced_4d",
    "hitachi",
    "hyperfine_multiframe",
    "generic_uncompressed",
    "generic_j2k",
    "generic_jpeg_lossless",
    "generic_jpegls",
    "generic_rle",
    "rescale_float_nonisotropic",
    "ct_tilt14_siemens",
    "ct_not_a_volume",
    "mr_two_slices",
    "ct_uneven_spacing_ge",
    "mr_mixed_orientation",
    "siemens_mosaic_ap",
    "siemens_mosaic_rl",
    "ge_4d_150files_interleaved",
    "siemens_mosaic_axial_35",
    "siemens_mosaic_jpeg_lossless",
    "uih_4d_dti",
    "philips_enhanced_dual_echo",
    "ct_tilt18_philips_phantom",
]


@pytest.fixture(scope="module")
def rows(data_dir: Path) -> dict[str, dict[str, str]]:
    """The table of the corpus."""
    with (data_dir / "dicom_to_nifti" / "cases.csv").open(newline="") as file:
        return {row["case_id"]: row for row in csv.DictReader(file)}


def test_every_series_of_the_corpus_is_tested(rows: dict[str, dict[str, str]]) -> None:
    assert sorted(rows) == sorted(CASES)


def references(data_dir: Path, row: dict[str, str]) -> list[Volume]:
    """The volumes that a series must become, one for each of its own."""
    volumes = []
    for name in row["reference"].split():
        path = data_dir / "dicom_to_nifti" / name
        for number in count():
            try:
                volumes.append(read_nifti(path, ReadPolicy(volume=number)).volume)
            except CaseError:
                break
    return volumes


def require_equal(ours: Volume, reference: Volume, *, places: bool = True) -> None:
    """Compare voxels, exactly for integers, and world positions to 1e-3 mm."""
    ours, reference = canonical(ours), canonical(reference)
    assert ours.shape == reference.shape
    if reference.array.dtype.kind == "f":
        # The reference was rounded to float32 on its way: the last bit may differ.
        np.testing.assert_allclose(ours.array, reference.array, rtol=2.0**-22, atol=0)
    else:
        np.testing.assert_array_equal(ours.array, reference.array)
    if places:
        require_same_places(ours, reference)


def require_same_places(ours: Volume, reference: Volume) -> None:
    """Compare the world positions of all corners."""
    last = np.array(ours.shape) - 1
    corners = np.array([[*(corner * last), 1] for corner in np.ndindex(2, 2, 2)])
    distances = np.linalg.norm(corners @ (ours.affine - reference.affine).T, axis=1)
    assert distances.max() < 1e-3


@pytest.mark.parametrize("case", [case for case in CASES if case not in REFUSED])
def test_a_volume_equals_its_reference(
    case: str, data_dir: Path, rows: dict[str, dict[str, str]]
) -> None:
    scan = read_series(data_dir / "dicom_to_nifti" / rows[case]["dicom_dir"])
    (reference,) = references(data_dir, rows[case])
    require_equal(scan.volume, reference)


@pytest.mark.parametrize("case", REFUSED)
def test_series_of_several_volumes_are_refused(
    case: str, data_dir: Path, rows: dict[str, dict[str, str]]
) -> None:
    with pytest.raises(CaseError) as caught:
        read_series(data_dir / "dicom_to_nifti" / rows[case]["dicom_dir"])
    assert caught.value.code == REFUSED[case]


@pytest.mark.parametrize(
    "case",
    [
        case
        for case, code in REFUSED.items()
        if code == "several_volumes"
        and case not in ("ct_not_a_volume", "philips_enhanced_dual_echo")
    ],
)
def test_each_volume_equals_its_own_reference(
    case: str, data_dir: Path, rows: dict[str, dict[str, str]]
) -> None:
    folder = data_dir / "dicom_to_nifti" / rows[case]["dicom_dir"]
    expected = references(data_dir, rows[case])
    for number, reference in enumerate(expected):
        require_equal(read_series(folder, ReadPolicy(volume=number)).volume, reference)
    with pytest.raises(CaseError, match=f"volume {len(expected)} was chosen"):
        read_series(folder, ReadPolicy(volume=len(expected)))


def test_the_two_volumes_of_one_enhanced_file_are_separated(
    data_dir: Path, rows: dict[str, dict[str, str]]
) -> None:
    row = rows["philips_enhanced_dual_echo"]
    folder = data_dir / "dicom_to_nifti" / row["dicom_dir"]
    magnitude, field = references(data_dir, row)
    ours = read_series(folder, ReadPolicy(volume=0)).volume
    require_same_places(canonical(ours), canonical(magnitude))
    # Precise scaling and RescaleSlope differ by one factor (the corpus' README).
    theirs, values = canonical(magnitude).array, canonical(ours).array
    factor = theirs.sum(dtype=np.float64) / values.sum(dtype=np.float64)
    np.testing.assert_allclose(values * factor, theirs, rtol=1e-5)
    ours = read_series(folder, ReadPolicy(volume=1)).volume
    require_same_places(canonical(ours), canonical(field))
    # In Hz; the two scalings of a 12-bit value agree to a hundredth.
    np.testing.assert_allclose(canonical(ours).array, canonical(field).array, atol=0.01)


@pytest.mark.parametrize("group", [0x0029, 0x0065])
def test_a_mosaic_without_its_private_header_is_refused(
    group: int, data_dir: Path, tmp_path: Path
) -> None:
    case = {0x0029: "siemens_mosaic_ap", 0x0065: "uih_4d_dti"}[group]
    for path in sorted((data_dir / "dicom_to_nifti" / case / "dicom").iterdir())[:1]:
        dataset = pydicom.dcmread(path)
        for tag in [tag for tag in dataset.keys() if tag.group == group]:  # noqa: SIM118
            del dataset[tag]
        dataset.save_as(tmp_path / "a")
    with pytest.raises(CaseError, match="export it with private tags") as caught:
        read_series(tmp_path, ReadPolicy(volume=0))
    assert caught.value.code == "mosaic"


def test_tilt_native_equals_the_slices_as_acquired(data_dir: Path) -> None:
    folder = data_dir / "dicom_to_nifti" / "ct_tilt18_philips_phantom"
    scan = read_series(folder / "dicom", ReadPolicy(tilt="native"))
    reference = read_nifti(folder / "dcm2niix_as_acquired.nii.gz").volume
    # dcm2niix leaves the shear out of the affine, so places are only compared for one slice.
    require_equal(scan.volume, reference, places=False)
    assert is_sheared(scan.volume.affine)
    np.testing.assert_allclose(scan.volume.affine[:3, 2], (0, 0, 2.5), atol=1e-6)


def test_tilt_resample_agrees_within_interpolation(data_dir: Path) -> None:
    folder = data_dir / "dicom_to_nifti" / "ct_tilt18_philips_phantom"
    ours = canonical(read_series(folder / "dicom", ReadPolicy(tilt="resample")).volume)
    reference = canonical(read_nifti(folder / "dcm2niix_tilt_corrected.nii.gz").volume)
    assert ours.shape == reference.shape
    require_same_places(ours, reference)
    assert not is_sheared(ours.affine)
    # The outermost row of a slice is mixed with the background there, and cut here.
    difference = np.abs(ours.array.astype(int) - reference.array)
    assert np.median(difference) == 0
    assert (difference > 1).mean() < 0.002


# Where dcm2niix, as it is called here, is the truth: RescaleSlope where it applies precise
# scaling, or RescaleSlope values of which each slice has its own, are not (see the README).
AGREES = [
    case
    for case in CASES
    if case not in REFUSED and case not in ("philips_enhanced_anat", "rescale_float_nonisotropic")
]


@pytest.mark.parametrize("case", AGREES)
def test_dcm2niix_agrees(
    case: str, data_dir: Path, rows: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    folder = data_dir / "dicom_to_nifti" / rows[case]["dicom_dir"]
    subprocess.run(
        [dcm2niix.bin, "-b", "n", "-z", "n", "-f", "out", "-o", str(tmp_path), str(folder)],
        check=True,
        capture_output=True,
    )
    (path,) = tmp_path.glob("*.nii")
    require_equal(read_series(folder).volume, read_nifti(path).volume)


# Edge cases


def read(data_dir: Path, name: str, policy: ReadPolicy | None = None) -> Scan:
    """Read one of the edge cases."""
    return read_series(data_dir / "edge_cases" / name, policy)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("dicom/ExplVR_LitEndNoMeta.dcm", "not_dicom"),
        ("dicom/MR_truncated.dcm", "truncated"),
        ("dicom/SC_rgb_rle.dcm", "colour"),
        ("dicom/badVR.dcm", "not_an_image"),
        ("dicom/emri_small_same_pixels/emri_small.dcm", "no_geometry"),
        ("dicom/emri_small_same_pixels/emri_small_RLE.dcm", "no_geometry"),
        ("dicom/image_dfl.dcm", "no_geometry"),
        ("dicom/meta_missing_tsyntax.dcm", "damaged"),
        ("dicom/no_meta.dcm", "not_dicom"),
        ("dicom/rtplan_truncated.dcm", "not_an_image"),
        ("dicom/test-SR.dcm", "not_an_image"),
        ("dicom/mixed_series", "gantry_tilt"),
        ("dicom/fileset_multi_study", "several_series"),
        ("dicom/fileset_multi_study/DICOMDIR", "several_series"),
        ("derived/dicom_missing_slice", "missing_slices"),
        ("derived/dicom_two_series", "several_series"),
    ],
)
def test_an_edge_case_is_refused(name: str, code: str, data_dir: Path) -> None:
    with pytest.raises(CaseError) as caught:
        read(data_dir, name)
    assert caught.value.code == code


def test_one_image_in_nine_encodings_has_the_same_voxels(data_dir: Path) -> None:
    folder = data_dir / "edge_cases/dicom/mr_small_same_pixels"
    paths = [*sorted(folder.iterdir()), data_dir / "edge_cases/dicom/zipMR.gz"]
    scans = [read_series(path) for path in paths]
    assert len(scans) == 9
    for scan in scans:
        np.testing.assert_array_equal(scan.volume.array, scans[0].volume.array)
        np.testing.assert_array_equal(scan.volume.affine, scans[0].volume.affine)
        assert scan.volume.array.sum() == 2125338


def test_a_ct_of_17_slices_equals_its_conversion(data_dir: Path) -> None:
    reference = read_nifti(data_dir / "edge_cases/dicom/ct_crop_17slices_dcm2niix.nii.gz")
    scan = read(data_dir, "dicom/ct_crop_17slices")
    require_equal(scan.volume, reference.volume)
    # A copy of a slice among them changes nothing.
    doubled = read(data_dir, "derived/dicom_duplicate_slice")
    require_equal(doubled.volume, reference.volume)
    assert [notice.code for notice in doubled.notices] == ["duplicates_dropped"]


def test_a_gap_is_filled_on_request(data_dir: Path) -> None:
    whole = read(data_dir, "dicom/ct_crop_17slices").volume
    filled = read(
        data_dir, "derived/dicom_missing_slice", ReadPolicy(missing_slices="interpolate")
    ).volume
    np.testing.assert_allclose(filled.affine, whole.affine, atol=1e-6)
    kept = [k for k in range(17) if k != 8]
    np.testing.assert_array_equal(filled.array[..., kept], whole.array[..., kept])
    between = np.rint((whole.array[..., 7] + whole.array[..., 9].astype(int)) / 2)
    np.testing.assert_array_equal(filled.array[..., 8], between)


def test_a_scout_beside_a_series_does_not_count(data_dir: Path) -> None:
    scan = read(data_dir, "dicom/mixed_series", ReadPolicy(tilt="native"))
    assert scan.volume.shape == (512, 512, 4)
    assert [notice.code for notice in scan.notices] == ["left_aside", "gantry_tilt"]


def test_a_rule_chooses_among_studies(data_dir: Path) -> None:
    policy = ReadPolicy(series="modality=CT,largest")
    for name in ("dicom/fileset_multi_study", "dicom/fileset_multi_study/DICOMDIR"):
        assert read(data_dir, name, policy).volume.shape == (16, 16, 5)


def test_reading_dicom_does_not_import_it_here(data_dir: Path) -> None:
    folder = data_dir / "edge_cases/dicom/ct_crop_17slices"
    script = (
        "import sys, voxtile; from voxtile.reading.channels import read_volume\n"
        f"read_volume({str(folder)!r})\n"
        "print([name for name in ('pydicom', 'highdicom', 'gdcm', 'openjpeg') "
        "if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
