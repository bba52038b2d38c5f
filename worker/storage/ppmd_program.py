"""Unpacks one stream of PPMd, asked for and answered in lengths and bytes: ``python ppmd_program.py ORDER MEMORY``.

Named by its path, not as a module: of ours it needs nothing, and starts in half the time.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from contextlib import suppress
from typing import BinaryIO

ASKED = struct.Struct("<iI")
"""How many bytes may come out at most, how many of the stream follow."""

ANSWERED = struct.Struct("<?I")
"""Whether they came out, how many bytes follow: these, or what is wrong with the stream."""

OTHER_BYTES = 64 << 20
"""Beside what the stream's model takes. Python takes 15 MiB, the decoder's thread 8."""


def serve(order: int, memory: int, asked: BinaryIO, answers: BinaryIO) -> None:
    """Answers until there is nothing more to read; ends the process, and does not return."""
    try:
        import pyppmd

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (memory + OTHER_BYTES, hard))
        decoder = pyppmd.Ppmd7Decoder(order, memory)
        while head := asked.read(ASKED.size):
            most, size = ASKED.unpack(head)
            data = asked.read(size)
            is_there = True
            try:
                # As py7zr does: of some streams the last byte is left out.
                answer = decoder.decode(data or b"\0" * decoder.needs_input, most)
            except Exception as error:  # MemoryError without a word, too, where the data are spoilt
                is_there, answer = False, (str(error) or "its PPMd is spoilt").encode()
            answers.write(ANSWERED.pack(is_there, len(answer)) + answer)
            answers.flush()
    finally:
        # The decoder must never be freed: see `worker.storage.ppmd`.
        os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.buffer, sys.stdout.buffer)
