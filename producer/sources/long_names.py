"""Lists of paths; what is too long for a line of the manifest is passed over and counted: none takes more than 16 KB.

A line is held for each page on its way, by feeders, indices, the page and Redis. Names of 65 KB on a PDF of 1,000 pages
were 325 MB of Redis, and a list of paths may hold a line of 100 MB.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import msgspec

from producer.bounds import MOST_LINE_BYTES
from producer.errors import ProducerError
from producer.sources.found_page import FoundPage
from producer.sources.passed_over import LONG_NAMED, MOST_NAME_BYTES, PassedOver

MOST_NAMES_BYTES = MOST_LINE_BYTES - (4 << 10)
"""Of a page's name and address together, as JSON; the rest is for a problem and the numbers."""

_SURELY_FITS = 1000
"""Characters: as JSON none takes more than 12 bytes."""

MOST_PROBLEM = 300


class NotUtf8ListError(ProducerError):
    """A list of paths is text in UTF-16, as PowerShell and Excel write it; the message is one line."""


def that_fit(pages: Iterable[FoundPage], passed: PassedOver, warn: Callable[[str], None]) -> Iterator[FoundPage]:
    """The pages whose names are short enough, of others none; a problem is told in `MOST_PROBLEM` characters.

    Args:
        pages: what a scan finds.
        passed: counts the others, and so does whoever listed an archive.
        warn: told about the first.
    """
    said = False
    for page in pages:
        if page.problem is not None and len(page.problem.message) > MOST_PROBLEM:
            short = page.problem.message[: MOST_PROBLEM - 1] + "…"
            page = msgspec.structs.replace(page, problem=msgspec.structs.replace(page.problem, message=short))
        if len(page.image) + len(page.uri) <= _SURELY_FITS or (
            len(msgspec.json.encode((page.image, page.uri))) <= MOST_NAMES_BYTES
        ):
            yield page
            continue
        passed.add(LONG_NAMED)
        if not said:
            said = True
            warn(f"{page.image[:100]}…: skipped, its path is too long; shorten it, or name a folder below")


def read_list(stream: BinaryIO, block: int = 1 << 16, too_long: Callable[[], None] = lambda: None) -> Iterator[bytes]:
    """The entries of a list of paths; NUL-separated if its first block holds a NUL, else one a line.

    Args:
        stream: of the list.
        block: read at once, bytes.
        too_long: told of each entry of more than `MOST_NAME_BYTES`, which no file system has; it is left out, and
            never held.

    Raises:
        NotUtf8ListError: it is UTF-16 or UTF-32: taken for NUL-separated, each character would be a path, and `/` the
            whole disk.
    """
    data = stream.read(block).removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\0")) or b"\0\n\0" in data:
        raise NotUtf8ListError("the list of paths is no UTF-8 but UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
    separator, empty = (b"\0", (b"",)) if b"\0" in data else (b"\n", (b"", b"\r"))  # as Windows ends lines
    rest, skipping = b"", False
    while data:
        *whole, rest = (rest + data).split(separator)
        for entry in whole:
            if skipping:
                skipping = False  # the end of one that was too long
            elif len(entry) > MOST_NAME_BYTES:
                too_long()
            elif entry not in empty:
                yield entry
        if len(rest) > MOST_NAME_BYTES and not skipping:
            skipping = True
            too_long()
        if skipping:
            rest = b""
        data = stream.read(block)
    if rest not in empty:
        yield rest
