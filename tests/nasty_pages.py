"""Files that hide pages, lose them, or look read when they are not; each with what a careful user expects of it."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import pyvips
from PIL import Image, ImageDraw, ImageFont
from pypdf import PdfReader, PdfWriter
from pypdf.generic import RectangleObject

from tests.pictures import text_image
from tests.raw_tiff import BOTTOM, Picture, raw_tiff


class Case(NamedTuple):
    """One file.

    Attributes:
        make: its content.
        ok: pages that are read.
        failed: failed records: pages that are not, and notes of what is missing.
        flag: of one of its records; empty for none.
    """

    make: Callable[[], bytes]
    ok: int = 0
    failed: int = 0
    flag: str = ""


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def page(number: int = 0) -> Image.Image:
    """A page with text, and grain so that it does not compress to nothing."""
    return text_image(200, 150, f"PAGE {number}")


def tiff(pages: int, **options: object) -> bytes:
    """A TIFF of so many pages."""
    rest = [page(number).convert("L") for number in range(1, pages)]
    return saved(page().convert("L"), "TIFF", save_all=True, append_images=rest, **options)


def pdf(pages: int) -> bytes:
    """A PDF of so many pages."""
    return saved(page(), "PDF", save_all=True, append_images=[page(number) for number in range(1, pages)])


def locked_pdf(pages: int, user: str) -> bytes:
    """A PDF that only its owner may change; with a user password nobody may open it."""
    writer, buffer = PdfWriter(PdfReader(io.BytesIO(pdf(pages)))), io.BytesIO()
    writer.encrypt(user, "owner", algorithm="AES-256")
    writer.write(buffer)
    return buffer.getvalue()


def cropped_pdf() -> bytes:
    """A page whose crop box lies beside its media box."""
    writer, buffer = PdfWriter(PdfReader(io.BytesIO(pdf(1)))), io.BytesIO()
    writer.pages[0].cropbox = RectangleObject((5000, 5000, 6000, 6000))
    writer.write(buffer)
    return buffer.getvalue()


def portfolio() -> bytes:
    """A PDF with a file attached to it."""
    writer, buffer = PdfWriter(PdfReader(io.BytesIO(pdf(1)))), io.BytesIO()
    writer.add_attachment("invoice.xml", b"<invoice/>")
    writer.write(buffer)
    return buffer.getvalue()


def cmyk_alpha() -> bytes:
    """CMYK with transparency, as Photoshop writes it; Pillow does not open it."""
    grey = pyvips.Image.new_from_memory(page().convert("L").tobytes(), 200, 150, 1, "uchar")
    bands = [grey.invert()] * 3 + [grey.invert(), grey * 0 + 255]
    return bytes(bands[0].bandjoin(bands[1:]).cast("uchar").copy(interpretation="cmyk").tiffsave_buffer())


def white_on_nothing() -> bytes:
    """White lettering on a transparent ground."""
    image = Image.new("RGBA", (200, 150), (255, 255, 255, 0))
    ImageDraw.Draw(image).text((20, 50), "OCRFLEET 123", (255, 255, 255, 255), ImageFont.load_default(size=25))
    return saved(image, "PNG")


def cut_jpeg(share: float, end: bytes) -> bytes:
    """A JPEG cut off, with an end marker put behind."""
    data = saved(page(), "JPEG", quality=95)
    return data[: int(len(data) * share)] + end


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return buffer.getvalue()


def patched_zip(flag: int = 0, method: int | None = None) -> bytes:
    """A zip whose one member claims to be encrypted, or to be compressed in another way."""
    data = bytearray(zipped({"a.png": saved(page(), "PNG")}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        struct.pack_into("<H", data, place + flags, flag)
        if method is not None:
            struct.pack_into("<H", data, place + flags + 2, method)
    return bytes(data)


def named_zip(name: str, encoding: str) -> bytes:
    """A zip as Windows writes it: the name in a code page that the file does not tell."""
    raw = name.encode(encoding)
    placeholder = "x" * len(raw)
    return zipped({placeholder: saved(page(), "PNG")}).replace(placeholder.encode(), raw)


def spoilt_lzma_zip() -> bytes:
    """The first of two members is damaged."""
    data = bytearray(zipped({name: saved(page(), "BMP") for name in ("a.bmp", "b.bmp")}, zipfile.ZIP_LZMA))
    for place in range(80, 200):
        data[place] ^= 0x5A
    return bytes(data)


def tarred(mode: str, entries: dict[str, bytes | tuple[bytes, str]]) -> bytes:
    """A tar of files and links: name -> content, or (type, target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as bundle:  # type: ignore[call-overload]
        for name, entry in entries.items():
            info = tarfile.TarInfo(name)
            if isinstance(entry, tuple):
                info.type, info.linkname = entry
                bundle.addfile(info)
            else:
                info.size = len(entry)
                bundle.addfile(info, io.BytesIO(entry))
    return buffer.getvalue()


def linked_tar() -> bytes:
    """A three-page TIFF, a hard and a symbolic link to it, and a link out of the archive."""
    entries: dict[str, bytes | tuple[bytes, str]] = {"sub/a.tif": tiff(3), "b.tif": (tarfile.LNKTYPE, "sub/a.tif")}
    return tarred("w", {**entries, "sub/c.tif": (tarfile.SYMTYPE, "a.tif"), "d.jpg": (tarfile.SYMTYPE, "/etc/passwd")})


def spoilt_tar() -> bytes:
    """A .tar.xz whose second half is damaged."""
    data = bytearray(tarred("w:xz", {f"{number}.bmp": saved(page(number), "BMP") for number in range(3)}))
    for place in range(len(data) // 2, len(data) // 2 + 64):
        data[place] ^= 0x5A
    return bytes(data)


def mif1_avif() -> bytes:
    """An AVIF whose major brand is the general one, as some encoders write it."""
    return saved(page(), "AVIF", speed=10).replace(b"ftypavif", b"ftypmif1", 1)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
SEVEN_ZIP, RAR, ZSTD = (
    b"7z\xbc\xaf\x27\x1c" + bytes(64),
    b"Rar!\x1a\x07\x01\0" + bytes(64),
    b"\x28\xb5\x2f\xfd" + bytes(64),
)

FILES = {
    "three-pages-named.jpg": Case(lambda: tiff(3), ok=3),
    "five-pages-named.jpg": Case(lambda: pdf(5), ok=5),
    "five-pages-named.tif": Case(lambda: pdf(5), ok=5),
    "three-pages-named.pdf": Case(lambda: tiff(3), ok=3),
    "owner-password.pdf": Case(lambda: locked_pdf(5, ""), ok=5),
    "user-password.pdf": Case(lambda: locked_pdf(5, "secret"), failed=1),
    "without-end.pdf": Case(lambda: pdf(5).partition(b"startxref")[0], ok=5),
    "cropped-beside.pdf": Case(cropped_pdf, ok=1),
    "portfolio.pdf": Case(portfolio, ok=1, flag="attachments"),
    "deflate-cut-50.tif": Case(lambda: _cut(tiff(1, compression="tiff_adobe_deflate"), 0.5), failed=1),
    "chain-broken.tif": Case(lambda: raw_tiff([Picture()] * 4, last=BOTTOM), ok=4, failed=1),
    "chain-circle.tif": Case(lambda: raw_tiff([Picture()] * 2, last=8 + 64 * 48), ok=2, failed=1),
    "lzma.tif": Case(lambda: tiff(1, compression="lzma"), ok=1),
    "zstd.tif": Case(lambda: tiff(2, compression="zstd"), ok=2),
    "thumbnail.tif": Case(lambda: raw_tiff([Picture(640, 480), Picture(64, 48, 1)]), ok=1),
    "pyramid.tif": Case(lambda: raw_tiff([Picture(640 >> n, 480 >> n, int(n > 0)) for n in range(4)]), ok=1),
    "all-called-reduced.tif": Case(lambda: raw_tiff([Picture(subfile=1)] * 3), ok=3),
    "cmyk-alpha.tif": Case(cmyk_alpha, ok=1),
    "white-on-nothing.png": Case(white_on_nothing, ok=1),
    "blank.png": Case(lambda: saved(Image.new("L", (300, 200), 250), "PNG"), ok=1, flag="blank"),
    "without-end-marker.jpg": Case(lambda: cut_jpeg(1.0, b"")[:-2], ok=1, flag="damaged"),
    "cut-inside.jpg": Case(lambda: cut_jpeg(0.5, b"\xff\xd9"), failed=1),
    "cut-95.jpg": Case(lambda: cut_jpeg(0.97, b""), ok=1, flag="damaged"),
    "mif1.avif": Case(mif1_avif, ok=1),
    "photo.mpo": Case(lambda: saved(page(), "MPO", save_all=True, append_images=[page(1)]), ok=1),
    "stream.j2k": Case(lambda: saved(page(), "JPEG2000", no_jp2=True), ok=1),
    "boxed.jpx": Case(lambda: saved(page(), "JPEG2000"), ok=1),
    "headless.dib": Case(lambda: saved(page(), "DIB"), ok=1),
    "targa.tga": Case(lambda: saved(page(), "TGA"), ok=1),
    "paintbrush.pcx": Case(lambda: saved(page(), "PCX"), ok=1),
    "drawing.svg": Case(lambda: b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", failed=1),
    "layers.psd": Case(lambda: b"8BPS\0\1" + bytes(64), failed=1),
    "new.jxl": Case(lambda: b"\xff\x0a" + bytes(64), failed=1),
    "book.djvu": Case(lambda: b"AT&TFORM\0\0\0\0DJVU" + bytes(64), failed=1),
    "packed.7z": Case(lambda: SEVEN_ZIP, failed=1),
    "packed.rar": Case(lambda: RAR, failed=1),
    "packed.tar.zst": Case(lambda: ZSTD, failed=1),
    "cut.zip": Case(lambda: zipped({"a.png": saved(page(), "PNG"), "b.png": b"1" * 99})[:-40], failed=1),
    "encrypted.zip": Case(lambda: patched_zip(flag=1), failed=1),
    "deflate64.zip": Case(lambda: patched_zip(method=9), failed=1),
    "lzma-spoilt.zip": Case(spoilt_lzma_zip, ok=1, failed=1),
    "pdf-named-jpg.zip": Case(lambda: zipped({"scan.jpg": pdf(5)}), ok=5),
    "archive-in-archive.zip": Case(
        lambda: zipped({"in.zip": zipped({"a.png": b""}), "b.bmp": saved(page(), "BMP")}), 1, 1
    ),
    "junk.zip": Case(
        lambda: zipped({"a.bmp": saved(page(), "BMP"), "@eaDir/a.bmp": b"", "__MACOSX/._a.bmp": b""}), ok=1
    ),
    "photo-not-a-zip.zip": Case(lambda: saved(page(), "PNG"), ok=1),
    "links.tar": Case(linked_tar, ok=9, failed=1),
    "spoilt.tar.xz": Case(spoilt_tar, failed=2),
}
"""Name -> what it is; the name's suffix counts."""

ZIP_NAMES = {
    "发票/二月.png": "gb18030",
    "請求書.png": "cp932",
    "Größe.png": "cp1252",
    "счёт.png": "utf-8",
    "año.png": "cp437",
}
"""Names that zips do not tell the encoding of."""


def _cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]
