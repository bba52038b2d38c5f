"""PDFs that are large, and what it costs a producer to count them and to feed their first page."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import redis


def big_pdf(path: Path, pages: int, filler: int) -> None:
    """A PDF with `filler` bytes of zeros before its pages, and without its last 20 bytes."""
    places = []
    with path.open("wb") as stream:
        stream.write(b"%PDF-1.4\n1 0 obj\n<</Length " + str(filler).encode() + b">>\nstream\n")
        stream.seek(filler, os.SEEK_CUR)
        stream.write(b"\nendstream\nendobj\n")
        kids = b" ".join(b"%d 0 R" % (number + 4) for number in range(pages))
        objects = [(2, b"<</Type/Catalog/Pages 3 0 R>>"), (3, b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, kids))]
        objects += [(n + 4, b"<</Type/Page/Parent 3 0 R/MediaBox[0 0 200 200]>>") for n in range(pages)]
        for number, body in objects:
            places.append(stream.tell())
            stream.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
        table = stream.tell()
        stream.write(b"xref\n2 %d\n" % len(places) + b"".join(b"%010d 00000 n \n" % place for place in places))
        stream.write(b"trailer\n<</Size %d/Root 2 0 R>>\nstartxref\n%d\n%%%%EO" % (pages + 4, table))


class Cost(NamedTuple):
    """Of one `ocr-producer enqueue`.

    Attributes:
        ready_s: until its modules are loaded, seconds.
        first_s: from then until its first page is on the queue.
        fed: pages on the queue when that was seen.
        own_mb: largest resident memory of the producer, MB.
        child_mb: of the processes it starts.
    """

    ready_s: float
    first_s: float
    fed: int
    own_mb: int
    child_mb: int


_ENQUEUE = """
import resource, sys, time
begun = time.time()
import producer.fleet_job, producer.sources.page_count, producer.cli.enqueue, worker.app
from producer.cli.main import main
print(time.time(), flush=True)
try:
    main()
finally:
    # Not ru_maxrss of this process: that begins with the size of the one that started it.
    own = next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, flush=True)
"""


def enqueue_cost(environment: dict[str, str], client: redis.Redis, path: Path, job: str) -> Cost:
    """Enqueues a file for workers that do not exist, until its first page is fed; the rest of the window follows."""
    begun = time.time()
    with subprocess.Popen(
        [sys.executable, "-c", _ENQUEUE, "enqueue", str(path), "--job", job, "--quiet"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        ready = float(process.stdout.readline())
        while not (fed := int(client.llen("ocrfleet"))):  # type: ignore[arg-type]
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.01)
        first = time.time()
        process.send_signal(2)
        own, child = process.stdout.readline().split()
    return Cost(ready - begun, first - ready, fed, int(own), int(child))
