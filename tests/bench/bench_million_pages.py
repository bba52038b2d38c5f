"""A job of a million pages by a list: what Redis, the producer and the collector need, and how long each step blocks.

    python tests/bench/bench_million_pages.py [--pages 1000000] [--workers 2] [--steps-only]

The pages are pictures of 1 KB: hard links to a few, since a million files would be four gigabytes. The workers only
speak the protocol: they take a message as kombu does, begin, finish with a record of three boxes, and acknowledge.
Producer and collector are the real commands, the server is a real one with its append-only file on.

Then, in an empty server, the ledger's steps on a job of 10,000,000 pages: how long each keeps Redis from others.

Good is: Redis below 20 MB, producer and collector below 100 MB each, one record a page. Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import redis

from tests.faults.server import FaultyServer
from tests.pictures import text_image
from worker.app import IMAGE_QUEUE, UNACKED, UNACKED_INDEX
from worker.ledger.ledger import Ledger
from worker.messages import BoxRecord, ImageRecord, ImageTask, Seconds, encode

JOB = "million"
LINKS = 50_000  # ext4 allows 65,000 names for one file
FOLDER = 10_000
LIMITS_MB = {"redis": 20.0, "producer": 100.0, "collector": 100.0}
HUGE = 10_000_000
BOX = BoxRecord([(10.25, 10.5), (200.75, 10.5), (200.75, 60.25), (10.25, 60.25)], 0.93)


def write_list(folder: Path, pages: int) -> Path:
    """Pictures, and the list of them."""
    listed = folder / "list.txt"
    with listed.open("w") as lines:
        for number in range(pages):
            path = folder / f"{number // FOLDER:04d}" / f"{number:08d}.png"
            path.parent.mkdir(exist_ok=True)
            if number % LINKS == 0:
                picture = path
                text_image(120, 60, f"{number}").convert("1").save(path)
            else:
                os.link(picture, path)
            lines.write(f"{path}\n")
    return listed


def work(url: str) -> None:
    """A worker without pixels, until it is killed."""
    client = redis.Redis.from_url(url)
    ledger = Ledger(client, ttl_s=3600)
    while True:
        found = client.brpop([IMAGE_QUEUE], timeout=1)
        if found is None:
            continue
        message = json.loads(found[1])
        tag = message["properties"]["delivery_tag"]
        client.zadd(UNACKED_INDEX, {tag: time.time()})
        client.hset(UNACKED, tag, json.dumps([message, "", IMAGE_QUEUE]))
        job, index = message["headers"]["id"].rsplit(":", 1)
        epoch = _epoch_of(message)
        if ledger.begin(job, int(index), redelivered=False, epoch=epoch).verdict == "run":
            record = ImageRecord(
                job=job, index=int(index), image=f"{index}.png", page=0, status="ok", width=120, height=60,
                boxes=[BOX] * 3, input_size=(64, 128), seconds=Seconds(total=0.1), worker="bench:1",
            )  # fmt: skip
            ledger.finish(job, int(index), ok=True, record=encode(record), epoch=epoch)
        client.zrem(UNACKED_INDEX, tag)
        client.hdel(UNACKED, tag)


def _epoch_of(message: dict[str, str]) -> str:
    import base64

    arguments = json.loads(base64.b64decode(message["body"]))[0]
    return str(arguments[0].get("epoch", ""))


def peak_mb(process: subprocess.Popen[bytes]) -> float:
    """Largest resident size so far, MB; 0 when it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found.group(1)) / 1024 if found else 0.0


def run(pages: int, workers: int) -> bool:
    """The job. Says what it took; whether that is good."""
    with tempfile.TemporaryDirectory(prefix="ocrfleet-million-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        listed = write_list(folder, pages)
        server = FaultyServer(folder / "redis")
        server.start()
        environment = {**os.environ, "OCRFLEET_REDIS_URL": server.url, "XDG_STATE_HOME": str(folder / "state")}
        before = server.client.info("memory")["used_memory"]
        pool = [multiprocessing.Process(target=work, args=(server.url,), daemon=True) for _ in range(workers)]
        for worker in pool:
            worker.start()
        began = time.monotonic()
        command = [sys.executable, "-m", "producer.cli"]
        with listed.open("rb") as lines:
            producer = subprocess.Popen(
                [*command, "enqueue", "-", "--job", JOB, "--quiet", "--watch"], env=environment, stdin=lines
            )
        while not server.client.exists(f"ocrfleet:job:{JOB}"):
            time.sleep(0.2)
        scanned = time.monotonic() - began
        collector = subprocess.Popen(
            [*command, "collect", JOB, "-o", folder / "out", "--follow", "--quiet"], env=environment
        )
        peaks = {"redis": 0.0, "producer": 0.0, "collector": 0.0}
        said = 0.0
        while producer.poll() is None or collector.poll() is None:
            memory = server.client.info("memory")
            peaks["redis"] = max(peaks["redis"], memory["used_memory_peak"] / 1e6)
            peaks["producer"] = max(peaks["producer"], peak_mb(producer))
            peaks["collector"] = max(peaks["collector"], peak_mb(collector))
            if time.monotonic() - said > 30:
                said = time.monotonic()
                ok = int(server.client.hget(f"ocrfleet:job:{JOB}", "ok") or 0)
                print(f"  {time.monotonic() - began:6.0f} s: {ok} done, {peaks}", file=sys.stderr, flush=True)
            time.sleep(0.25)
        seconds = time.monotonic() - began
        records = (folder / "out" / "results.jsonl").read_bytes().count(b"\n")
        print(f"{pages} pages, {workers} workers: scanned in {scanned:.0f} s, done in {seconds:.0f} s", end=", ")
        print(f"{pages / (seconds - scanned):.0f} pages/s; {records} records; Redis empty {before / 1e6:.1f} MB")
        print("| | peak, MB | limit, MB |\n|---|--:|--:|")
        for name, limit in LIMITS_MB.items():
            print(f"| {name} | {peaks[name]:.1f} | {limit:.0f} |")
        for worker in pool:
            worker.kill()
        server.close()
        ended = (producer.returncode, collector.returncode)
        good = records == pages and ended == (0, 0) and all(peaks[name] < limit for name, limit in LIMITS_MB.items())
        if not good:
            print(f"NOT GOOD: exit codes {ended}, {records} records, {peaks}")
        return good


def measure_steps() -> None:
    """How long each of the ledger's steps blocks Redis, on a job of ``HUGE`` pages."""
    with tempfile.TemporaryDirectory(prefix="ocrfleet-steps-") as name:
        server = FaultyServer(Path(name) / "redis")
        server.start()
        client = server.client
        ledger = Ledger(client, ttl_s=3600)
        print(
            f"\nA job of {HUGE} pages: how long a step blocks Redis\n| step | median, ms | worst, ms |\n|---|--:|--:|"
        )

        def step(label: str, calls: list[Callable[[], object]]) -> None:
            client.config_set("slowlog-log-slower-than", 0)
            client.config_set("slowlog-max-len", 100_000)
            client.slowlog_reset()
            for call in calls:
                call()
            entries = client.slowlog_get(100_000)
            client.config_set("slowlog-log-slower-than", -1)
            # A script is one entry, and some servers add those of the commands inside.
            scripts = [entry for entry in entries if entry["command"].startswith(b"EVAL")]
            ours = [entry for entry in entries if not entry["command"].startswith((b"SLOWLOG", b"CONFIG", b"SCRIPT"))]
            spent = sorted(entry["duration"] / 1000 for entry in scripts or ours)
            print(f"| {label} | {spent[len(spent) // 2]:.3f} | {spent[-1]:.3f} |")

        tasks = [ImageTask(job=JOB, index=n, image=f"{n}.png", uri=f"file:///scans/{n}.png") for n in range(2048)]
        record = b'{"job":"million","index":1,"status":"ok","boxes":[' + b'{"points":[[1,2],[3,4],[5,6],[7,8]]},' * 20
        step("CREATE (all state bytes)", [lambda: ledger.create(JOB, HUGE, {})])
        step("FEED, 64 pages", [lambda part=part: ledger.feed(tasks[part : part + 64]) for part in range(0, 2048, 64)])
        step("BEGIN", [lambda n=n: ledger.begin(JOB, n, redelivered=False) for n in range(1000)])
        step("RENEW", [lambda n=n: ledger.renew(JOB, n) for n in range(1000)])
        step("LOSE", [lambda n=n: ledger.lose(JOB, n, "WorkerLost") for n in range(200)])
        step("RECLAIM", [lambda n=n: ledger.reclaim(JOB, n) for n in range(200)])
        step("FINISH", [lambda n=n: ledger.finish(JOB, n, ok=n % 2 == 0, record=record) for n in range(1000)])
        step("status (4 commands)", [lambda: ledger.status(JOB) for _ in range(200)])
        step("in_flight, 1048 pages", [lambda: ledger.in_flight(JOB) for _ in range(50)])
        step("RETRY, 500 pages", [lambda: ledger.retry(JOB, range(1, 1000, 2))])
        step("ADOPT, 1000 pages", [lambda: ledger.adopt(JOB, range(5000, 6000), ok=True)])
        step("UNFEED, 1000 pages", [lambda: ledger.unfeed(JOB, range(1000, 2000))])
        step("one chunk of the state bytes (1 MB)", [lambda: next(ledger.pages_in_state(JOB, b"q"))])
        began = time.monotonic()
        missing = sum(1 for _ in ledger.pages_in_state(JOB, b"\0"))
        print(f"\nAll state bytes read in Python: {time.monotonic() - began:.1f} s for {missing} unfed pages")
        step("forget (all keys)", [lambda: ledger.forget(JOB)])
        server.close()


def main() -> int:
    """See the top."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps-only", action="store_true")
    given = parser.parse_args()
    good = given.steps_only or run(given.pages, given.workers)
    measure_steps()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
