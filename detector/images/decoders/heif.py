"""HEIC and HEIF, what iPhones save, through the optional pillow-heif (`pip install 'ocrfleet[heif]'`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any, BinaryIO

from detector.errors import CorruptImage, UnsupportedFormat
from detector.images.decode import raise_if_out_of_memory, to_rgb
from detector.images.decoders.damage import Decoded, refuse_unless_most
from detector.images.decoders.heif_boxes import piece_sizes, share_before_holes
from detector.images.header import PARSE_ERRORS, Header

_MOST_TILES = 1 << 16  # a grid has no more
_EVEN_BYTES, _EVEN_PIXELS = 512, 200  # what a tile takes that is really of one colour: 20 to 300 bytes, by x265


def heif_header(file: BinaryIO, name: str) -> Header:
    """The header of the primary picture. The library turns it upright by itself.

    Raises:
        UnsupportedFormat: the extra is not installed.
        CorruptImage: damaged.
    """
    with _damage_named(name, "header is damaged"):
        picture = _open(file, name)
        (width, height), more, channels = picture.size, len(picture) > 1, 4 if picture.has_alpha else 3
    if width < 1 or height < 1:
        raise CorruptImage(f"{name}: the HEIC header says {width}x{height} pixels")
    return Header("heif", width, height, channels=channels, description="HEIC", more=more)


def decode_heif(file: BinaryIO, header: Header, target: tuple[int, int], name: str) -> Decoded:
    """The primary picture, averaged down by a whole factor so that it stays no smaller than `target`; upright.

    Raises:
        CorruptImage: damaged or cut off, or less than `LEAST_SHARE` of its data are there before a hole of zeros.
    """
    share = share_before_holes(file)
    refuse_unless_most(share, header.description, name, "zeros in the place of its data, or its end is cut off")
    with _damage_named(name, "data is damaged or cut off"):
        picture = _open(file, name)
        image, tiling = picture.to_pillow(), picture.info.get("tiling")  # in newer versions
        del picture  # its pixels are copied
    if tiling:
        colours = image if image.mode == "RGB" else image.convert("RGB")
        share = min(share, _share_of_tiles(colours, tiling["tile_width"], tiling["tile_height"], piece_sizes(file)))
        refuse_unless_most(share, header.description, name, "tiles of it are spoilt")
        del colours
    return Decoded(to_rgb(image, target), share if share < 1.0 else None)


def _share_of_tiles(image: Any, wide: int, high: int, sizes: list[int]) -> float:
    """Of tiles those that are not of one colour without red and blue: libheif leaves those so that it could not decode.

    The picture may have been turned since: its first tile is at any of its corners.

    Args:
        image: Pillow's.
        wide: of a tile, pixels.
        high: likewise.
        sizes: of the tiles' data, bytes; of few a tile is really of one colour.
    """
    count: int = -(-image.width // max(1, wide)) * -(-image.height // max(1, high))
    if not 1 < count <= min(_MOST_TILES, len(sizes)):
        return 1.0
    columns = [(left, min(left + wide, image.width)) for left in range(0, image.width, wide)]
    rows = [(top, min(top + high, image.height)) for top in range(0, image.height, high)]
    turned_columns = [(image.width - right, image.width - left) for left, right in columns]
    turned_rows = [(image.height - bottom, image.height - top) for top, bottom in rows]
    dark: int = max(
        sum(_is_dark(image, (left, top, right, bottom)) for (left, right), (top, bottom) in product(across, down))
        for across, down in product((columns, turned_columns), (rows, turned_rows))
    )
    few = sum(size <= max(_EVEN_BYTES, wide * high // _EVEN_PIXELS) for size in sizes)
    return 1.0 - max(0, dark - few) / count


def _is_dark(image: Any, place: tuple[int, int, int, int]) -> bool:
    if any(image.getpixel(place[:2])[::2]):  # most are seen by their first pixel
        return False
    red, green, blue = image.crop(place).getextrema()
    return bool(red[1] == blue[1] == 0 and green[0] == green[1])


def _open(file: BinaryIO, name: str) -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise UnsupportedFormat(
            f"{name}: a HEIC picture; pip install 'ocrfleet[heif]' where the workers run, or convert it to JPEG"
        ) from None
    file.seek(0)
    return pillow_heif.open_heif(file, convert_hdr_to_8bit=True)


@contextmanager
def _damage_named(name: str, what: str) -> Iterator[None]:
    """What pillow-heif raises for a file becomes ours; of one without pictures it has no size: an IndexError.

    Raises:
        CorruptImage: whatever it was, but for memory.
    """
    try:
        yield
    except PARSE_ERRORS as error:
        raise_if_out_of_memory(error)
        reason = " ".join(str(error).split())  # libheif ends its messages with a newline
        raise CorruptImage(f"{name}: the HEIC {what} ({reason})") from error
