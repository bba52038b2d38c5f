"""A TIFF page through libvips, else through Pillow, else what of it can be read; never black rows called a success.

libtiff calls a page whose data ends early a success with a remark, and leaves the missing rows black. libvips 8.17 and
later pass that on unless asked for `fail_on="error"`.
"""

from __future__ import annotations

import re
from typing import BinaryIO

import numpy as np

from detector.errors import CorruptImage, UnsupportedFormat
from detector.images.budget import by_vips
from detector.images.decode import decode_pillow
from detector.images.decoders.damage import Decoded, Pixels, refuse_unless_most
from detector.images.decoders.jpeg import is_harmless
from detector.images.decoders.tiff_pieces import Alone, Missing, missing_data, page_alone, share_not_garbled, tile_size
from detector.images.header import VIPS_LACKS, Header

_UNCOMPRESSED, _GROUP_3, _GROUP_4, _JPEG = 1, 3, 4, 7
_BEHIND_THE_END = "its data would lie behind the end of the file"
_GARBLED = "a check sum is wrong, and what comes before it garbled"
_NO_DATA = "its directory names no data for the rest"
_TOLERANT = (_GROUP_3, _GROUP_4, _JPEG)  # fax and JPEG: Pillow hides what libtiff could not make out
# Fax, JPEG, PackBits: no check sum, but libtiff remarks on what is spoilt; so it does on tiles of any kind.
_REMARKED = (2, _GROUP_3, _GROUP_4, _JPEG, 32773)
_LINE = re.compile(r"at line (\d+) of strip (\d+)")
_LACKING = (
    *("not configured", "not supported", "unsupported", "unknown compression", "not implemented", "can not handle"),
    "not TIFF",  # which Pillow says of samples that it has no mode for
)
_ZLIBS = "unknown compression method"  # in spoilt data
_UNOPENED = "unable to call tiffload_source"
_PILLOW_LACKS = (34887, 50001, 50002)  # its wheels' libtiff; of which it says "decoder error", as of damage
# Of data behind the end libtiff says "Seek error", too.
_OF_DIRECTORIES = (
    *("bad seek to", "accessing TIFF directory", "read directory", "Unknown field", "Null count"),
    "TIFF_SETGET_UNDEFINED",  # a tag of a type that nobody knows
)
_RAISED = "unable to fetch from region"


def is_whole(file: BinaryIO, header: Header) -> bool:
    """Whether all data of a page is there, as far as its directory and check sums tell; True of any other format."""
    return header.kind != "tiff" or (not missing_data(file, header).share and share_not_garbled(file, header) == 1.0)


def is_of_directory(remark: str) -> bool:
    """Whether what libtiff says is no damage of the data. libvips reads the directory anew before the first of them."""
    return remark.strip() in ("", _RAISED) or any(sign in remark for sign in _OF_DIRECTORIES)


def decode_tiff(file: BinaryIO, header: Header, target: tuple[int, int], name: str, max_bytes: int) -> Decoded:
    """One page, averaged down by a whole factor so that it stays no smaller than `target`.

    Args:
        file: the open file; needs a descriptor.
        header: its header (of this page).
        target: (width, height) in stored orientation, pixels.
        name: for messages.
        max_bytes: memory that Pillow may use where libvips fails; it holds the picture whole.

    Raises:
        CorruptImage: less than `LEAST_SHARE` of it can be read.
        UnsupportedFormat: of a kind that neither library reads.
    """
    decoded = _decoded(file, header, target, name, max_bytes)
    if decoded.share is not None or (share := share_not_garbled(file, header)) == 1.0:
        return decoded
    refuse_unless_most(share, header.description, name, _GARBLED)
    return Decoded(decoded.pixels, share)


def _decoded(file: BinaryIO, header: Header, target: tuple[int, int], name: str, max_bytes: int) -> Decoded:
    missing = missing_data(file, header)
    refuse_unless_most(1.0 - missing.absent, header.description, name, _NO_DATA)
    if header.compression == _UNCOMPRESSED:
        refuse_unless_most(1.0 - missing.share, header.description, name, _BEHIND_THE_END)
    else:
        # Some writers state more bytes than there are; if any are missing, decoding fails.
        missing = Missing(missing.absent)
    affordable = header.width * header.height * max(7, header.bytes_per_pixel + 3) <= max_bytes
    if header.is_guessed and (alone := page_alone(file, header, turned=header.orientation == 1)):
        file, header = alone.file, alone.header
    if not by_vips(header):
        try:
            return _cut(_by_pillow(file, header, target, name), missing)
        except CorruptImage as error:
            if header.compression in _PILLOW_LACKS:
                raise _of_another_kind(name, f"{VIPS_LACKS[header.compression]}: {error.__cause__}") from error
            raise _in_words(error, name, str(error.__cause__)) from error
    from detector.images.decoders.remarked import decode_strictly, header_fills_remarks, tiles_share
    from detector.images.vips import decode_vips

    warned, read = False, 1.0
    if tile := tile_size(file, header):
        sound, remark = decode_strictly(file, header, target)
        if sound is not None:
            return _cut(sound, missing)
        if _is_of_another_kind(remark):
            raise _of_another_kind(name, remark)
        if header_fills_remarks(file, header) and (alone := page_alone(file, header)):
            file, header = alone.file, alone.header
        read = tiles_share(file, header, tile, is_harmless if header.compression == _JPEG else is_of_directory)
        refuse_unless_most(read, header.description, name, "tiles of it are spoilt")
    elif header.compression in _REMARKED:
        sound, remark = decode_strictly(file, header, target)
        sure = True
        if sound is None and (alone := page_alone(file, header)):
            sound, remark = decode_strictly(alone.file, alone.header, target)  # remarks on the directory are gone
            sure = alone.sure
            if sound is None and remark and (header.compression == _GROUP_4 or not sure):
                return _rows(alone, target, name, remark)  # of which libtiff warns, and no more
        if sound is not None and sure:
            return _cut(sound, missing)
        warned = bool(remark) or not sure
    try:
        pixels, share = _cut(decode_vips(file, header, target, name), missing)
        share = min(read, 1.0 if share is None else share)
        return Decoded(pixels, share if warned or share < 1.0 else None)
    except CorruptImage as error:
        refuse_unless_most(1.0 - missing_data(file, header).share, header.description, name, _BEHIND_THE_END)
        return _salvage(file, header, target, name, missing, affordable, error)


def _by_pillow(file: BinaryIO, header: Header, target: tuple[int, int], name: str) -> Pixels:
    """By Pillow, which knows no sub-directories, and turns a page whose orientation is still to be applied."""
    turned = header.orientation == 1
    alone = page_alone(file, header, turned=turned) if header.sub >= 0 or not turned else None
    return decode_pillow(*(alone[:2] if alone else (file, header)), target, name)


def _cut(pixels: Pixels, missing: Missing) -> Decoded:
    """White where libtiff repeats or guesses what lies behind the end; tiles without data may be anywhere."""
    if not missing.share:
        return Decoded(pixels)
    if missing.behind:
        pixels[int(len(pixels) * (1.0 - missing.behind)) :] = 255
    return Decoded(pixels, 1.0 - missing.share)


def _salvage(
    file: BinaryIO,
    header: Header,
    target: tuple[int, int],
    name: str,
    missing: Missing,
    affordable: bool,
    error: CorruptImage,
) -> Decoded:
    from detector.images.decoders.remarked import decode_leniently, readable_rows

    pixels, remarks, full = decode_leniently(file, header, target)
    if full and (alone := page_alone(file, header)):  # of a directory with many oddities that is all that is said
        file, header = alone.file, alone.header
        pixels, remarks, full = decode_leniently(file, header, target)
    unopened = pixels is None and remarks[:1] == [_UNOPENED]
    lacking = unopened or any(map(_is_of_another_kind, (*remarks, str(error))))
    of_data = [remark for remark in remarks if not is_of_directory(remark)]
    if pixels is not None and not of_data:
        return _cut(pixels, missing)  # only the chain of pages is broken, further on; whoever counts pages says so
    if affordable and header.compression not in _TOLERANT:
        try:
            share = None if lacking and not missing.absent else 1.0 - missing.absent
            return Decoded(_by_pillow(file, header, target, name), share)
        except CorruptImage:
            pass
    if unopened:
        raise _of_another_kind(name, " ".join("".join(remarks[1:2]).split())) from error
    if lacking:
        raise _in_words(error, name, "; ".join(of_data[:1]) or str(error)) from error
    bad_lines = {match.groups() for remark in of_data if (match := _LINE.search(remark))}
    if header.compression == _GROUP_3 and pixels is not None and not full and len(bad_lines) == len(set(of_data)):
        share = 1.0 - len(bad_lines) / header.height  # group 3 finds its place again at the next line
        refuse_unless_most(share, header.description, name, of_data[0])
        return Decoded(pixels, share)
    return _upper(*readable_rows(file, header, target), header, name, _reason(of_data, error))


def _rows(alone: Alone, target: tuple[int, int], name: str, remark: str) -> Decoded:
    """The rows above the first of which the decoder warns."""
    from detector.images.decoders.remarked import readable_rows

    said = [line.strip() for line in remark.splitlines()[1:] if line.strip()] or ["the rest is cut off or spoilt"]
    return _upper(*readable_rows(alone.file, alone.header, target, "warning"), alone.header, name, said[0])


def _upper(rows: Pixels, height: int, header: Header, name: str, reason: str) -> Decoded:
    refuse_unless_most(len(rows) / height, header.description, name, reason)
    whole = np.full((height, *rows.shape[1:]), 255, np.uint8)
    whole[: len(rows)] = rows
    return Decoded(whole, len(rows) / height)


def _reason(remarks: list[str], error: CorruptImage) -> str:
    return remarks[0] if remarks else str(error.__cause__ or error)


def _in_words(error: CorruptImage, name: str, reason: str) -> CorruptImage | UnsupportedFormat:
    return _of_another_kind(name, reason) if _is_of_another_kind(reason) else error


def _is_of_another_kind(remark: str) -> bool:
    return any(sign in remark.replace(_ZLIBS, "") for sign in _LACKING)


def _of_another_kind(name: str, reason: str) -> UnsupportedFormat:
    said = f"{name}: a TIFF of a kind not read here, or its directory is damaged"
    return UnsupportedFormat(f"{said} ({' '.join(reason.split())}); save it again as LZW or PNG")
