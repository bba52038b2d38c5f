"""What a file says about itself before any pixel is decoded: format, size, orientation, memory behaviour."""

from __future__ import annotations

import os
import struct
import time
import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace
from importlib import import_module
from io import BufferedReader, FileIO
from typing import Any, BinaryIO, cast

from PIL import Image, UnidentifiedImageError

from detector.errors import CorruptImage, NotFound
from detector.images import tiff
from detector.images.regular_file import FewReads, ReadFile, facts_of

ORIENTATION_TAG = 274  # EXIF 2.3, tag 0x0112

PARSE_ERRORS = (
    *(OSError, SyntaxError, ValueError, KeyError, IndexError, EOFError, TypeError, AttributeError),
    *(RuntimeError, OverflowError, ZeroDivisionError, struct.error, Image.DecompressionBombError),
)
"""What Pillow and our own parsers raise for damaged files; MemoryError is not among them and passes through."""

SETTLED_S, _CHAINS = 2.0, 4
"""A file changed less long ago may change again and look the same; TIFFs of which it stays known where pages are."""

_PILLOW = {  # kind -> (Pillow's format name, plugin); one plugin is imported, never all forty
    "jpeg": ("JPEG", "JpegImagePlugin"),
    "tiff": ("TIFF", "TiffImagePlugin"),
    "gif": ("GIF", "GifImagePlugin"),
    "bmp": ("BMP", "BmpImagePlugin"),
    "ppm": ("PPM", "PpmImagePlugin"),
    "jp2": ("JPEG2000", "Jpeg2KImagePlugin"),
    "avif": ("AVIF", "AvifImagePlugin"),
    "png": ("PNG", "PngImagePlugin"),
    "webp": ("WEBP", "WebPImagePlugin"),
    "dib": ("DIB", "BmpImagePlugin"),
    "tga": ("TGA", "TgaImagePlugin"),
    "pcx": ("PCX", "PcxImagePlugin"),
}
VIPS_LACKS = {6: "old-style JPEG", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL"}
"""TIFF compressions that the libvips wheel was built without; Pillow has most of them."""


@dataclass(frozen=True, slots=True)
class Header:
    """One page's header.

    Attributes:
        kind: jpeg, png, tiff, webp, gif, bmp, dib, ppm, jp2, avif, heif, tga, pcx or pdf.
        width, height: size in pixels as stored, before the orientation is applied.
        orientation: EXIF value, 1 to 8 (1 = upright).
        channels: samples per pixel, alpha included.
        bytes_per_pixel: of the decoded, unshrunk picture.
        streams: whether a decoder can hand it out row by row; of a TIFF, whether libvips reads it at all.
        held_bytes: memory that the decoder needs besides the rows (JPEG coefficients, a whole interlaced PNG).
        data_start: JPEG only: where the first scan begins.
        directory: TIFF only: the page's number among all of the file's pictures, as libtiff counts them.
        place: TIFF only: where its directory begins, bytes.
        sub: TIFF only: which of that picture's sub-directories it is, from 0; -1: it is that picture.
        compression: TIFF only: as its tag 259 says.
        extra: TIFF only: extra samples that are not transparency.
        is_guessed: TIFF only: what its samples mean is not said (tag 262), and guessed.
        more: whether the file has more pictures, which are no pages here.
        description: what to call it in a message, such as "progressive JPEG".
    """

    kind: str
    width: int
    height: int
    orientation: int = 1
    channels: int = 3
    bytes_per_pixel: int = 3
    streams: bool = False
    held_bytes: int = 0
    data_start: int = 0
    directory: int = 0
    place: int = 0
    sub: int = -1
    compression: int = 0
    extra: int = 0
    is_guessed: bool = False
    more: bool = False
    description: str = ""

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) in pixels once the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(file: BinaryIO, kind: str, name: str, page: int = 0) -> Header:
    """Reads one page's header (not for PDF, see `images.pdf`).

    Raises:
        CorruptImage: the header is damaged or cut off.
        NotFound: there is no such page.
    """
    if page != 0 and kind != "tiff":
        raise NotFound(f"{name}: has one page, page {page} (counted from 0) was asked for")
    try:
        (few := cast(BinaryIO, FewReads(file))).seek(0)
        if kind == "png":
            header = _png(few)
        elif kind == "webp":
            header = _webp(few)
        elif kind == "tiff":
            header = _tiff(file, page, name)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "Corrupt EXIF data": we answer by ourselves, not on stderr
                header = _pillow(few, kind)
    except PARSE_ERRORS as error:
        if isinstance(error, OSError) and error.errno:  # the disk or the network, not the picture
            raise NotFound(f"{name}: cannot be read: {error.strerror}") from error
        raise CorruptImage(f"{name}: the {kind.upper()} header is damaged ({_reason(error)})") from error
    if header.width < 1 or header.height < 1:
        raise CorruptImage(f"{name}: the {kind.upper()} header says {header.width}x{header.height} pixels")
    return header if header.description else replace(header, description=kind.upper())


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # says no more than that, and names a Python object
        return "or its samples are of a kind not read here: save it again with 8 bits a sample"
    return str(error)


def open_pillow(file: BinaryIO, kind: str) -> Image.Image:
    """Pillow's lazy image of exactly this kind; nothing is decoded yet.

    Not by `Image.open`, which refuses more than `Image.MAX_IMAGE_PIXELS`: `images.budget` decides what is too large, by
    memory and with a clearer message, and that setting is the host program's.

    Raises:
        UnidentifiedImageError: not of this kind after all, or of a flavour that Pillow does not read.
    """
    name, plugin = _PILLOW[kind]
    import_module(f"PIL.{plugin}")
    factory, accept = Image.OPEN[name]
    file.seek(0)
    if accept and accept(file.read(16)) is not True:
        raise UnidentifiedImageError(f"not {name}")
    file.seek(0)
    try:
        return factory(file, "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:  # as Image.open has it
        raise UnidentifiedImageError(f"not {name}") from error


def count_frames(file: BinaryIO, name: str) -> int:
    """Pages of a TIFF (directories are walked, no pixel is decoded).

    Raises:
        CorruptImage: not even the first directory can be read.
    """
    return len(_chain(file, name).places)


_chains: OrderedDict[tuple[int, ...], tiff.Chain] = OrderedDict()


def _chain_of(file: BinaryIO) -> tiff.Chain:
    """Of the same file as before it is not read again: 20,000 directories take 0.4 s, for each page."""
    if type(file) is not BufferedReader or type(file.raw) not in (FileIO, ReadFile):
        return tiff.read_chain(file)
    now = os.fstat(file.fileno())
    facts = facts_of(now)
    chain = _chains.pop(facts, None) or tiff.read_chain(file)
    if time.time() - max(now.st_mtime, now.st_ctime) > SETTLED_S:
        _chains[facts] = chain
        while len(_chains) > _CHAINS:
            _chains.popitem(last=False)
    return chain


def _chain(file: BinaryIO, name: str) -> tiff.Chain:
    try:
        return _chain_of(file)
    except tiff.BrokenTiffError as error:
        raise CorruptImage(f"{name}: the TIFF directory is damaged ({error})") from error


def _tiff(file: BinaryIO, page: int, name: str) -> Header:
    chain = _chain(file, name)
    if not 0 <= page < (count := len(chain.places)):
        said = f"; the rest cannot be read: {chain.broken}" if chain.broken else ""
        raise NotFound(f"{name}: has {count} pages, page {page} (counted from 0) was asked for{said}")
    found = tiff.read_page(file, chain, page)
    size = found.samples * max(1, (found.bits + 7) // 8)
    if found.photometric == 3:  # a palette becomes colours
        size = 3 * size
    lacks = found.compression in VIPS_LACKS or (found.tiled and found.planar)
    lacks = lacks or found.bits not in (1, 2, 4, 8, 16, 32, 64)
    width, height, orientation = found.width, found.height, found.orientation
    if lacks and orientation != 1:  # Pillow turns a TIFF upright by itself
        width, height, orientation = (height, width, 1) if orientation >= 5 else (width, height, 1)
    # Uncompressed and JPEG data are read line by line; of others a strip or tile is unpacked whole.
    held = 0 if found.compression in (1, 7) else found.rows_at_once * found.width * size
    colours = {2: 3, 5: 4, 6: 3, 8: 3}.get(found.photometric, 1)
    extra = 0 if found.alpha else max(0, found.samples - colours)
    header = Header("tiff", width, height, orientation, found.samples, size, streams=not lacks, held_bytes=held)
    header = replace(header, directory=found.number, place=found.place, sub=found.sub, is_guessed=found.is_guessed)
    return replace(header, compression=found.compression, extra=extra, more=found.reduced and found.has_more)


def _pillow(file: BinaryIO, kind: str) -> Header:
    image: Any = open_pillow(file, kind)
    data_start = file.tell()
    width, height = image.size
    channels = len(image.getbands())
    bytes_per_pixel = {"1": 1, "I": 4, "F": 4, "I;16": 2, "I;16B": 2, "I;16L": 2}.get(image.mode, channels)
    header = Header(kind, width, height, channels=channels, bytes_per_pixel=bytes_per_pixel)
    if kind == "jpeg":
        return _jpeg(image, replace(header, orientation=_orientation(image.getexif)), data_start)
    if kind == "avif":
        header = replace(header, orientation=_orientation(image.getexif))
    return replace(header, more=_has_more(image, file) if kind in ("gif", "avif", "ppm") else False)


def _has_more(image: Any, file: BinaryIO) -> bool:
    """Whether a second picture follows; of PBM, PGM and PPM that are not plain text any number may (`pdftoppm`)."""
    if image.format != "PPM":
        try:
            return bool(image.is_animated)
        except PARSE_ERRORS:  # what follows is damaged: no matter to the first
            return True
    decoder, _, start, arguments = image.tile[0]
    if decoder == "ppm_plain":
        return False
    width, height = image.size
    row = (width + 7) // 8 if image.mode == "1" else width * len(image.getbands())
    deep = (decoder == "ppm" and arguments[1] > 255) or image.mode == "I"
    file.seek(start + row * height * (2 if deep else 1))
    following = file.read(16).lstrip()
    return following[:1] == b"P" and following[1:2] in b"456" and following[2:3].isspace()


def _jpeg(image: Any, header: Header, data_start: int) -> Header:
    progressive = bool(image.info.get("progressive"))
    held = 0
    if progressive:
        # libjpeg keeps every coefficient (2 bytes) of every component of a progressive picture until the last scan.
        factors = [(h, v) for _, h, v, _ in image.layer] or [(1, 1)] * header.channels
        most = max(h for h, _ in factors) * max(v for _, v in factors)
        held = 2 * header.width * header.height * sum(h * v for h, v in factors) // most
    description = "progressive JPEG" if progressive else "JPEG"
    return replace(header, held_bytes=held, data_start=data_start, streams=not progressive, description=description)


def _png(file: BinaryIO) -> Header:
    """IHDR and eXIf by hand: Pillow would need the pixels to be there, and decodes them to look for EXIF."""
    file.seek(8)
    orientation, frames = 1, 0
    header: Header | None = None
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise ValueError("no IHDR")
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", file.read(13))
            channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}[colour]
            size = channels * (2 if depth == 16 else 1)
            held = width * height * size if interlaced else 0
            text = "interlaced PNG" if interlaced else "PNG"
            header = Header("png", width, height, 1, channels, size, True, held, description=text)
            if width * height > 2**31:
                return header  # nobody will decode this; the budget refuses it, whether the rest is there or not
            file.seek(4, os.SEEK_CUR)
            continue
        if kind in (b"IDAT", b"IEND"):
            return replace(header, orientation=orientation, more=frames > 1)
        if kind == b"acTL" and length == 8:  # an animation's frames; where no fcTL follows, the picture is none of them
            frames += int.from_bytes(file.read(4), "big") + 1
            length = 4
        frames -= kind == b"fcTL" and frames > 0
        if kind == b"eXIf" and length < 1 << 20:
            orientation = _orientation_of(file.read(length))
            length = 0
        file.seek(length + 4, os.SEEK_CUR)


def _webp(file: BinaryIO) -> Header:
    """The RIFF chunks by hand: Pillow allocates the whole canvas twice just to tell its size."""
    _, riff_size, _ = struct.unpack("<4sI4s", file.read(12))
    end = riff_size + 8
    size: tuple[int, int] | None = None
    alpha = lossless = animated = False
    alpha_bytes = frames = 0
    orientation = 1
    has_exif = False
    while file.tell() < end:
        chunk = file.read(8)
        if len(chunk) < 8:
            break
        kind, length = struct.unpack("<4sI", chunk)
        start = file.tell()
        if kind == b"VP8X":
            body = file.read(10)
            size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
            alpha, has_exif, animated = bool(body[0] & 0x10), bool(body[0] & 0x08), bool(body[0] & 0x02)
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"ALPH":
            alpha_bytes = 2  # a pixel: libwebp unpacks the whole transparency before the first row
        elif kind == b"VP8L":
            bits = struct.unpack("<xI", file.read(5))[0]
            size = size or (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
            lossless, alpha = True, alpha or bool(bits >> 28 & 1)
        elif kind == b"VP8 ":
            body = file.read(10)
            wide, high = struct.unpack("<HH", body[6:10])
            size = size or (wide & 0x3FFF, high & 0x3FFF)
        elif kind == b"EXIF" and length < 1 << 20:
            orientation = _orientation_of(file.read(length))
        if kind in (b"VP8L", b"VP8 ") and not has_exif:
            break
        file.seek(start + length + (length & 1))
    if size is None:
        raise ValueError("no picture in it")
    channels = 4 if alpha else 3
    # Lossy WebP is decoded and rescaled row by row. Of an animation libwebp holds two canvases, unscaled, however small
    # its frames are; those may be lossless.
    per_pixel = 9 if animated else 5 if lossless else alpha_bytes
    held = per_pixel * size[0] * size[1]
    text = "animated WebP" if animated else "lossless WebP" if lossless else "WebP"
    return Header("webp", *size, orientation, channels, channels, True, held, description=text, more=frames > 1)


def _orientation_of(data: bytes) -> int:
    def parse() -> Image.Exif:
        exif = Image.Exif()
        exif.load(data)
        return exif

    return _orientation(parse)


def _orientation(tags: Any) -> int:
    """The orientation tag of whatever `tags()` gives; a damaged EXIF block never costs us the picture."""
    try:
        value = tags().get(ORIENTATION_TAG, 1)
    except PARSE_ERRORS:  # not Exception: running out of memory or time is no fault of the EXIF block
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
