"""Are pages counted as pdfium and qpdf count them, also in faulty PDFs, and what do large PDFs cost the producer?

    python tests/bench/bench_counting.py [--files 450]

TIFFs are compared with libtiff and Pillow in tests/producer/sources/test_counting.py. "first page" is the time from
the producer's start (its modules loaded) until a page of the file is on the queue; a one-page PDF says what of that is
not the file's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).parents[2]))

from producer.detector_process.page_counter import PageCounter
from producer.local.server import EmbeddedServer
from tests.big_pdf import big_pdf, enqueue_cost
from tests.faulty import PDF_FAULTS, count_faulty_pdfs

LARGE = {"one page": (1, 1000), "400 MB, no tail": (40, 400_000_000), "10,000 pages, no tail": (10_000, 1000)}


def main() -> int:
    """Prints two tables; 1 if a page vanished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=450)
    chosen = parser.parse_args()
    vanished = 0
    counter = PageCounter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pdf"
        print(
            "| fault | files | all three counts agree | missing pages are told | pages vanish |\n|---|---|---|---|---|"
        )
        for number, fault in enumerate(PDF_FAULTS):
            seeds = range(number, chosen.files, len(PDF_FAULTS))
            trial = count_faulty_pdfs(seeds, path, counter.count)
            vanished += len(trial.wrong)
            print(f"| {fault} | {len(seeds)} | {trial.agreed} | {trial.told} | {len(trial.wrong)} |", flush=True)
        counter.close()
        server = EmbeddedServer(Path(folder) / "server")
        server.start()
        client = redis.Redis.from_url(server.url)
        environment = os.environ | {"OCRFLEET_REDIS_URL": server.url, "XDG_STATE_HOME": f"{folder}/state"}
        print("\n| PDF | start | first page | producer | its children |\n|---|---|---|---|---|")
        for number, (name, (pages, filler)) in enumerate(LARGE.items()):
            big_pdf(path, pages, filler)
            cost = enqueue_cost(environment, client, path, f"large-{number}")
            client.flushall()
            print(
                f"| {name} | {cost.ready_s:.2f} s | {cost.first_s:.2f} s | {cost.own_mb} MB | {cost.child_mb} MB |",
                flush=True,
            )
        client.close()
        server.stop()
    return 1 if vanished else 0


if __name__ == "__main__":
    sys.exit(main())
