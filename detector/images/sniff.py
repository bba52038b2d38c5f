"""What a file is, by its first bytes; its name is never trusted. Standard library only: the producer reads it too."""

from __future__ import annotations

import struct
from typing import BinaryIO

from detector.errors import CorruptImage, UnsupportedFormat

SNIFFED_BYTES = 1024
"""A PDF may begin this late in its file; everything else is known by its first 32 bytes."""

READABLE = "JPEG, PNG, TIFF, WebP, GIF, BMP, PPM, JPEG 2000, AVIF, TGA, PCX or PDF"

PAGED_KINDS = frozenset({"pdf", "tiff"})
"""Kinds that hold several pages. Of animations, and of pictures with previews inside, the first one is the page."""

_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
)
_EXTRA = "or pip install 'ocrfleet[archives]' on all machines"
_KNOWN_BUT_UNREAD = (
    (b"PK\x03\x04", "a zip archive (or an office document)", "unpack it, or name it .zip"),
    (b"PK\x05\x06", "an empty zip archive", ""),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", f"unpack it first (7z x FILE), {_EXTRA}"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first: unrar x FILE"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", f"unpack it first (tar --zstd -xf FILE), {_EXTRA}"),
    (b"\x1f\x8b", "a gzip file", "unpack it first: gunzip FILE"),
    (b"\xfd7zXZ\0", "an xz file", "unpack it first: unxz FILE"),
    (b"BZh", "a bzip2 file", "unpack it first: bunzip2 FILE"),
    (b"8BPS", "a Photoshop file", "export it as PNG or TIFF"),
    (b"AT&TFORM", "a DjVu file", "convert it first: ddjvu -format=tiff FILE out.tif"),
    (b"\xff\x0a", "a JPEG XL image", "convert it first: djxl FILE out.png"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image", "convert it first: djxl FILE out.png"),
    (b"<svg", "an SVG drawing (XML)", "draw it first: rsvg-convert FILE -o out.png"),
    (b"<?xml", "an XML file", ""),
    (b"%!PS", "a PostScript file", "convert it first: ps2pdf FILE"),
)
_ARCHIVES = (b"PK", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"\xfd7zXZ", b"BZh")
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_OS2_HEADER = 12
_DIB_HEADERS = (40, 52, 56, 64, 108, 124)


def sniff(file: BinaryIO, name: str) -> str:
    """The kind of a file by its first bytes; its name is not trusted.

    Raises:
        CorruptImage: the file is empty.
        UnsupportedFormat: it is nothing this program reads.
    """
    file.seek(0)
    start = file.read(SNIFFED_BYTES)
    file.seek(0)
    if not start:
        raise CorruptImage(f"{name}: the file is empty (0 bytes)")
    if (kind := kind_of(start, name)) is not None:
        return kind
    if (known := known_but_unread(start)) is not None:
        what, remedy = known
        raise UnsupportedFormat(f"{name}: {what}; {remedy or f'convert it to one of {READABLE}'}")
    raise UnsupportedFormat(f"{name}: not an image; expected {READABLE}")  # never a byte of it: records travel


def kind_of(start: bytes, name: str = "") -> str | None:
    """The kind of a file: jpeg, png, tiff, webp, gif, bmp, dib, ppm, jp2, avif, heif, tga, pcx or pdf; else None.

    Args:
        start: its first `SNIFFED_BYTES` bytes.
        name: only used for TGA, which has no signature: a header that makes sense counts if the name ends in .tga.
    """
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    if start[4:8] == b"ftyp":
        return _ftyp(start)
    if start[:2] == b"BM" and len(start) >= 26 and (start[6:10] == b"\0\0\0\0" or _is_bitmap(start[14:])):
        return "bmp"
    if start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace():
        return "ppm"
    if b"%PDF-" in start and not _is_archive(start):  # whose first member may be a PDF
        return "pdf"
    if _is_pcx(start):
        return "pcx"
    if _is_dib(start):
        return "dib"
    return "tga" if name.lower().endswith((".tga", ".icb", ".vda", ".vst")) and _is_tga(start) else None


def known_but_unread(start: bytes) -> tuple[str, str] | None:
    """What a file is that this program does not read, and how to make it readable (may be empty); None if unknown."""
    if start[4:8] == b"ftyp":
        return "a video", ""
    stripped = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, what, remedy in _KNOWN_BUT_UNREAD:
        if start.startswith(magic) or stripped.startswith(magic):
            if what == "an XML file" and b"<svg" in start:
                return "an SVG drawing (XML)", "draw it first: rsvg-convert FILE -o out.png"
            return what, remedy
    if start[257:262] == b"ustar":
        return "a tar archive", "name it .tar"
    return None


def _is_archive(start: bytes) -> bool:
    return start[257:262] == b"ustar" or start.startswith(_ARCHIVES)


def _ftyp(start: bytes) -> str | None:
    """ISO base media: the major brand, then the compatible ones (ISO 14496-12, 4.3). AVIF often calls itself mif1."""
    size = min(int.from_bytes(start[:4], "big"), len(start))
    brands = [start[8:12], *(start[place : place + 4] for place in range(16, size - 3, 4))]
    if brands[0] in _AVIF_BRANDS or (brands[0] in (b"mif1", b"msf1") and _AVIF_BRANDS & set(brands)):
        return "avif"
    return "heif" if brands[0] in _HEIF_BRANDS or _HEIF_BRANDS & set(brands) else None


def _is_pcx(start: bytes) -> bool:
    """ZSoft PCX: signature, version, run-length encoding, and bits per plane."""
    if len(start) < 68 or start[0] != 10 or start[1] not in (0, 2, 3, 4, 5) or start[2] != 1:
        return False
    left, top, right, bottom = struct.unpack_from("<4H", start, 4)
    return start[3] in (1, 2, 4, 8) and left <= right and top <= bottom and start[65] in (1, 2, 3, 4)


def _is_bitmap(header: bytes) -> bool:
    """A bitmap's header behind a file header whose reserved bytes are not 0: some programs keep something there."""
    size = int.from_bytes(header[:4], "little")
    planes = header[8:10] if size == _OS2_HEADER else header[12:14]
    return size in (_OS2_HEADER, 16, *_DIB_HEADERS) and planes == b"\1\0"


def _is_dib(start: bytes) -> bool:
    """A bitmap without its file header."""
    if len(start) < 40:
        return False
    size, width, height, planes, bits = struct.unpack_from("<IiiHH", start)
    return size in _DIB_HEADERS and width > 0 and height != 0 and planes == 1 and bits in (1, 4, 8, 16, 24, 32)


def _is_tga(start: bytes) -> bool:
    if len(start) < 18:
        return False
    width, height = struct.unpack_from("<HH", start, 12)
    return (
        start[1] in (0, 1)
        and start[2] in (1, 2, 3, 9, 10, 11)
        and start[16] in (1, 8, 15, 16, 24, 32)
        and bool(width and height)
    )
