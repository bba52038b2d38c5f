"""Addresses that clients name: only what lies below OCRFLEET_ROOTS, also through a link."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from producer.web.problem import Problem
from worker.storage.real_path import real_path
from worker.storage.remote import allowed
from worker.storage.spool import want_of_the_machine

MOST_ADDRESSES = 1000
MOST_CHARACTERS = 16 << 10
"""Of one: the longest path that Linux takes, 4,096 bytes, is 12,288 with each of them percent-encoded."""


def check_addresses(
    addresses: object, roots: tuple[Path, ...], url_roots: tuple[str, ...], named_roots: tuple[Path, ...] = ()
) -> list[str]:
    """Addresses of a job, as the scan takes them.

    Args:
        addresses: what a client sent.
        roots: folders that may be read, without links.
        url_roots: the same for ``s3://`` and ``https://``.
        named_roots: other names of the roots, which may have links in them.

    Raises:
        Problem: no list, or not below the roots.
    """
    if not isinstance(addresses, list) or not addresses or not all(isinstance(one, str) for one in addresses):
        raise Problem(400, "uris is not a list of addresses", 'send {"uris": ["file:///scans/2026"]}')
    check_count(addresses)
    return [_check(one, roots, url_roots, (*roots, *named_roots)) for one in addresses]


def check_count(addresses: Sequence[object]) -> None:
    """Whether they are few enough.

    Raises:
        Problem: 413.
    """
    if len(addresses) > MOST_ADDRESSES:
        raise Problem(413, f"more than {MOST_ADDRESSES} addresses in one request", "name the folder they lie in")


def _check(address: str, roots: tuple[Path, ...], url_roots: tuple[str, ...], names: tuple[Path, ...]) -> str:
    refused = Problem(
        403, f"{address[:200]} does not lie below OCRFLEET_ROOTS", "name a folder or file below it, or upload it"
    )
    if len(address) > MOST_CHARACTERS:
        raise Problem(413, f"{address[:200]} has more than {MOST_CHARACTERS:,} characters", "name its folder")
    if address.startswith(("s3://", "https://")):
        try:
            if allowed(address, url_roots):
                return address
        except ValueError:  # "https://["
            pass
        raise refused
    if "\0" in address or not address.startswith(("/", "file:///")):
        raise refused
    text = unquote(address.removeprefix("file://")) if address.startswith("file:") else address
    named = Path("/" + text.lstrip("/"))
    # Before the disk is asked: `ANY/LINK/../../..(n)/roots/a.jpg` lies below a root for one n, which told of any link
    # of the machine that it is there, and how deep it leads. Nor is a dead network folder elsewhere touched.
    if ".." in named.parts or not any(named.is_relative_to(name) for name in names):
        raise refused
    try:
        path = real_path(named)
        there = path.exists()
    except (OSError, ValueError):  # too long a name, half a character
        raise refused from None
    if not any(path.is_relative_to(root) for root in roots):
        raise refused
    if not there:  # only said of what may be read: nobody can ask which other files there are
        raise Problem(404, f"{address[:200]}: no such file or folder", "check the path")
    return str(path)


def may_read(uri: str, roots: tuple[Path, ...]) -> bool:
    """Whether what a folder of the roots holds does not lead out of them by a link.

    Raises:
        OSError: this machine has no memory to tell it with.
    """
    parts = urlsplit(uri)
    if not parts.scheme.endswith("file"):
        return True
    try:
        real = real_path(os.fsdecode(unquote_to_bytes(parts.path)))
    except (OSError, ValueError) as error:  # too long to tell
        if want_of_the_machine(error) is not None:
            raise
        return False
    return any(real.is_relative_to(root) for root in roots)
