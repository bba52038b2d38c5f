"""What libvips remarks on a page, and what of a damaged one can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from detector.images.decode import Pixels
from detector.images.decoders.damage import LEAST_SHARE
from detector.images.header import Header
from detector.images.source import place_kept
from detector.images.vips import (
    ERROR_BUFFER_BYTES,
    SAMPLES,
    as_rgb,
    forget_remarks,
    libvips,
    load,
    raise_unless_damage,
    remarks,
    samples_of,
    source_of,
    whole,
)

_AT_ONCE = 256  # pixels of a row: smaller tiles are asked, and lost, together

SALVAGED_ROWS = 8
"""Rows taken from libvips at a time of a damaged page: its last good rows are wanted."""


def decode_strictly(file: BinaryIO, header: Header, target: tuple[int, int]) -> tuple[Pixels | None, str]:
    """A picture, scaled as `decode_vips` does, on whose data the decoder has no remark.

    Returns:
        (H, W, 3) uint8 RGB in stored orientation, or None; and the first remark on the data. Both are empty if the
        header is remarked on already (odd tags, mostly): then nothing is known of the data.
    """
    with place_kept(file):
        pixels, said, raised = _strictly(file, header, target)
        if said and not raised:  # of another picture, perhaps, that another thread decodes
            pixels, said, _ = _strictly(file, header, target)
        return None if said else pixels, said


def _strictly(file: BinaryIO, header: Header, target: tuple[int, int]) -> tuple[Pixels | None, str, bool]:
    """Pixels, what was said of the data, and whether libvips raised that; what is said of the last rows it does not."""
    vips = libvips()
    try:
        image = load(file, header, target, alpha="kept", fail_on="warning")
    except vips.Error as error:
        raise_unless_damage(error)
        return None, "", True
    forget_remarks()
    try:
        return whole(image, file, header, target, "warning"), remarks(), False
    except vips.Error as error:
        raise_unless_damage(error)
        return None, str(error), True


def header_fills_remarks(file: BinaryIO, header: Header) -> bool:
    """Whether so much is said of the header, each time that it is read, that no room is left for the data."""
    forget_remarks()
    try:
        load(file, header, (header.width, header.height), alpha="ignored", fail_on="none")
    except libvips().Error as error:
        raise_unless_damage(error)
    return len(remarks()) > ERROR_BUFFER_BYTES


def avif_damage(file: BinaryIO) -> str:
    """What libheif says of an AVIF whose data are corrupt, which libavif hides; empty if it says nothing of that."""
    with place_kept(file):
        try:
            libvips().Image.heifload_source(source_of(file), access="sequential").avg()
        except libvips().Error as error:
            raise_unless_damage(error)
            return " ".join(str(error).split()) if "orrupt" in str(error) else ""
    return ""


def jpeg_warning(data: bytes, height: int) -> str:
    """What libjpeg first warns of in a JPEG of this height; empty if nothing.

    It is decoded as small as can be with 200 rows left.
    """
    forget_remarks()
    shrink = next((factor for factor in (8, 4, 2) if height >= 200 * factor), 1)
    try:
        image = libvips().Image.jpegload_buffer(data, access="sequential", fail_on="warning", shrink=shrink)
        image.avg()
    except libvips().Error as error:
        raise_unless_damage(error)
        return str(error)
    return remarks()


def decode_leniently(file: BinaryIO, header: Header, target: tuple[int, int]) -> tuple[Pixels | None, list[str], bool]:
    """Whatever libvips makes of a damaged page, and what it remarks on it.

    Returns:
        (H, W, 3) uint8 RGB with rows of whatever colour where data is missing, or None; the remarks; and whether there
        may be more of those (libvips keeps 10 KB).
    """
    vips = libvips()
    forget_remarks()
    try:
        pixels = as_rgb(samples_of(load(file, header, target, alpha="kept", fail_on="none")))
    except vips.Error as error:
        raise_unless_damage(error)
        return None, str(error).splitlines(), False
    text = remarks()
    return pixels, [line for line in text.splitlines() if line.strip()], len(text) > ERROR_BUFFER_BYTES


def readable_rows(
    file: BinaryIO, header: Header, target: tuple[int, int], fail_on: str = "error"
) -> tuple[Pixels, int]:
    """A damaged page's rows above its first fault, (H, W, 3) uint8 RGB, and how many there should be."""
    vips = libvips()
    found: list[npt.NDArray[Any]] = []
    height = 1
    try:
        image = load(file, header, target, alpha="kept", fail_on=fail_on)
        height = image.height
        region = vips.Region.new(image)
        for row in range(0, height, SALVAGED_ROWS):
            count = min(SALVAGED_ROWS, height - row)
            samples = np.frombuffer(region.fetch(0, row, image.width, count), SAMPLES[image.format])
            found.append(samples.reshape(count, image.width, image.bands))
    except vips.Error as error:
        raise_unless_damage(error)
    if not found:
        return np.empty((0, 1, 3), np.uint8), height
    return as_rgb(np.concatenate(found)), height


def tiles_share(file: BinaryIO, header: Header, size: tuple[int, int], harmless: Callable[[str], bool]) -> float:
    """Of a TIFF's tiles of this size those on whose data the decoder has no remark; libvips leaves others dark.

    Args:
        file: the open file.
        header: of the page.
        size: (width, height), pixels.
        harmless: whether a remark is of no account.
    """
    wide, high = size
    with place_kept(file):
        try:
            # What one of them has unpacked it keeps, and says nothing the second time.
            image, again = (
                load(file, header, (header.width, header.height), alpha="ignored", fail_on="none") for _ in range(2)
            )
        except libvips().Error as error:
            raise_unless_damage(error)
            return 1.0  # nothing is known of its tiles
        row_of_tiles, tile = libvips().Region.new(image), libvips().Region.new(again)
        columns, rows = int(-(-image.width // wide)), int(-(-image.height // high))
        at_once = max(1, _AT_ONCE // wide)
        lost = 0
        forget_remarks()
        for row in range(rows):
            top, tall = row * high, min(high, image.height - row * high)
            if _is_sound(row_of_tiles, (0, top, image.width, tall), harmless):
                continue
            for column in range(0, columns, at_once):
                left, count = column * wide, min(at_once, columns - column)
                if not _is_sound(tile, (left, top, min(count * wide, image.width - left), tall), harmless):
                    lost += count
            if lost > (1.0 - LEAST_SHARE) * columns * rows:
                return 1.0 - lost / (columns * (row + 1))  # of those that were asked; too few, whatever the rest is
    return 1.0 - lost / (columns * rows)


def _is_sound(region: Any, place: tuple[int, int, int, int], harmless: Callable[[str], bool]) -> bool:
    try:
        region.fetch(*place)
    except libvips().Error as error:
        raise_unless_damage(error)
        return False
    return all(map(harmless, remarks().splitlines()))
