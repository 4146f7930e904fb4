"""Decode slices and rescale their values to voxels. Runs in the child process only."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGExtended12Bit

from voxtile.errors import CaseError, Notice, counted
from voxtile.reading.isolation import Workspace

from .header import PixelStore, Slice

# The decoders for each kind of compression, the strictest first. Pillow is not one of them: it
# ignores damage, and reads only 8 bits.
_PLUGINS = {
    "JPEG 2000": ("pylibjpeg", "gdcm"),
    "High-Throughput JPEG 2000": ("pylibjpeg",),
    "JPEG-LS": ("pyjpegls", "gdcm", "pylibjpeg"),
    "JPEG": ("gdcm", "pylibjpeg"),
    "RLE": ("pydicom", "pylibjpeg", "gdcm"),
}
_ITEM = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0" + bytes(4)


@dataclass(slots=True, eq=False)
class Decoder:
    """Decodes the slices of one scan, and counts what its notices report."""

    workspace: Workspace
    _unused_bits: int = 0
    _padding: int = 0
    _open_ended: int = 0

    def stored(self, slices: Sequence[Slice]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the index and the stored values, shape (rows, columns), of each slice.

        Each frame is decoded once, file by file, so the order is not that of `slices`.
        """
        by_file: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        stores = {}
        for index, piece in enumerate(slices):
            by_file[piece.store.place.number][piece.frame].append(index)
            stores[piece.store.place.number] = piece.store
        for number, frames in by_file.items():
            wanted = sorted(frames)
            pictures = self._frames(stores[number], wanted)
            for frame, picture in zip(wanted, pictures, strict=True):
                for index in frames[frame]:
                    row, column = slices[index].corner
                    tile = picture[row:, column:]
                    yield index, tile[: slices[index].rows, : slices[index].columns]

    def same(self, one: Slice, other: Slice) -> bool:
        """Whether two slices have equal voxels."""
        if (one.slope, one.intercept) != (other.slope, other.intercept):
            return False
        ((_, first),) = self.stored([one])
        ((_, second),) = self.stored([other])
        return bool(np.array_equal(first, second))

    def notices(self) -> list[Notice]:
        """Return notices about the slices decoded so far."""
        notices = []
        if self._unused_bits:
            sentence = (
                f"bits beyond the pixel value are not 0 in {counted(self._unused_bits, 'frame')}; "
                "ignored (PS3.5 section 8.1.1)"
            )
            notices.append(Notice("unused_bits", sentence))
        if self._padding:
            sentence = f"bytes after the last pixel in {counted(self._padding, 'file')}; ignored"
            notices.append(Notice("pixel_padding", sentence))
        if self._open_ended:
            sentence = (
                f"compressed pixels without an end mark in {counted(self._open_ended, 'file')}; "
                "their last fragment is complete"
            )
            notices.append(Notice("no_delimiter", sentence))
        return notices

    def _frames(self, store: PixelStore, wanted: list[int]) -> Iterator[np.ndarray]:
        """Yield frames of a file, shape (rows, columns), as stored."""
        self.workspace.at(str(store.place))
        if wanted[-1] >= store.frames:
            raise _undecodable(store, "a frame is missing")
        try:
            unpack = self._encapsulated if store.length is None else self._native
            for frame in unpack(store, wanted):
                self.workspace.at(str(store.place))  # report progress within a long file
                if frame.shape != (store.rows, store.columns):
                    raise _undecodable(store, f"a frame has shape {frame.shape}")
                yield frame
        except (CaseError, MemoryError):
            raise
        except OSError as error:
            raise CaseError(
                "unreadable", f"{store.place} cannot be read ({error.strerror})"
            ) from error
        except Exception as error:  # codecs raise anything on damaged data
            raise _undecodable(store, type(error).__name__) from error

    def _native(self, store: PixelStore, wanted: list[int]) -> Iterator[np.ndarray]:
        """Yield frames without compression (PS3.5 section 8.2)."""
        kind = {"integer": "i" if store.signed else "u"}.get(store.kind, "f")
        dtype = np.dtype(f"{'<' if store.little_endian else '>'}{kind}{store.allocated // 8}")
        count = store.rows * store.columns
        each = count * dtype.itemsize
        excess = (store.length or 0) - each * store.frames
        if excess not in (0, 1) and _starts_with_item(store):
            raise _compressed(store)
        if excess < 0 or excess >= max(each, 2):
            raise CaseError(
                "truncated" if excess < 0 else "damaged",
                f"{store.place} has {store.length} bytes of pixel data, but its header promises "
                f"{each * store.frames} ({counted(store.frames, 'frame')} of {store.rows} x "
                f"{store.columns}); copy it again, or leave it out",
            )
        self._padding += excess > 1
        if store.syntax == DeflatedExplicitVRLittleEndian:
            with store.place.open() as file:
                content = dcmread(file).PixelData
            for frame in wanted:
                flat = np.frombuffer(content, dtype, count, offset=frame * each)
                yield self._used_bits(flat.reshape(store.rows, store.columns), store)
            return
        swapped = store.words and not store.little_endian and dtype.itemsize == 1
        with store.place.open() as file:
            for frame in wanted:
                begin = frame * each
                if swapped:
                    # Read whole words: a frame with an odd number of bytes shares a word.
                    file.seek(store.offset + begin // 2 * 2)
                    size = (-(-(begin + each) // 2) - begin // 2) * 2
                    pairs = np.frombuffer(file.read(size), np.uint16)
                    flat = pairs.byteswap().view(dtype)[begin % 2 :][:count]
                else:
                    file.seek(store.offset + begin)
                    content = file.read(each)
                    flat = np.frombuffer(content, dtype, len(content) // dtype.itemsize)
                if flat.size < count:
                    raise CaseError(
                        "truncated",
                        f"{store.place} ends within its pixel data; copy it again, or leave it out",
                    )
                yield self._used_bits(flat.reshape(store.rows, store.columns), store)

    def _used_bits(self, stored: np.ndarray, store: PixelStore) -> np.ndarray:
        """Return the values of the stored bits, in the machine's byte order."""
        native: np.ndarray = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        unused = store.allocated - store.stored
        if store.kind != "integer" or not unused:
            return native
        used: np.ndarray = np.left_shift(native, unused)
        np.right_shift(used, unused, out=used)
        self._unused_bits += not np.array_equal(used, native)
        return used

    def _encapsulated(self, store: PixelStore, wanted: list[int]) -> Iterator[np.ndarray]:
        """Yield compressed frames (PS3.5 annex A.4)."""
        plugin = _plugin(store)
        decoded = get_decoder(store.syntax).iter_array(
            self._fragments(store),
            indices=wanted,
            raw=True,
            decoding_plugin=plugin,
            rows=store.rows,
            columns=store.columns,
            number_of_frames=store.frames,
            samples_per_pixel=1,
            photometric_interpretation=store.photometric,
            pixel_keyword="PixelData",
            pixel_representation=int(store.signed),
            bits_allocated=store.allocated,
            bits_stored=store.stored,
        )
        for frame, _ in decoded:
            yield frame

    def _fragments(self, store: PixelStore) -> bytes:
        """Return the items of encapsulated pixel data, if they are complete."""
        with store.place.open() as file:
            file.seek(store.offset)
            content = file.read()
        at = items = last = 0
        while not _SEQUENCE_END.startswith(content[at : at + 8]):
            tag = content[at : at + 4]
            length = int.from_bytes(content[at + 4 : at + 8], "little")
            if len(tag) < 4 or at + 8 + length > len(content):
                raise _cut(store)
            if tag != _ITEM:
                raise _undecodable(store, "its fragments are out of order")
            last, at = at + 8, at + 8 + length
            items += 1
        rle = store.syntax.name.startswith("RLE")
        if len(content) < at + 8:
            # Without the end mark, find the end of the last frame: RLE has one fragment for each
            # frame, and the frames of other codecs end in a marker.
            if not (rle or content[last:at].rstrip(b"\0").endswith(b"\xff\xd9")):
                raise _cut(store)
            self._open_ended += 1
        fragments = max(items - 1, 0)  # the first item is the table of offsets
        if fragments < store.frames or (rle and fragments > store.frames == 1):
            few = len(content) < at + 8
            raise (_cut(store) if few else _undecodable(store, _numbered(store.frames, fragments)))
        if fragments == store.frames:
            # Some programs write a wrong table; if each frame is one fragment, no table is needed.
            first = 8 + int.from_bytes(content[4:8], "little")
            return _ITEM + bytes(4) + content[first:at]
        return content[:at]


def _plugin(store: PixelStore) -> str:
    """Return the decoder to use."""
    try:
        decoder = get_decoder(store.syntax)
    except NotImplementedError as error:
        raise CaseError(
            "unsupported_syntax",
            f"{store.place} has a transfer syntax that is not supported; convert it, for instance "
            "with gdcmconv --raw",
        ) from error
    name = store.syntax.name
    wanted = next((plugins for start, plugins in _PLUGINS.items() if name.startswith(start)), ())
    if not store.syntax.is_encapsulated:
        raise _compressed(store)
    extra = "dicom-codecs"
    if store.syntax == JPEGExtended12Bit and store.stored > 8:
        wanted, extra = ("pylibjpeg",), "dicom-codecs-gpl"
    for plugin in wanted:
        if plugin in decoder.available_plugins:
            return plugin
    raise CaseError(
        "missing_codec",
        f"{store.place} is compressed ({name.split(' (')[0]}) and its decoder is not installed; "
        f'run: pip install "voxtile[{extra}]"',
    )


def _starts_with_item(store: PixelStore) -> bool:
    """Whether pixel data begin with a table of offsets, as compressed ones do."""
    with store.place.open() as file:
        file.seek(store.offset)
        head = file.read(8)
    return head[:4] == _ITEM and int.from_bytes(head[4:], "little") in (0, 4 * store.frames)


def _compressed(store: PixelStore) -> CaseError:
    """Return the error of compressed pixels in a file that states no compression."""
    return CaseError(
        "unsupported_syntax",
        f"{store.place} states a transfer syntax without compression, but its pixels are "
        "compressed; export it again",
    )


def _cut(store: PixelStore) -> CaseError:
    """Return the error of compressed pixels that are not complete."""
    return CaseError(
        "truncated",
        f"{store.place} ends within its compressed pixel data; copy it again, or leave it out",
    )


def _numbered(frames: int, fragments: int) -> str:
    """Return what a message says about a wrong number of fragments."""
    return f"{counted(frames, 'frame')} but {counted(fragments, 'fragment')}"


def _undecodable(store: PixelStore, detail: str) -> CaseError:
    """Return the error of pixels that cannot be decoded."""
    return CaseError(
        "undecodable",
        f"{store.place} has pixel data that cannot be decoded ({detail}); copy it again, or leave "
        "it out",
    )


def voxels(slices: Sequence[Slice], planes: Sequence[int], decoder: Decoder) -> np.ndarray:
    """Return the rescaled values, shape (slices, rows, columns), in the workspace.

    `planes` has the plane of each slice; other planes stay 0. If all slopes and
    intercepts are whole numbers, the array has the narrowest integers that hold
    ``stored * slope + intercept`` (at least int16); else float32, rounded once
    from float64. If pixels are stored as float64, the array is float64.
    """
    shape = (max(planes) + 1, slices[0].rows, slices[0].columns)
    kinds = {piece.store.kind for piece in slices}
    whole = all(piece.slope.is_integer() and piece.intercept.is_integer() for piece in slices)
    if kinds == {"integer"} and whole:
        return _integers(slices, planes, decoder, shape)
    wide = "float64" in kinds
    out = decoder.workspace.allocate(shape, np.dtype(np.float64 if wide else np.float32))
    with np.errstate(over="ignore"):
        for index, stored in decoder.stored(slices):
            piece = slices[index]
            out[planes[index]] = stored * np.float64(piece.slope) + np.float64(piece.intercept)
    return out


def _integers(
    slices: Sequence[Slice],
    planes: Sequence[int],
    decoder: Decoder,
    shape: tuple[int, int, int],
) -> np.ndarray:
    """Return whole values; the array becomes wider when a value does not fit."""
    out = decoder.workspace.allocate(shape, np.dtype(np.int16))
    for index, stored in decoder.stored(slices):
        slope, intercept = int(slices[index].slope), int(slices[index].intercept)
        bounds = [int(stored.min()) * slope + intercept, int(stored.max()) * slope + intercept]
        needed = _narrowest(min(bounds), max(bounds), slices[index])
        if needed.itemsize > out.dtype.itemsize:
            wider = decoder.workspace.allocate(shape, needed)
            wider[...] = out
            out = wider
        plane = out[planes[index]]
        if slope == 1 and -(2**15) <= intercept < 2**15:
            # Modular arithmetic in this type is exact, because the result fits.
            np.copyto(plane, stored, casting="unsafe")
            plane += plane.dtype.type(intercept)
        else:
            np.copyto(plane, stored.astype(np.int64) * slope + intercept, casting="unsafe")
    return out


def _narrowest(lowest: int, highest: int, piece: Slice) -> np.dtype[Any]:
    """Return the narrowest integer type, at least int16, that holds a range."""
    for name in ("int16", "int32", "int64"):
        info = np.iinfo(name)
        if info.min <= lowest and highest <= info.max:
            return np.dtype(name)
    raise CaseError(
        "bad_rescale",
        f"{piece.store.place} has rescaled values that need more than 64 bits; export it again",
    )
