"""TIFF pages counted by hand are those that Pillow counts; chains of strangers end."""

from __future__ import annotations

import contextlib
import io
import struct

import pytest
from hypothesis import given, strategies
from PIL import Image

from producer.sources.tiff_pages import count_directories


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("options", [{}, {"big_tiff": True}, {"compression": "tiff_deflate"}])
def test_as_many_as_pillow_wrote(count: int, options: dict[str, object]) -> None:
    pages = [Image.new("L", (20 + number, 30)) for number in range(count)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], **options)
    assert count_directories(file) == count


def test_big_endian() -> None:
    directory = struct.pack(">H", 0)
    file = b"MM" + struct.pack(">HI", 42, 8) + directory + struct.pack(">I", 14) + directory + struct.pack(">I", 0)
    assert count_directories(io.BytesIO(file)) == 2


def test_a_circle_and_a_cut_chain_end() -> None:
    head = b"II" + struct.pack("<HI", 42, 8)
    assert count_directories(io.BytesIO(head + struct.pack("<HI", 0, 8))) == 1
    assert count_directories(io.BytesIO(head + struct.pack("<HI", 0, 9_000))) == 2, "the second fails, visibly"
    with pytest.raises(ValueError, match="first directory is cut off"):
        count_directories(io.BytesIO(head + struct.pack("<HI", 65_535, 0)))


@pytest.mark.parametrize("data", [b"", b"II", b"%PDF-1.7 and more of it", b"II*\0\xff\xff\xff\x7f", b"II+\0\x08\0\0\0"])
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(ValueError):
        count_directories(io.BytesIO(data))


MAGIC = (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0")


@given(strategies.binary(max_size=200), strategies.sampled_from(MAGIC))
def test_anything_ends(data: bytes, start: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert 1 <= count_directories(io.BytesIO(start + data)) <= 200
