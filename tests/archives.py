"""7z and Zstandard archives with what a header can claim and no honest packer would."""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import py7zr
import pyppmd

from worker.storage.archive_errors import zstd

LZMA2_24 = b"\x21\x01\x18"  # method, length of its properties, 16 MiB of dictionary


def write_7z(path: Path, members: Mapping[str, bytes], password: str | None = None) -> None:
    with py7zr.SevenZipFile(path, "w", password=password) as archive:
        for name, content in members.items():
            archive.writestr(content, name)


def write_zst(path: Path, members: Mapping[str, bytes]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert zstd is not None
    path.write_bytes(zstd.compress(packed.getvalue()))


def other_method(path: Path, members: Mapping[str, bytes], coder: bytes) -> None:
    """A 7z whose header names another method, or a larger dictionary, than its data was packed with."""
    with py7zr.SevenZipFile(path, "w", filters=[{"id": py7zr.FILTER_LZMA2, "preset": 6}]) as archive:
        archive.set_encoded_header_mode(False)
        for name, content in members.items():
            archive.writestr(content, name)
    data = path.read_bytes()
    offset, size = struct.unpack_from("<QQ", data, 12)
    header = data[32 + offset : 32 + offset + size]
    start = header.index(b"\x21\x01")
    path.write_bytes(_signed(data[32 : 32 + offset], header[:start] + coder + header[start + 3 :]))


def write_ppmd(path: Path, members: Mapping[str, bytes]) -> None:
    """A 7z all in PPMd, its table of contents, too."""
    with py7zr.SevenZipFile(path, "w", filters=[{"id": py7zr.FILTER_PPMD, "order": 6, "mem": 20}]) as archive:
        archive.set_encoded_header_mode(False)
        for name, content in members.items():
            archive.writestr(content, name)
    data = path.read_bytes()
    offset, size = struct.unpack_from("<QQ", data, 12)
    encoder = pyppmd.Ppmd7Encoder(6, 1 << 20)
    packed = encoder.encode(data[32 + offset :]) + encoder.flush()
    folder = b"\x01\x23\x03\x04\x01\x05\x06" + struct.pack("<I", 1 << 20)
    streams = b"\x06" + _number(offset) + b"\x01\x09" + _number(len(packed)) + b"\x00"
    streams += b"\x07\x0b\x01\x00" + folder + b"\x0c" + _number(size) + b"\x00\x00"
    path.write_bytes(_signed(data[32 : 32 + offset] + packed, b"\x17" + streams))


def header_bomb(path: Path, size: int = 300 << 20) -> None:
    """A 7z of a few hundred bytes whose table of contents would unpack to `size` zeros."""
    packer = lzma.LZMACompressor(
        lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "preset": 0, "dict_size": 1 << 16}]
    )
    packed = packer.compress(bytes(1 << 20)) + packer.flush()
    folder = b"\x01\x23\x03\x01\x01\x05\x5d" + struct.pack("<I", 1 << 16)
    streams = b"\x06\x00\x01\x09" + _number(len(packed)) + b"\x00"
    streams += b"\x07\x0b\x01\x00" + folder + b"\x0c" + _number(size) + b"\x00\x00"
    path.write_bytes(_signed(packed, b"\x17" + streams))


def wide_zst(path: Path, window_log: int = 30) -> None:
    """A frame that wants a window of 1 GiB."""
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3]) + b"\x03\x00\x00a" * 5)


def _signed(packed: bytes, header: bytes) -> bytes:
    start = struct.pack("<QQI", len(packed), len(header), zlib.crc32(header))
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<I", zlib.crc32(start)) + start + packed + header


def _number(value: int) -> bytes:
    """As 7z headers write numbers: always the long form."""
    return b"\xff" + struct.pack("<Q", value)
