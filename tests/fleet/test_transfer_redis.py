"""Pages that travel through Redis: nothing is lost, nothing stays, the window holds, boxes are the original's."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from PIL import Image

from producer.detector_process.shrink import Shrinker, ShrinkerLostError
from producer.job.feed import Feeder, Window
from producer.job.manifest import ManifestLine
from producer.job.upload import CannotSendError, Uploader
from producer.sources.scan import file_uri
from tests.fleet.parcels import content, packed
from tests.nasty_pages import pdf
from tests.pictures import text_image, write_images
from tests.processes import WorkerProcess, command
from worker.app import app_for
from worker.broker import blobs, queue
from worker.ledger import Ledger
from worker.messages import decode_task
from worker.redis_keys import JobKeys, blob_key
from worker.settings import Settings

JOB = "travel"


@pytest.fixture
def uploader(ledger: Ledger) -> Iterator[Uploader]:
    with Uploader(ledger, JOB, limit_side=0, shrink=False) as made:
        yield made


def lines_of(paths: list[Path]) -> list[ManifestLine]:
    return [ManifestLine(index, path.name, file_uri(path), 0) for index, path in enumerate(paths)]


def feeder_of(
    settings: Settings, ledger: Ledger, paths: list[Path], uploader: Uploader, window: Window | None = None
) -> Feeder:
    ledger.create(JOB, len(paths), {})
    return Feeder(app_for(settings), ledger, JOB, lines_of(paths), window=window, uploader=uploader)


def test_bytes_are_there_before_the_message_and_gone_with_the_record(
    settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path
) -> None:
    paths = write_images(tmp_path / "in", 3)
    feeder = feeder_of(settings, ledger, paths, uploader)
    feeder.step()
    client = ledger.client
    assert queue.depth(client) == (3, 0)
    for index, path in enumerate(paths):
        assert client.get(blob_key(JOB, index)) == path.read_bytes()
        assert 0 < client.ttl(blob_key(JOB, index)) <= ledger.ttl_s
    assert blobs.waiting_bytes(client, [JOB]) == sum(path.stat().st_size for path in paths)
    ledger.finish(JOB, 1, ok=True, record=b"{}")
    assert blobs.missing(client, JOB, [0, 1, 2]) == {1}
    assert blobs.waiting_bytes(client, [JOB]) == sum(paths[i].stat().st_size for i in (0, 2))


def test_a_page_sent_again_still_finds_its_bytes(
    settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path
) -> None:
    paths = write_images(tmp_path / "in", 1)
    feeder_of(settings, ledger, paths, uploader).step()
    ledger.begin(JOB, 0, redelivered=False)
    ledger.lose(JOB, 0, "WorkerLost")
    data = ledger.reclaim(JOB, 0)
    assert data is not None
    blobs.fetch(ledger.client, decode_task(data).uri, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == paths[0].read_bytes()


def test_resuming_uploads_again_what_expired_and_nothing_else(
    settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path
) -> None:
    paths = write_images(tmp_path / "in", 4)
    feeder_of(settings, ledger, paths, uploader).step()
    ledger.finish(JOB, 0, ok=True, record=b"{}")
    ledger.client.delete(blob_key(JOB, 2))
    before = uploader.sent_bytes
    again = feeder_of(settings, ledger, paths, uploader)
    while not again.exhausted:
        again.step()
    assert uploader.sent_bytes - before == paths[2].stat().st_size
    assert again.sent == 0, "its message is still on the queue"
    assert blobs.missing(ledger.client, JOB, [1, 2, 3]) == set()


def test_window_in_bytes(settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "in", 6)
    largest = max(path.stat().st_size for path in paths)
    feeder = feeder_of(settings, ledger, paths, uploader, Window(low=1, high=100, bytes=2 * largest + 10))
    done: set[int] = set()
    for _ in range(200):
        feeder.step()
        assert blobs.waiting_bytes(ledger.client, [JOB]) <= 2 * largest + 10
        for index in set(ledger.in_flight(JOB)) - done:
            ledger.finish(JOB, index, ok=True, record=b"{}")
            done.add(index)
        queue.purge(ledger.client)
        if feeder.exhausted and len(done) == 6:
            break
    assert done == set(range(6))


def test_one_page_larger_than_the_window_still_goes(
    settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path
) -> None:
    paths = write_images(tmp_path / "in", 2)
    feeder = feeder_of(settings, ledger, paths, uploader, Window(low=1, high=100, bytes=100))
    feeder.step()
    assert set(ledger.in_flight(JOB)) == {0}
    ledger.finish(JOB, 0, ok=True, record=b"{}")
    feeder.step()
    assert set(ledger.in_flight(JOB)) == {1}


def test_page_that_cannot_be_read_here_is_recorded_here(
    settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path
) -> None:
    paths = [*write_images(tmp_path / "in", 1), tmp_path / "gone.jpg"]
    feeder_of(settings, ledger, paths, uploader).step()
    assert queue.depth(ledger.client) == (1, 0)
    [(_, fields)] = ledger.client.xrange(JobKeys.of(JOB).results)
    record = json.loads(fields[b"record"])
    assert (record["index"], record["status"], record["error"]["type"]) == (1, "failed", "NotFound")


def test_cancelled_job_leaves_no_bytes_and_can_go_on(
    settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path, environment: dict[str, str]
) -> None:
    paths = write_images(tmp_path / "in", 4)
    feeder = feeder_of(settings, ledger, paths[:2], uploader)
    feeder.step()
    assert blobs.waiting_bytes(ledger.client, [JOB]) > 0
    assert command(environment, "ocr-producer", "cancel", JOB).returncode == 0
    assert blobs.waiting_bytes(ledger.client, [JOB]) == 0 and queue.depth(ledger.client) == (0, 0)
    late = feeder_of(settings, ledger, paths[:2], uploader)  # a producer that has not heard of it yet
    late.step()
    assert list(ledger.client.scan_iter(match="ocrfleet:blob:*")) == [] and queue.depth(ledger.client) == (0, 0)
    ledger.reopen(JOB)
    again = feeder_of(settings, ledger, paths[:2], uploader)
    again.step()
    assert again.sent == 2 and blobs.missing(ledger.client, JOB, [0, 1]) == set()


def test_retry_uploads_again(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    """A page that was torn when it was uploaded, made whole, and retried."""
    folder = tmp_path / "in"
    write_images(folder, 2)
    whole = (folder / "image-0001.jpg").read_bytes()
    (folder / "image-0001.jpg").write_bytes(whole[:50])
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    try:
        arguments = ("ocr-producer", "enqueue", folder, "--job", "torn", "--transfer", "redis", "--watch", "-q")
        assert command(environment, *arguments).returncode == 1
        (folder / "image-0001.jpg").write_bytes(whole)
        assert command(environment, "ocr-producer", "retry", "torn", "-q").returncode == 0
        collect = ("ocr-producer", "collect", "torn", "-o", tmp_path / "out", "--follow", "-q", "--no-report")
        told = command(environment, *collect)
        assert told.returncode == 0, told.stderr
    finally:
        worker.stop()


def test_forget_removes_blobs(settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path) -> None:
    feeder_of(settings, ledger, write_images(tmp_path / "in", 3), uploader).step()
    ledger.forget(JOB)
    assert list(ledger.client.scan_iter(match="ocrfleet:blob:*")) == []


def test_single_pages_of_a_pdf_travel_alone(ledger: Ledger, uploader: Uploader, tmp_path: Path) -> None:
    path = tmp_path / "letter.pdf"
    pages = [text_image(tint=number) for number in range(5)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    parcel = packed(uploader, ManifestLine(3, "letter.pdf", file_uri(path), 3))
    assert content(parcel).startswith(b"%PDF") and len(parcel.data) < path.stat().st_size / 3
    assert parcel.page == 0


def test_shrinking_never_sends_more(ledger: Ledger, tmp_path: Path) -> None:
    noise = Image.effect_noise((2400, 1800), 60).convert("RGB")
    noise.save(tmp_path / "photo.jpg", quality=95)
    text_image(2400, 1800).save(tmp_path / "poor.jpg", quality=5)
    with Uploader(ledger, JOB, limit_side=640, shrink=True) as shrinking:
        photo, poor = (
            shrinking.pack(ManifestLine(0, name, file_uri(tmp_path / name), 0)) for name in ("photo.jpg", "poor.jpg")
        )
    assert photo.original is not None and (photo.original.width, photo.original.height) == (2400, 1800)
    assert len(photo.data) * 10 < (tmp_path / "photo.jpg").stat().st_size
    assert poor.original is None or len(poor.data) < (tmp_path / "poor.jpg").stat().st_size
    tiny = tmp_path / "tiny.jpg"
    Image.effect_noise((700, 500), 60).convert("RGB").save(tiny, quality=30)
    with Uploader(ledger, JOB, limit_side=640, shrink=True) as shrinking:
        parcel = shrinking.pack(ManifestLine(0, "tiny.jpg", file_uri(tiny), 0))
    assert content(parcel) == tiny.read_bytes() and parcel.original is None


def test_what_this_machine_cannot_shrink_travels_whole(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.effect_noise((2400, 1800), 60).convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    line = ManifestLine(0, "photo.jpg", file_uri(tmp_path / "photo.jpg"), 0)
    (tmp_path / "detector").mkdir()  # a folder of the user's, not ours
    (tmp_path / "detector" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Uploader(ledger, JOB, limit_side=640, shrink=True) as shrinking:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # /tmp is full, for the child that starts now
        try:
            whole = shrinking.pack(line)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert whole.original is None and content(whole) == (tmp_path / "photo.jpg").read_bytes()
    with Uploader(ledger, JOB, limit_side=640, shrink=True) as shrinking:
        assert shrinking.pack(line).original is not None, "and with room it is made small"


def test_a_shrinker_that_hangs_is_given_up(tmp_path: Path) -> None:
    text_image(2400, 1800).save(tmp_path / "page.jpg")
    with Shrinker(640, 1 << 30, timeout_s=0.0) as shrinker, pytest.raises(ShrinkerLostError, match="took too long"):
        shrinker.shrink(tmp_path / "page.jpg", 0, tmp_path / "out.jpg")


def test_bytes_of_a_job_forgotten_meanwhile_do_not_stay(
    settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path
) -> None:
    feeder = feeder_of(settings, ledger, write_images(tmp_path / "in", 2), uploader)
    ledger.forget(JOB)
    feeder.step()
    assert list(ledger.client.scan_iter(match="ocrfleet:blob:*")) == [] and queue.depth(ledger.client) == (0, 0)


@pytest.mark.slow
def test_through_a_real_worker_that_sees_no_folder(
    environment: dict[str, str], tmp_path: Path, client: redis.Redis
) -> None:
    """Two jobs of the same pictures, as they are and shrunk: same pages, nearly the same boxes, nothing left."""
    folder = tmp_path / "in"
    write_images(folder, 2, width=2400, height=1600)
    turned = text_image(1600, 2400, "TURNED")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    turned.save(folder / "turned.jpg", exif=exif)
    pages = [text_image(1654, 2339, f"SHEET {number}") for number in range(3)]
    pages[0].save(folder / "sheets.pdf", save_all=True, append_images=pages[1:], resolution=200)
    sheets = [page.copy() for page in pages]  # saving as PDF leaves its encoder's settings on the image
    sheets[0].save(folder / "sheets.tif", save_all=True, append_images=sheets[1:], compression="tiff_deflate")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    closed = {**environment, "OCRFLEET_ROOTS": str(tmp_path / "nothing")}
    worker = WorkerProcess(closed, tmp_path / "worker.log")
    jobs: dict[str, dict[tuple[str, int], dict[str, object]]] = {}
    try:
        for job, option in (("whole", "--no-shrink"), ("small", "--shrink")):
            told = command(
                environment, "ocr-producer", "enqueue", folder, "--job", job, "--transfer", "redis", option,
                "--limit-side", "640", "--watch", "--quiet",
            )  # fmt: skip
            assert told.returncode == 1, told.stderr
            command(environment, "ocr-producer", "collect", job, "-o", tmp_path / job, "-q", "--no-report")
            lines = [json.loads(line) for line in (tmp_path / job / "results.jsonl").read_text().splitlines()]
            assert Counter(line["index"] for line in lines) == Counter(range(10))
            jobs[job] = {(line["image"], line["page"]): line for line in lines}
    finally:
        worker.stop()
    assert list(client.scan_iter(match="ocrfleet:blob:*")) == []
    assert jobs["whole"].keys() == jobs["small"].keys()
    for key, whole in jobs["whole"].items():
        small = jobs["small"][key]
        assert small["status"] == whole["status"] == ("failed" if key[0] == "broken.jpg" else "ok"), (key, small, whole)
        if whole["status"] == "failed":
            assert small["error"]["type"] == whole["error"]["type"] == "CorruptImage"  # type: ignore[index]
            continue
        assert (small["width"], small["height"]) == (whole["width"], whole["height"])
        assert set(small["flags"]) == set(whole["flags"])  # type: ignore[call-overload]
        assert len(small["boxes"]) == len(whole["boxes"]) > 0, key  # type: ignore[arg-type]
        for one, other in zip(_centres(small), _centres(whole), strict=True):
            assert abs(one[0] - other[0]) < 12 and abs(one[1] - other[1]) < 12, (key, one, other)


def test_what_cannot_be_sent_is_called_by_its_name(ledger: Ledger, tmp_path: Path) -> None:
    """Of a member of an archive, a copy in the spool is sent; the message names the member."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("torn.png", b"\x89PNG\r\n\x1a\n and nothing else")
    line = ManifestLine(0, "a.zip/torn.png", file_uri(tmp_path / "a.zip", "zip+file", b"torn.png"), 0)
    with Uploader(ledger, JOB, limit_side=640, shrink=True) as shrinking:
        with pytest.raises(CannotSendError, match=r"^a\.zip/torn\.png: ") as caught:
            packed(shrinking, line)
        assert "ocrfleet-upload" not in str(caught.value)


WITHOUT_PDFIUM = """
import sys
import producer.job.manifest as manifest
import producer.job.upload as upload
import producer.sources.page_count as page_count
manifest.can_count = upload.can_count = lambda: False  # as where only the producer is installed
page_count._count_pdf = lambda stream: 2  # pypdf counts wrongly
from producer.cli.main import main
sys.exit(main())
"""


def test_a_bare_producer_that_counts_wrongly_is_put_right(environment: dict[str, str], tmp_path: Path) -> None:
    """Before: the first page travelled alone, so nobody could tell that two of the four were never sent."""
    (tmp_path / "a.pdf").write_bytes(pdf(4))
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    try:
        told = subprocess.run(
            [
                *(sys.executable, "-c", WITHOUT_PDFIUM, "enqueue", str(tmp_path / "a.pdf"), "--job", "bare"),
                *("--transfer", "redis", "--no-shrink", "--watch", "--quiet"),
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert told.returncode == 0, told.stderr
        collected = command(environment, "ocr-producer", "collect", "bare", "-o", tmp_path / "out", "--follow")
        assert collected.returncode == 0, collected.stderr
    finally:
        worker.stop()
    found = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert sorted((record["page"], record["status"]) for record in found) == [(page, "ok") for page in range(4)]
    assert {record.get("pages") for record in found} == {4, None}


def _centres(record: dict[str, object]) -> list[tuple[float, float]]:
    boxes: list[dict[str, list[list[float]]]] = record["boxes"]  # type: ignore[assignment]
    return sorted((sum(x for x, _ in box["points"]) / 4, sum(y for _, y in box["points"]) / 4) for box in boxes)
