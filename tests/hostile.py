"""Files of a few bytes that ask a decoder for gigabytes. Made here, never found somewhere: each names its trick."""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image


def animated_webp(side: int = 14000) -> bytes:
    """An animation of 196 megapixels whose one frame is a pixel: libwebp allocates the canvas."""
    pixel = io.BytesIO()
    Image.new("RGB", (1, 1), "white").save(pixel, "WEBP", lossless=True)
    frame = pixel.getvalue()[12:]  # without RIFF....WEBP
    canvas = struct.pack("<I", side - 1)[:3]
    chunks = [
        (b"VP8X", bytes([0b10, 0, 0, 0]) + canvas + canvas),
        (b"ANIM", struct.pack("<IH", 0xFFFFFFFF, 0)),
        (b"ANMF", bytes(12) + struct.pack("<I", 100)[:3] + b"\0" + frame),
    ]
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def nested_pdf_forms(depth: int = 10, copies: int = 4, side: int = 600) -> bytes:
    """Forms that each draw the next several times: pdfium parses copies ** depth of them before drawing."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {side} {side}] /Contents 4 0 R "
        "/Resources << /XObject << /F 5 0 R >> >> >>",
        "<< /Length 5 >>\nstream\n/F Do\nendstream",
    ]
    for level in range(depth):
        inner = " ".join(["/F Do"] * copies) if level < depth - 1 else "0 0 9 9 re f"
        objects.append(
            f"<< /Type /XObject /Subtype /Form /BBox [0 0 {side} {side}] /Resources << /XObject "
            f"<< /F {6 + level} 0 R >> >> /Length {len(inner)} >>\nstream\n{inner}\nendstream"
        )
    out, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, text in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{text}\nendobj\n".encode()
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    return bytes(out + f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode())


def unpacking_pdf(unpacked: int = 2 << 30) -> bytes:
    """2 MB whose catalogue lies in an object stream of 2 GB of spaces: who only counts the pages unpacks it too."""
    packer = zlib.compressobj(9)
    head = packer.compress(b"2 0 ") + packer.flush(zlib.Z_FULL_FLUSH)
    piece = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # means the same wherever it stands
    packed = head + piece * (unpacked >> 20)
    out = b"%PDF-1.5\n"
    first = len(out)
    out += b"1 0 obj\n<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length %d>>stream\n" % len(packed)
    out += packed + b"\nendstream endobj\n"
    second = len(out)
    places = ((0, 0), (1, first), (2, 1), (1, second))
    table = b"".join(bytes([kind]) + place.to_bytes(3, "big") + b"\0" for kind, place in places)
    out += b"3 0 obj\n<</Type/XRef/Size 4/W[1 3 1]/Root 2 0 R/Length %d>>stream\n" % len(table)
    return out + table + b"\nendstream endobj\nstartxref\n%d\n%%%%EOF\n" % second


def packed_tree_pdf(junk: int, kids: list[int]) -> bytes:
    """1 KB whose page tree is packed beside numbers: pypdf, who reads it, reads ``junk`` bytes of them, pdfium none.

    Args:
        junk: bytes; of 30 MB pypdf makes 1.2 GB in 70 s.
        kids: object numbers of the tree's pages; 3 is one, 4 lies in no table.
    """
    numbers = b"[" + b"0 " * 99_000 + b"]"
    entries = b" ".join(b"%d 0 R" % kid for kid in kids)
    tree = b"<</Type/Pages/Count %d/Kids[%s]>> " % (len(kids), entries)
    head = b"2 0 9 %d " % len(tree)
    packed = zlib.compress(zlib.compress(head + tree + b"[" + numbers * (junk // len(numbers)) + b"]", 9), 9)
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        3: b"<</Type/Page/MediaBox[0 0 200 200]/Parent 2 0 R>>",
        5: b"<</Type/ObjStm/N 2/First %d/Filter[/FlateDecode/FlateDecode]/Length %d>>stream\n%s\nendstream"
        % (len(head), len(packed), packed),
    }
    out, places = b"%PDF-1.5\n", {2: (2, 5, 0), 9: (2, 5, 1)}
    for number, content in objects.items():
        places[number] = (1, len(out), 0)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    places[6] = (1, len(out), 0)
    table = b"".join(struct.pack(">BIH", *places.get(number, (0, 0, 0))) for number in range(10))
    start = len(out)
    out += b"6 0 obj\n<</Type/XRef/Size 10/W[1 4 2]/Root 1 0 R/Length %d>>stream\n" % len(table)
    return out + table + b"\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % start


def jpeg2000(side: int = 2000, layers: int = 65535) -> bytes:
    """A code stream that claims many pixels, one tile, precincts of one sample: OpenJPEG records each."""

    def marker(code: int, body: bytes) -> bytes:
        return struct.pack(">HH", code, len(body) + 2) + body

    siz = struct.pack(">HIIIIIIIIH", 0, side, side, 0, 0, side, side, 0, 0, 3) + bytes([7, 1, 1]) * 3
    cod = bytes([1, 0]) + struct.pack(">H", layers) + bytes([1, 5, 4, 4, 0, 0]) + b"\x11" * 6
    qcd = bytes([0x40]) + bytes([0x48] * 16)
    tile = struct.pack(">HHHIBB", 0xFF90, 10, 0, 0, 0, 1) + b"\xff\x93" + b"\0" * 20
    return b"\xff\x4f" + marker(0xFF51, siz) + marker(0xFF52, cod) + marker(0xFF5C, qcd) + tile + b"\xff\xd9"


def wide_png(width: int = 393_536, height: int = 480) -> bytes:
    """A valid, blank panorama: a streaming decoder keeps hundreds of rows of 1.2 MB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" + b"\xff" * (3 * width)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


HOSTILE_IMAGES: dict[str, Callable[[], bytes]] = {
    "animated.webp": animated_webp,
    "nested.pdf": nested_pdf_forms,
    "precincts.jp2": jpeg2000,
    "panorama.png": wide_png,
}


def xz_of(head: bytes, zeros: int) -> bytes:
    """An .xz of some bytes and then so many zeros, which nobody has to hold: one block, whose pieces repeat (LZMA2)."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0}]
    start = lzma.compress(b"x", check=lzma.CHECK_NONE, filters=filters)
    start = start[: 12 + 4 * (start[12] + 1)]  # the headers of stream and block

    def piece(data: bytes) -> bytes:
        return lzma.compress(data, lzma.FORMAT_RAW, filters=filters)[:-1]  # without its end

    return start + piece(head) + piece(bytes(16 << 20)) * (zeros >> 24)


def long_name_tar(length: int = 1_500_000_000) -> bytes:
    """A .tar.xz of 220 KB with a GNU long-name record of 1.5 GB: tarfile reads a name whole."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, length
    return xz_of(header.tobuf(tarfile.GNU_FORMAT), length)


def slow_tar_xz(unpacked: int = 512 << 30) -> bytes:
    """One member of so many zero bytes: 7,000 times smaller, and every one must be unpacked to pass over it."""
    header = tarfile.TarInfo("a.bin")
    header.size = unpacked
    return xz_of(header.tobuf(tarfile.GNU_FORMAT), min(unpacked, 32 << 30))


def dictionary_tar_xz(code: int = 39) -> bytes:
    """A .tar.xz of 76 bytes that asks for a dictionary of 3 GiB: liblzma allocates that before anything else."""
    header = tarfile.TarInfo("a.jpg")
    packed = bytearray(xz_of(header.tobuf(tarfile.GNU_FORMAT), 0))
    length = 4 * (packed[12] + 1)  # of the block's header: size, flags, filter, size of its options, dictionary, CRC32
    assert packed[14] == 0x21, "LZMA2"
    packed[16] = code
    packed[12 + length - 4 : 12 + length] = struct.pack("<I", zlib.crc32(packed[12 : 12 + length - 4]))
    return bytes(packed)


def many_entries_zip(path: Path, count: int = 1_000_000) -> None:
    """Writes a zip of so many empty members, by hand: Python's zipfile keeps about 500 bytes for each."""
    entry = struct.Struct("<4s6H3L5H2L")
    with path.open("wb") as file:
        file.write(struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 5, 0) + b"0.jpg")  # shared by all
        start = file.tell()
        for number in range(count):
            name = b"%d.jpg" % number
            file.write(entry.pack(b"PK\x01\x02", 20, 20, *[0] * 7, len(name), *[0] * 6) + name)
        size = file.tell() - start
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start))
        file.write(struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))


def nameless_zip() -> bytes:
    """A zip member without a name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as bundle:
        bundle.writestr("x", b"data")
    data = bytearray(out.getvalue())
    for signature, offset in ((b"PK\x03\x04", 30), (b"PK\x01\x02", 46)):
        at = data.index(signature)
        length_at = at + (26 if signature == b"PK\x03\x04" else 28)
        data[length_at : length_at + 2] = b"\0\0"
        del data[at + offset : at + offset + 1]
    at = data.index(b"PK\x05\x06")
    start = data.index(b"PK\x01\x02")
    struct.pack_into("<II", data, at + 12, at - start, start)
    return bytes(data)
