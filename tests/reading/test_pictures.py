"""Pictures are volumes of one plane: every value exact, or refused with the reason."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from grids import by_simpleitk
from pictures import COLOURS, GREY, RNG, png, saved
from PIL import Image

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.models.spec import Label
from voxtile.reading.channels import (
    own_channels,
    read_channels,
    read_mask,
    read_scan,
    survey_channels,
    survey_scan,
)
from voxtile.reading.reference import on_grid_of, read_reference
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import Volume

MM = ReadPolicy(pixel_mm=(1.0,))
LABELS = (Label(value=1, name="cell", color="#e6194b"), Label(value=2, name="b", color="#e6194b"))
ORIENTATION = 0x112


def refused(path: Path, policy=MM, read=read_scan) -> CaseError:
    with pytest.raises(CaseError) as caught:
        read(path, policy) if read is read_scan else read(path)
    return caught.value


def codes(path: Path, policy=MM) -> list[str]:
    """Notices, the same from the header alone."""
    scan, survey = read_scan(path, policy), survey_scan(path, policy)
    assert scan.notices == survey.notices
    assert survey.volume.array.shape == scan.volume.array.shape
    assert survey.volume.array.dtype == scan.volume.array.dtype
    assert not survey.volume.array.any()
    np.testing.assert_array_equal(survey.volume.affine, scan.volume.affine)
    return [notice.code for notice in scan.notices]


def plane(array: np.ndarray) -> np.ndarray:
    """Rows of pixels as a volume of one plane."""
    return np.swapaxes(array, 0, 1)[:, :, np.newaxis]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".PNG"])
@pytest.mark.parametrize("array", [GREY, COLOURS])
def test_grey_and_colours_are_exact(tmp_path: Path, suffix: str, array) -> None:
    path = saved(tmp_path / f"a{suffix}", array)
    scan = read_scan(path, MM)
    np.testing.assert_array_equal(scan.volume.array, plane(array))
    assert scan.volume.array.dtype == np.uint8
    assert scan.volume.is_picture
    assert scan.volume.orientation == "LPS"
    assert scan.channels == (("red", "green", "blue") if array.ndim == 3 else ())
    assert codes(path) == []


def test_a_picture_lies_as_simpleitk_has_it(tmp_path: Path) -> None:
    stack = RNG.integers(0, 99, (3, 7, 5), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    voxels, affine = by_simpleitk(tmp_path / "a.tif")
    volume = read_scan(tmp_path / "a.tif", ReadPolicy(pages="stack", pixel_mm=(1.0,))).volume
    np.testing.assert_array_equal(volume.array, voxels)
    np.testing.assert_array_equal(volume.affine, affine)


def test_a_jpeg_is_what_pillow_decodes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", COLOURS)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_scan(path, MM).volume.array, plane(np.asarray(image)))


@pytest.mark.parametrize("kind", ["u1", "u2", ">u2", "i2", "i4", "f4"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_grey_tiff_keeps_its_numbers(tmp_path: Path, kind, compression, tile) -> None:
    array = (np.arange(40 * 50).reshape(40, 50) - (5 if kind in ("i2", "i4") else 0)).astype(kind)
    order = ">" if kind[0] == ">" else None
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, compression=compression, tile=tile, byteorder=order)
    np.testing.assert_array_equal(read_scan(path, MM).volume.array, plane(array))
    assert codes(path) == []


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_of_16_bits_keep_their_numbers(tmp_path: Path, planar: str) -> None:
    array = COLOURS.astype(np.uint16) * 257
    stored = np.moveaxis(array, -1, 0) if planar == "separate" else array
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_scan(path, MM).volume.array, plane(array))
    assert codes(path) == []
    path.write_bytes(path.read_bytes()[:-20])
    assert refused(path).code in ("truncated", "corrupt")
    error = refused(png(tmp_path / "a.png", array.astype(">u2"), 16, 2))
    assert error.code == "picture_depth"
    assert "save it as TIFF" in error.sentence


def test_16_bit_grey_png(tmp_path: Path) -> None:
    array = (GREY.astype(int) * 200).astype(">u2")
    path = png(tmp_path / "a.png", array, 16, 0)
    np.testing.assert_array_equal(read_scan(path, MM).volume.array, plane(array))


def test_transparency_and_palettes_of_a_scan(tmp_path: Path) -> None:
    alpha = np.dstack([COLOURS, GREY])
    path = saved(tmp_path / "a.png", alpha)
    np.testing.assert_array_equal(read_scan(path, MM).volume.array, plane(COLOURS))
    assert codes(path) == ["alpha_dropped"]
    palette = Image.fromarray(GREY % 4).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.save(tmp_path / "p.png")
    red = read_scan(tmp_path / "p.png", MM).volume.array[..., 0]
    np.testing.assert_array_equal(red, plane((GREY % 4) * 30 + 10))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_a_turned_picture_is_turned_as_viewers_show_it(tmp_path, orientation, suffix) -> None:
    shown = np.kron(GREY, np.ones((8, 8), np.uint8))
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.T,
        6: np.rot90(shown),
        7: shown[::-1, ::-1].T,
        8: np.rot90(shown, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 100} if suffix == ".jpg" else {}
    path = saved(tmp_path / f"a{suffix}", np.ascontiguousarray(stored), exif=exif, **options)
    array = read_scan(path, MM).volume.array.astype(int)
    assert array.shape == plane(shown).shape
    assert np.abs(array - plane(shown)).max() <= (3 if suffix == ".jpg" else 0)
    assert codes(path) == (["picture_turned"] if orientation > 1 else [])


def test_pages_are_refused_chosen_or_stacked(tmp_path: Path) -> None:
    pages = RNG.integers(0, 256, (3, 7, 5), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pages, photometric="minisblack")
    error = refused(path)
    assert error.code == "several_volumes"
    assert "3 pages" in error.sentence
    assert "--pages stack" in error.option
    one = read_scan(path, ReadPolicy(volume=1)).volume.array
    np.testing.assert_array_equal(one, plane(pages[1]))
    assert refused(path, ReadPolicy(volume=3)).code == "no_such_volume"
    stack = read_scan(path, ReadPolicy(pages="stack", pixel_mm=(0.5, 0.4, 3))).volume
    np.testing.assert_array_equal(stack.array, pages.T)
    assert stack.spacing_mm == (0.5, 0.4, 3)
    np.testing.assert_array_equal(read_mask(path).volume.array, pages.T)


def test_a_smaller_copy_is_no_page_and_pages_of_two_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(GREY)
        file.write(GREY[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_scan(path, MM).volume.array, plane(GREY))
    with tifffile.TiffWriter(path) as file:
        file.write(GREY)
        file.write(GREY[::2, ::2])
    assert refused(path, ReadPolicy(pages="stack")).code == "mixed_size"


@pytest.mark.parametrize(
    ("suffix", "options", "spacing"),
    [
        (".png", {}, None),
        (".png", {"dpi": (254, 508)}, (0.1, 0.05)),
        (".bmp", {"dpi": (254, 254)}, (0.1, 0.1)),
        (".jpg", {"dpi": (254, 254)}, (0.1, 0.1)),
        (".jpg", {"dpi": (72, 72)}, None),
        (".png", {"dpi": (96, 96)}, None),
        (".tif", {"dpi": (25.4, 50.8)}, (1, 0.5)),
        (".tif", {"resolution_unit": "cm", "resolution": 100.0}, (0.1, 0.1)),
    ],
)
def test_the_spacing_is_that_of_the_file_or_1_mm(tmp_path, suffix, options, spacing) -> None:
    path = saved(tmp_path / f"a{suffix}", **options)
    volume = read_scan(path).volume
    np.testing.assert_allclose(volume.spacing_mm, (*(spacing or (1, 1)), 1), rtol=1e-3)
    assert codes(path, ReadPolicy()) == ["picture_spacing"]
    assert read_scan(path, ReadPolicy(pixel_mm=(2.0,))).volume.spacing_mm == (2, 2, 1)
    assert read_scan(path, ReadPolicy(pixel_mm=(2.0, 3.0))).volume.spacing_mm == (2, 3, 1)


def test_imagej_says_the_spacing_in_its_unit(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    stack = RNG.integers(0, 256, (3, 7, 5), np.uint8)
    meta = {"unit": "um", "spacing": 5.0, "axes": "ZYX"}
    tifffile.imwrite(path, stack, imagej=True, resolution=(2.0, 4.0), metadata=meta)
    volume = read_scan(path, ReadPolicy(pages="stack")).volume
    np.testing.assert_allclose(volume.spacing_mm, (0.5e-3, 0.25e-3, 5e-3))


def test_a_size_of_pixels_is_for_pictures(tmp_path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(GREY[..., None], np.eye(4)), tmp_path / "a.nii")
    assert refused(tmp_path / "a.nii").code == "pixel_mm"


def test_damage_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", COLOURS)
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert refused(path).code in ("corrupt", "truncated", "not_picture")
        path.write_bytes(content[:place])
        assert refused(path).code in ("empty_file", "truncated", "corrupt", "not_picture")
    for suffix in (".jpg", ".tif", ".bmp"):
        path = saved(tmp_path / f"a{suffix}", np.tile(COLOURS, (20, 20, 1)))
        path.write_bytes(path.read_bytes()[:-900])
        assert refused(path).code in ("corrupt", "truncated", "not_picture")


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "empty_file"), (b"<html>", "not_picture"), (b"GIF89a" + bytes(99), "not_picture")],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert refused(tmp_path / "a.png").code == code
    (tmp_path / "b.png").mkdir()
    with pytest.raises(CaseError):
        read_scan(tmp_path / "b.png")


def test_a_bomb_is_refused_by_its_size(tmp_path: Path) -> None:
    error = refused(png(tmp_path / "a.png", np.broadcast_to(np.uint8(0), (20000, 20000)), 8, 0))
    assert error.code == "too_large"
    assert "pixels" in error.sentence


def test_unusual_modes_are_refused(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).convert("CMYK").save(tmp_path / "a.jpg")
    assert refused(tmp_path / "a.jpg").code == "picture_mode"


# Channels.


def test_one_file_gives_the_channels_red_green_and_blue(tmp_path: Path) -> None:
    case = Case("c1", (("image", saved(tmp_path / "a.png", COLOURS)),))
    assert own_channels(case) == ("red", "green", "blue")
    scan = read_channels(case, ("red", "green", "blue"))
    np.testing.assert_array_equal(scan.volume.array, plane(COLOURS))
    assert [notice.code for notice in scan.notices] == ["picture_spacing"]
    mixed = read_channels(case, ("blue", "red")).volume.array
    np.testing.assert_array_equal(mixed, plane(COLOURS)[..., [2, 0]])
    np.testing.assert_array_equal(
        read_channels(case, ("green",)).volume.array, plane(COLOURS)[..., 1]
    )
    assert survey_channels(case, ("red", "green", "blue")).volume.shape == (5, 7, 1)
    with pytest.raises(CaseError, match="channel image is needed"):
        read_channels(case, ("image",))
    own = Case("c1", (("red", case.images[0][1]), ("blue", case.images[0][1])))
    np.testing.assert_array_equal(
        read_channels(own, ("red", "blue")).volume.array, plane(COLOURS)[..., [0, 2]]
    )


def test_a_grey_picture_is_all_colours_with_a_notice(tmp_path: Path) -> None:
    case = Case("c1", (("image", saved(tmp_path / "a.png")),))
    assert own_channels(case) == ("image",)
    scan = read_channels(case, ("red", "green", "blue"))
    np.testing.assert_array_equal(scan.volume.array, np.stack([plane(GREY)] * 3, axis=-1))
    assert [notice.code for notice in scan.notices] == ["picture_spacing", "grey_picture"]


def test_channels_of_volumes_are_never_colours(tmp_path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(GREY[..., None], np.eye(4)), tmp_path / "a.nii")
    case = Case("c1", (("image", tmp_path / "a.nii"),))
    with pytest.raises(CaseError, match="needs channels red, green, blue"):
        read_channels(case, ("red", "green", "blue"))


# Masks.


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_grey_values_are_labels(tmp_path: Path, suffix: str) -> None:
    image = read_scan(saved(tmp_path / "image.png"), MM).volume
    path = saved(tmp_path / f"a{suffix}", GREY % 3)
    mask, notices = read_reference(path, image, LABELS)
    np.testing.assert_array_equal(mask.array, plane(GREY % 3))
    assert not notices
    assert mask.is_picture
    assert read_mask(path, survey=True).volume.shape == (5, 7, 1)


def test_numbers_of_a_coloured_palette_are_labels_and_grey_ones_are_values(tmp_path: Path) -> None:
    palette = Image.fromarray(GREY % 3).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "colours.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "colours.png").volume.array, plane(GREY % 3))
    palette.putpalette([0, 0, 0, 127, 127, 127, 255, 255, 255])
    palette.save(tmp_path / "grey.png")
    expected = np.array([0, 127, 255])[plane(GREY % 3)]
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png").volume.array, expected)


def test_black_and_white_is_0_and_255_however_it_is_stored(tmp_path: Path) -> None:
    white = (GREY > 99) * np.uint8(255)
    saved(tmp_path / "a.png", white)
    Image.fromarray(white).convert("1").save(tmp_path / "b.png")
    saved(tmp_path / "c.png", np.dstack([white] * 3))
    saved(tmp_path / "d.png", np.dstack([white] * 3 + [np.full_like(white, 255)]))
    image = read_scan(saved(tmp_path / "image.png"), MM).volume
    for name in "abcd":
        path = tmp_path / f"{name}.png"
        np.testing.assert_array_equal(read_mask(path).volume.array, plane(white))
        # For a model with one label, white can only be that label.
        mask, notices = read_reference(path, image, LABELS[:1])
        np.testing.assert_array_equal(mask.array, plane(white > 0))
        assert [notice.code for notice in notices] == ["label_binary"]
        with pytest.raises(CaseError, match="--label-map, such as 255:2"):
            read_reference(path, image, LABELS)
        mask, notices = read_reference(path, image, LABELS, {255: 2})
        np.testing.assert_array_equal(mask.array, plane(white > 0) * 2)
        assert not notices


@pytest.mark.parametrize(
    ("name", "array", "code"),
    [
        ("a.jpg", GREY % 3, "label_lossy"),
        ("a.png", COLOURS, "label_colours"),
        ("a.png", np.dstack([GREY % 3] * 3 + [GREY]), "label_colours"),
    ],
)
def test_values_that_are_no_labels_are_refused(tmp_path: Path, name, array, code) -> None:
    error = refused(saved(tmp_path / name, array), read=read_mask)
    assert error.code == code


def test_a_lossy_tiff_is_no_mask(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", GREY % 3, compression="jpeg")
    assert refused(path, read=read_mask).code == "label_lossy"


def test_masks_of_a_picture_have_its_grid_whatever_their_spacing(tmp_path: Path) -> None:
    image = read_scan(saved(tmp_path / "a.png"), ReadPolicy(pixel_mm=(0.5,))).volume
    mask = read_mask(saved(tmp_path / "m.png", GREY % 3, dpi=(300, 300))).volume
    placed, _ = on_grid_of(mask, image, "label")
    np.testing.assert_array_equal(placed.affine, image.affine)
    written = Volume(mask.array, np.diag([-0.5, -0.5, 1, 1]))
    np.testing.assert_array_equal(on_grid_of(written, image, "prediction")[0].array, mask.array)
    for other in (np.diag([0.5, 0.5, 1, 1]), np.diag([-0.5, 0.5, 1, 1])):
        with pytest.raises(CaseError, match="no position in the world"):
            on_grid_of(Volume(mask.array, other), image, "label")
    small = read_mask(saved(tmp_path / "s.png", GREY[:6] % 3)).volume
    with pytest.raises(CaseError, match="as a picture of the same size"):
        on_grid_of(small, image, "label")
