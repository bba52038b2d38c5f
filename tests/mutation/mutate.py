"""Spoils bytes, always in the same way for the same seed: the smallest tool that finds crashes in parsers."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence

SECONDS = float(os.environ.get("MUTATION_SECONDS", "15"))
"""For all of them together; CI takes 60. The seed is fixed: a longer run begins with the inputs of a shorter one."""

SHARES = {
    **{"images": 16, "pdf": 6, "zip": 5, "tar": 5},  # openers, PDFs, archives
    **{"tasks": 4, "queue": 3, "stream": 4, "notes": 3},  # messages
    **{"results": 5, "manifest": 4, "annotations": 5},  # files that commands read again
}
"""Of 60 parts."""
assert sum(SHARES.values()) == 60, SHARES


def seconds_for(what: str) -> float:
    """How long one kind is spoilt."""
    return SECONDS * SHARES[what] / 60


SEED = 20261125
_WORDS = (
    *(b"-1", b"0", b"1e999", b"9" * 400, b"NaN", b"null", b"true", b'""', b"[]", b"{}", b"[" * 2000, b'{"a":' * 2000),
    *(b"\\ud800", b"\xff\xfe", b"\0", b"\n", b"\x1b[2J", b"../../etc/passwd", b"%00", b"\xe2\x80\xae", b"," * 9),
    *(b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"9223372036854775808"),
)


def mutated(seeds: Sequence[bytes], seconds: float) -> Iterator[bytes]:
    """Spoilt versions of some sound inputs, for so long."""
    rng, end = random.Random(SEED), time.monotonic() + seconds
    while time.monotonic() < end:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 4, 12))):
            _spoil(data, seeds, rng)
        yield bytes(data)


def _spoil(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    place = rng.randrange(len(data) + 1)
    what = rng.randrange(6)
    if what == 0:
        data[place : place + 1] = bytes([rng.randrange(256)])
    elif what == 1:
        data[place : place + rng.randrange(6)] = rng.choice(_WORDS)
    elif what == 2:
        del data[place : place + rng.randrange(1, 40)]
    elif what == 3:
        data[place:place] = rng.randbytes(rng.randrange(1, 8))
    elif what == 4:
        other = rng.choice(seeds)
        begin = rng.randrange(len(other) + 1)
        data[place:place] = other[begin : begin + 40]
    else:
        del data[place:]
