"""A member that is larger than what may be sent, or than the producer's disk, is its page's failure, and nobody else's.

The disk is small by RLIMIT_FSIZE: no file of this process, or of those that it starts, grows beyond it (EFBIG).
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from detector.errors import TooLarge
from producer.detector_process import put_aside, turn_process
from producer.detector_process.member_fetcher import ProducerStorage
from producer.detector_process.pdf_pages import PdfPages
from producer.detector_process.turn_process import NotYetError
from producer.errors import CannotCountError
from producer.job import feed, upload
from producer.job.begin_again import retry_on_broker
from producer.job.feed import Feeder
from producer.job.manifest import ManifestLine
from producer.job.upload import CannotSendError, Uploader
from producer.sources.archive import members
from tests.archives import write_7z
from tests.pictures import text_image
from tests.processes import wait_until
from tests.producer.records import pdf
from tests.worker.storage.test_files import uri
from tests.worker.test_machine_faults import full_disk
from worker.app import app_for
from worker.broker import queue
from worker.ledger.ledger import Ledger
from worker.redis_keys import JobKeys
from worker.settings import Settings
from worker.storage.bound import Bound
from worker.storage.spool import MachineFault

JOB = "job"
MIB = 1 << 20


def picture(size: int = 0) -> bytes:
    """A JPEG; what follows its end is no matter of its decoder's, and packs well."""
    stream = io.BytesIO()
    text_image().save(stream, "JPEG")
    return stream.getvalue().ljust(size, b"\0")


def write_zip(path: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
        for name, data in content.items():
            bundle.writestr(name, data)


def write_tar(path: Path, content: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as bundle:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))


def lying_zip(path: Path, size: int = 5 * MIB, says: int = 1000) -> None:
    """Of its one member, `a.jpg`, both headers say that it has `says` bytes; more come out."""
    write_zip(path, {"a.jpg": picture(size)})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", size), struct.pack("<L", says)))


def line_of(index: int, archive: Path, name: str, scheme: str = "zip+file") -> ManifestLine:
    return ManifestLine(index, f"{archive.name}/{name}", uri(archive, scheme, name.encode()), 0)


@pytest.fixture
def uploader(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploader]:
    monkeypatch.setattr(upload, "PATIENCE_S", 20.0)
    monkeypatch.setattr(feed, "STEP_S", 20.0)
    with Uploader(ledger, JOB, limit_side=0, shrink=False, most_copied=4 * MIB) as made:
        yield made


@pytest.mark.parametrize(
    ("write", "scheme"), [(write_zip, "zip+file"), (write_tar, "tar+file"), (write_7z, "sevenzip+file")]
)
def test_what_says_that_it_is_too_large_is_not_unpacked(
    write: Callable[[Path, dict[str, bytes]], None],
    scheme: str,
    uploader: Uploader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before: up to 1 GiB of it was, to be refused then; where there was less room its job waited for ever."""
    monkeypatch.setattr(uploader, "largest", 2 * MIB)
    write(tmp_path / "a", {"a.jpg": picture(3 * MIB), "b.pdf": pdf(1).ljust(5 * MIB, b"\0"), "c.jpg": picture()})
    for name, said in (("a.jpg", "more than 2 MB; .*--transfer uri"), ("b.pdf", "more than 4 MB; unpack the archive")):
        with pytest.raises(CannotSendError, match=said) as refused:
            uploader.pack(line_of(0, tmp_path / "a", name, scheme))
        assert refused.value.type == "TooLarge"
        assert list(Path(uploader._folder.name).iterdir()) == [], "no byte was written"
    assert uploader.pack(line_of(0, tmp_path / "a", "c.jpg", scheme)).data == picture()


def test_unpacking_ends_at_the_bound(uploader: Uploader, tmp_path: Path) -> None:
    """Whatever a header says."""
    lying_zip(tmp_path / "a.zip")
    with pytest.raises(CannotSendError) as refused:
        uploader.pack(line_of(0, tmp_path / "a.zip", "a.jpg"))
    assert refused.value.type == "CorruptImage"
    assert sum(path.stat().st_size for path in Path(uploader._folder.name).iterdir()) <= 1000
    stream, taken = io.BytesIO(bytes(5 * MIB)), 0
    with pytest.raises(TooLarge, match="it is larger than 2 MB; go away"):
        for piece in Bound(2 * MIB, "go away").pieces(stream, "it"):
            taken += len(piece)
    assert taken <= 2 * MIB and stream.tell() == 2 * MIB + 1


def records(client: redis.Redis) -> dict[int, dict[str, object]]:
    found = [json.loads(fields[b"record"]) for _, fields in client.xrange(JobKeys.of(JOB).results)]
    return {record["index"]: record for record in found}


def feeder_of(settings: Settings, ledger: Ledger, uploader: Uploader, lines: list[ManifestLine]) -> Feeder:
    ledger.create(JOB, len(lines), {})
    return Feeder(
        app_for(settings), ledger, JOB, lines, uploader=uploader, again=lambda first: iter(lines[first:])
    )  # fmt: skip


def test_a_page_without_room_fails_alone(
    settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: nothing behind it was ever sent; the page waited for ever, `enqueue` and a watched folder ended."""
    clock = [0.0]
    monkeypatch.setattr(put_aside, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    write_zip(tmp_path / "a.zip", {"large.jpg": picture(10 * MIB), "small.jpg": picture()})
    lines = [line_of(0, tmp_path / "a.zip", "large.jpg"), line_of(1, tmp_path / "a.zip", "small.jpg")]
    feeder = feeder_of(settings, ledger, uploader, lines)
    with full_disk(8 * MIB):
        assert feeder.step() == 1 and list(ledger.in_flight(JOB)) == [1], "the small one does not wait"
        assert not records(ledger.client) and not feeder.exhausted
        for _ in range(4):  # two pauses, and half of each
            assert not feeder.exhausted and not records(ledger.client)
            clock[0] += put_aside.PAUSE_S / 2
            assert feeder.step() == 0
        assert feeder.exhausted
    failed = records(ledger.client)[0]
    assert failed["status"] == "failed" and failed["error"]["type"] == "TooLarge"  # type: ignore[index]
    assert "given up after 3 tries: it does not fit" in failed["error"]["message"]  # type: ignore[index]
    assert str(tmp_path) not in str(failed["error"]) and "ocrfleet-upload" not in str(failed["error"])
    assert retry_on_broker(ledger, JOB) == 1, "with more room it can be had again"
    again = Feeder(app_for(settings), ledger, JOB, lines, uploader=uploader)
    assert again.step() == 1 and sorted(ledger.in_flight(JOB)) == [0, 1]


def test_a_disk_without_room_for_any_page_fails_none(
    settings: Settings, ledger: Ledger, uploader: Uploader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(put_aside, "PAUSE_S", 0.0)
    write_zip(tmp_path / "a.zip", {f"{number}.jpg": picture() for number in range(2)})
    lines = [line_of(number, tmp_path / "a.zip", f"{number}.jpg") for number in range(2)]
    for _ in range(5):
        with full_disk(1000), pytest.raises(MachineFault):
            feeder_of(settings, ledger, uploader, lines).step()
    assert not records(ledger.client)
    assert feeder_of(settings, ledger, uploader, lines).step() == 2 and queue.depth(ledger.client) == (2, 0)


@pytest.mark.slow
def test_a_page_of_a_pdf_without_room_is_not_the_pdfs_fault(tmp_path: Path) -> None:
    """Before: it was taken for one that pypdf cannot read, and of a large PDF each page was `TooLarge`."""
    (tmp_path / "a.pdf").write_bytes(pdf(2))
    with closing(PdfPages()) as pages:
        with full_disk(100), pytest.raises(MachineFault, match="File too large"):
            pages.take(tmp_path / "a.pdf", 1, tmp_path / "page.pdf")
        assert not (tmp_path / "page.pdf").exists()


def test_a_full_disk_is_no_damage_of_an_archive_that_is_listed(tmp_path: Path) -> None:
    """Before: what came after the PDF that could not be counted was lost."""
    write_zip(tmp_path / "a.zip", {"a.pdf": pdf(2), "b.jpg": b"\xff\xd8\xff"})
    with full_disk(100):
        names, counts = [], []
        for member in members(tmp_path / "a.zip", "zip"):
            names.append(member.name)
            try:
                counts.append(member.look().pages)
            except CannotCountError as error:
                counts.append(str(error))
    assert names == [b"a.pdf", b"b.jpg"] and "File too large" in str(counts[0]) and counts[1] == 1


def test_one_copy_at_a_time(tmp_path: Path) -> None:
    """Before: one for each suffix, of which a stranger's zip may have any number."""
    names = [f"a.x{number}" for number in range(5)]
    write_zip(tmp_path / "a.zip", dict.fromkeys(names, b"x" * 1000))
    with closing(ProducerStorage((), tmp_path / "spool")) as storage:
        for name in names:
            with storage.open(uri(tmp_path / "a.zip", "zip+file", name.encode())) as copy:
                assert copy.read_bytes() == b"x" * 1000
            assert list((tmp_path / "spool").iterdir()) == [copy]


def test_half_a_copy_goes_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: it stayed until its job asked again, up to 1 GiB for each job."""
    monkeypatch.setattr(turn_process, "AT_ONCE", 1)
    monkeypatch.setattr(turn_process, "ABANDONED_S", 0.05)
    monkeypatch.setattr(turn_process, "ROUND_S", 0.0)
    write_zip(tmp_path / "a.zip", {"large.jpg": bytes(64 * MIB), "small.jpg": b"x"})
    one, other = ProducerStorage((), tmp_path / "one"), ProducerStorage((), tmp_path / "other")
    with closing(one), closing(other):
        one.patience_s = 0.0
        with pytest.raises(NotYetError), one.open(uri(tmp_path / "a.zip", "zip+file", b"large.jpg")):
            pass
        wait_until((tmp_path / "one/member.jpg").exists, seconds=10, what="the copy")
        time.sleep(0.06)
        with other.open(uri(tmp_path / "a.zip", "zip+file", b"small.jpg")) as copy:
            assert copy.read_bytes() == b"x"
        assert not (tmp_path / "one/member.jpg").exists()
