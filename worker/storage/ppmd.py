"""PPMd of 7z archives, unpacked in a process of its own, which does nothing else.

pyppmd 1.3.1 decodes in a thread, which waits for more where a stream ends early, or is left in the middle. When the
decoder is freed, the thread is woken before it is told to end, and writes up to a megabyte into memory that belongs to
others by then. So no process frees a decoder, and none that has one goes on to what is somebody else's.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path

from detector.memory import raise_oom_score
from worker.storage import ppmd_program
from worker.storage.archive_errors import MOST_WINDOW_BYTES
from worker.storage.ppmd_program import ANSWERED, ASKED
from worker.storage.spool import machine_faults

END_S = 5.0
"""For a process that has let go of its pipe."""


class PpmdDecompressor:
    """What py7zr asks instead of its own of that name. Close it.

    Args:
        properties: order and memory of the stream's model, as in the archive's header.
        blocksize: py7zr's; means nothing here.

    Raises:
        ValueError: they are none, or ask for too much.
        MachineFault: no process can be started.
    """

    def __init__(self, properties: bytes, blocksize: int | None = None) -> None:
        if len(properties) not in (5, 7):
            raise ValueError("PPMd without order and memory")
        order, memory = struct.unpack_from("<BI", properties)
        if memory > MOST_WINDOW_BYTES:
            raise ValueError(f"a dictionary of {memory >> 20} MiB")
        with machine_faults(Path(sys.executable)):
            self._process = subprocess.Popen(
                [sys.executable, "-P", ppmd_program.__file__, str(order), str(memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "MALLOC_ARENA_MAX": "2"},
                start_new_session=True,  # Ctrl-C reaches the worker, which lets its pages end
            )
        self._end = weakref.finalize(self, _end, self._process)  # py7zr keeps those of a table of contents to itself
        raise_oom_score(self._process.pid)

    def decompress(self, data: bytes | bytearray | memoryview, max_length: int = -1) -> bytes:
        """As py7zr's.

        Raises:
            ValueError: the stream is damaged, or took the process down.
            MemoryError: the system ended it for want of memory.
        """
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(ASKED.pack(max_length, len(data)) + data)
            self._process.stdin.flush()
            is_there, size = ANSWERED.unpack(self._read(ANSWERED.size))
            if size > max(max_length, 1 << 10):
                raise ValueError("more came out of PPMd than was asked for")
            answer = self._read(size)
        except (BrokenPipeError, EOFError):
            raise self._lost() from None
        if not is_there:
            raise ValueError(answer.decode(errors="replace"))
        return answer

    def _read(self, size: int) -> bytes:
        assert self._process.stdout
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _lost(self) -> Exception:
        """Why there was no answer."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        code = self._process.poll()
        self.close()
        if code == -signal.SIGKILL:
            return MemoryError("the process that unpacks PPMd was killed")
        how = f"code {code}" if code is None or code >= 0 else signal.Signals(-code).name
        return ValueError(f"its PPMd took down the process that unpacks it: {how}")

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._end()


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin and process.stdout
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with suppress(BrokenPipeError):  # what was not sent yet
            pipe.close()
    process.wait()
