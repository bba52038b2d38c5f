"""`POST /detect` by many clients at once: ours beside rapidocr_api (PyPI), the same pictures, one worker each.

    python tests/bench/bench_web.py [--requests 200] [--clients 20] [--limit-side 640] [--venv FOLDER]

Ours is the whole way: page, server, queue, worker, ledger. rapidocr_api runs its network in the process that answers.
Both: detection alone, one thread for the network, boxes of the same limit. rapidocr_api is installed with pip into an
environment of its own (a temporary one unless --venv is given; 400 MB). It has no limit of its own on what waits: 503
with Retry-After is asked again, as any client should; the time until the answer counts whole.

Fails if an answer is a 5xx other than 503 with Retry-After, or if a picture has not exactly one record.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.pictures import write_mixed_apart
from tests.ports import free_port
from tests.processes import wait_until

PACKAGES = ["rapidocr_api==0.2.0", "rapidocr==3.10.0", "onnxruntime"]
# Its own program takes no settings: the class is bound to ours before its application makes the one instance. And its
# answer to use_rec=false is a 500 (it asks a result without texts for them), so the answer is made here.
RAPID = """
import sys
from functools import partial
import cv2, numpy, rapidocr, uvicorn
cv2.setNumThreads(1)
engine = "EngineConfig.onnxruntime."
rapidocr.RapidOCR = partial(rapidocr.RapidOCR, params={
    "Global.use_cls": False, "Global.use_rec": False, "Global.log_level": "error",
    "Det.limit_side_len": int(sys.argv[2]), "Det.limit_type": "max",
    engine + "intra_op_num_threads": 1, engine + "inter_op_num_threads": 1,
})
from rapidocr_api import main
def boxes(self, picture, **asked):
    found = self.ocr(numpy.array(picture), use_det=True, use_cls=False, use_rec=False).boxes
    return {"boxes": [] if found is None else found.tolist()}
main.OCRAPIUtils.__call__ = boxes
uvicorn.run(main.app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""
RETRY_S = 120.0


@dataclass
class Measured:
    """What the clients saw of one program.

    Attributes:
        seconds: until each answer.
        wall_s: for all.
        codes: answers by their code, those that were asked again too.
        records: (index of the request, what the record is known by).
        peak_mb: largest sum of the resident sizes of its processes, MiB.
    """

    seconds: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    records: list[tuple[int, str]] = field(default_factory=list)
    peak_mb: float = 0.0


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """A program and its children, which are gone afterwards."""
    with log.open("wb") as output:
        process = psutil.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()


def resident_mb(process: psutil.Process) -> float:
    """Of a program with its children, MiB."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def ask_all(
    port: int, path: str, bodies: list[tuple[bytes, str]], clients: int, process: psutil.Process,
    known_by: Callable[[bytes], str],
) -> Measured:  # fmt: skip
    """All requests, by so many clients at a time."""
    measured = Measured()

    def ask(number: int) -> None:
        body, kind = bodies[number]
        began = time.monotonic()
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
            connection.request("POST", path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            data, again = answer.read(), answer.getheader("Retry-After")
            connection.close()
            measured.codes[f"{answer.status}{' + Retry-After' if again else ''}"] += 1
            if answer.status in (429, 503) and again and time.monotonic() - began < RETRY_S:
                time.sleep(float(again))
                continue
            break
        measured.seconds.append(time.monotonic() - began)
        if answer.status == 200:
            measured.records.append((number, known_by(data)))

    began = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        waiting = [pool.submit(ask, number) for number in range(len(bodies))]
        while not all(future.done() for future in waiting):
            measured.peak_mb = max(measured.peak_mb, resident_mb(process))
            time.sleep(0.1)
        for future in waiting:
            future.result()
    measured.wall_s = time.monotonic() - began
    return measured


def answers(port: int, path: str) -> bool:
    """Whether somebody answers there."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False


def ours(pictures: list[Path], folder: Path, requests: int, clients: int, limit_side: int) -> Measured:
    """`ocr-producer serve --local` with one worker."""
    port = free_port()
    own = {"OCRFLEET_PROFILE": "low", "OCRFLEET_NICE": "0", "OCRFLEET_SPOOL_DIR": str(folder / "spool")}
    own |= {"OCRFLEET_WEB_MAX_REQUESTS": "50", "XDG_STATE_HOME": str(folder)}
    serve = ["serve", "--local", "--port", str(port), "--folder", str(folder / "web")]
    command = [sys.executable, "-m", "producer.cli", *serve]
    bodies = [(pictures[number % len(pictures)].read_bytes(), "image/jpeg") for number in range(requests)]

    def known_by(data: bytes) -> str:
        record = json.loads(data)
        assert record["status"] == "ok" and record["attempts"] == 1, record
        return f"{record['job']}/{record['index']}"

    with running(command, {**os.environ, **own}, folder / "ours.log") as process:
        wait_until(lambda: answers(port, "/readyz"), seconds=60, what="our service")
        place = f"/api/v1/detect?limit_side={limit_side}"
        ask_all(port, place, bodies[:1], 1, process, known_by)  # the worker loads its network
        return ask_all(port, place, bodies, clients, process, known_by)


def rapid(pictures: list[Path], folder: Path, requests: int, clients: int, limit_side: int, python: Path) -> Measured:
    """rapidocr_api with one worker."""
    port = free_port()
    bodies = []
    for number in range(requests):
        data = pictures[number % len(pictures)].read_bytes()
        begin = b'--B\r\nContent-Disposition: form-data; name="image_file"; filename="a.jpg"\r\n\r\n'
        fields = b"".join(
            f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in (("use_det", "true"), ("use_cls", "false"), ("use_rec", "false"))
        )
        bodies.append((fields + begin + data + b"\r\n--B--\r\n", "multipart/form-data; boundary=B"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with running([str(python), "-c", RAPID, str(port), str(limit_side)], environment, folder / "rapid.log") as process:
        wait_until(lambda: answers(port, "/"), seconds=120, what="rapidocr_api")
        ask_all(port, "/ocr", bodies[:1], 1, process, lambda data: "")
        return ask_all(port, "/ocr", bodies, clients, process, lambda data: "")


def install(folder: Path) -> Path:
    """The python of an environment with rapidocr_api."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True, stderr=subprocess.DEVNULL)
    return python


def faults(measured: Measured, requests: int) -> list[str]:
    """What Done-when of the page forbids."""
    bad = [code for code in measured.codes if code.startswith("5") and code != "503 + Retry-After"]
    found = [f"{measured.codes[code]} answers were {code}" for code in bad]
    names = Counter(name for _, name in measured.records)
    if len(measured.records) != requests or len(names) != requests:
        found.append(f"{requests} requests, {len(measured.records)} records, {len(names)} of them different")
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--limit-side", type=int, default=640)
    parser.add_argument("--venv", type=Path, help="where rapidocr_api is installed, or will be")
    arguments = parser.parse_args()
    given = (arguments.requests, arguments.clients, arguments.limit_side)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        drawn = write_mixed_apart(folder / "in", 16)
        pictures = [path for path in drawn if path.name.startswith("photo") and path.suffix == ".jpg"]
        python = install(arguments.venv or folder / "venv")
        print(
            f"{arguments.requests} POST by {arguments.clients} clients, {len(pictures)} pictures, long side "
            f"{arguments.limit_side}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start\n"
        )
        print("| | requests/s | median s | p95 s | peak RSS MB | answers |\n|---|---|---|---|---|---|")
        wrong = []
        for title, measured in (
            ("ocrfleet serve --local", ours(pictures, folder, *given)),
            ("rapidocr_api 0.2", rapid(pictures, folder, *given, python)),
        ):
            median, p95 = map(float, np.percentile(measured.seconds, [50, 95]))
            codes = ", ".join(f"{count} × {code}" for code, count in sorted(measured.codes.items()))
            rate = arguments.requests / measured.wall_s
            print(f"| {title} | {rate:.1f} | {median:.2f} | {p95:.2f} | {measured.peak_mb:.0f} | {codes} |", flush=True)
            if title.startswith("ocrfleet"):
                wrong = faults(measured, arguments.requests)
            elif set(measured.codes) != {"200"}:
                print(f"{title} failed: {codes}", file=sys.stderr)
        for line in wrong:
            print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
