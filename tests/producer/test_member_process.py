"""Members of strangers' archives are fetched by a few processes with limits, whoever opens the pages again."""

from __future__ import annotations

import io
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from pypdf import PdfReader

from detector.errors import CorruptImage, ImageError, NotFound, TooLarge, UnsupportedFormat
from detector.memory import peak_rss_mb
from producer.detector_process import member_fetcher, turn_process
from producer.detector_process.member_fetcher import ProducerStorage
from producer.detector_process.turn_process import AT_ONCE, AtWorkError, NotYetError
from producer.job import upload
from producer.job.manifest import ManifestLine
from tests.archives import write_7z
from tests.hostile import long_name_tar, many_entries_zip, slow_tar_xz
from tests.processes import wait_until
from tests.producer.records import pdf
from tests.worker.storage.test_files import uri
from worker.ledger.ledger import Ledger

MEMBERS = {f"{number}.jpg": bytes([number]) * 50_000 for number in range(9)}


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[ProducerStorage]:
    with closing(ProducerStorage((), tmp_path / "spool")) as opened:
        yield opened


def read(storage: ProducerStorage, path: Path, name: str, scheme: str = "zip+file") -> bytes:
    with storage.open(uri(path, scheme, name.encode())) as opened:
        return opened.read_bytes()


def processes(module: str = "producer.detector_process.members") -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and module in child.cmdline()
    ]


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as bundle:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))


@pytest.mark.slow
def test_members_in_any_order_and_what_is_wrong_with_others(storage: ProducerStorage, tmp_path: Path) -> None:
    for write, scheme in ((write_zip, "zip+file"), (write_tar, "tar+file"), (write_7z, "sevenzip+file")):
        path = tmp_path / f"a.{scheme}"
        write(path, MEMBERS)
        for name in ("0.jpg", "7.jpg", "7.jpg", "2.jpg", "8.jpg"):
            assert read(storage, path, name, scheme) == MEMBERS[name]
        with pytest.raises(NotFound, match=r"no member 'no\.jpg'"):
            read(storage, path, "no.jpg", scheme)
        path.write_bytes(path.read_bytes()[:-2000] if scheme != "zip+file" else b"PK")
        with pytest.raises(CorruptImage):
            read(storage, path, "8.jpg", scheme)
    with pytest.raises(NotFound, match="no such file"):
        read(storage, tmp_path / "gone.zip", "8.jpg")
    (child,) = processes()
    storage.close()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert not [path for path in (tmp_path / "spool").iterdir() if path.stem != "member"]


@pytest.mark.slow
@pytest.mark.parametrize("given_up", [False, True])
def test_what_is_fetched_between_two_pages_of_a_member_is_not_it(
    given_up: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the member's later pages were read in the object, "ok" with its boxes."""
    monkeypatch.setattr(member_fetcher, "facts_of", lambda status: ())  # where inodes come again, and times are coarse
    write_zip(tmp_path / "a.zip", {"book.tif": b"of the zip"})
    copy = tmp_path / "spool" / "member.tif"

    def fetch(address: str, target: Path) -> None:
        assert not (given_up and processes()), "it would be written over"
        target.write_bytes(b"an object!")

    member = uri(tmp_path / "a.zip", "zip+file", b"book.tif")
    with closing(ProducerStorage((tmp_path,), tmp_path / "spool", {"s3": fetch})) as storage:
        if given_up:
            storage.patience_s = 0.0
            with pytest.raises(AtWorkError), storage.open(member):
                pass
            wait_until(lambda: copy.exists() and copy.stat().st_size == 10, seconds=30, what="the member")
            storage.patience_s = None
        opened = ((member, b"of the zip"), ("s3://b/other.tif", b"an object!"), (member, b"of the zip"))
        for address, data in opened[given_up:]:
            with storage.open(address) as path:
                assert path.read_bytes() == data


@pytest.mark.slow
def test_each_copy_of_a_pdf_has_another_number(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By it one knows whether the PDF that is open is the one in the file. Before: by inode, size and time."""
    monkeypatch.setattr(upload, "PATIENCE_S", 60.0)
    write_zip(tmp_path / "a.zip", {"a.pdf": pdf(3), "b.pdf": pdf(3)})
    with upload.Uploader(ledger, "j", limit_side=640, shrink=False) as uploader:
        told: list[int] = []
        uploader._pdf_pages.take = lambda *given, **more: bool(told.append(more["copy"]))  # type: ignore[method-assign]
        for name in ("a.pdf", "a.pdf", "b.pdf", "a.pdf", "a.pdf"):
            if len(told) == 4:
                write_zip(tmp_path / "a.zip", {"a.pdf": pdf(4)})
            uploader.pack(ManifestLine(1, name, uri(tmp_path / "a.zip", "zip+file", name.encode()), 1))
        assert told[0] == told[1] and len(set(told)) == 4


def link_then_long_name(path: Path) -> None:
    """The link is listed before the name; looking for what it means, one reads on."""
    link = tarfile.TarInfo("a.jpg")
    link.type, link.linkname = tarfile.LNKTYPE, "missing.jpg"
    with lzma.open(path, "wb") as file:
        file.write(link.tobuf(tarfile.GNU_FORMAT))
    path.write_bytes(path.read_bytes() + long_name_tar())  # two streams are one


def lzma_zip(path: Path, size: int = 300 << 20) -> None:
    """A member that asks for a dictionary as large as itself."""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 30, "preset": 0}]
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[{**filters[0], "dict_size": 1 << 16}])
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    properties = bytes([0x5D]) + struct.pack("<L", 1 << 30)
    body = struct.pack("<BBH", 9, 4, 5) + properties + data
    head = struct.pack("<5H3L2H", 20, 0, 14, 0, 0, 0, len(body), size, 5, 0)
    local = b"PK\3\4" + head + b"a.jpg" + body
    entry = b"PK\1\2" + struct.pack("<H", 20) + head + struct.pack("<3H2L", 0, 0, 0, 0, 0) + b"a.jpg"
    path.write_bytes(local + entry + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(local), 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "scheme", "member"),
    [(link_then_long_name, "tar+file", "missing.jpg"), (lzma_zip, "zip+file", "a.jpg")],
)
def test_what_an_archive_allocates_is_not_ours(
    make: object, scheme: str, member: str, storage: ProducerStorage, tmp_path: Path
) -> None:
    """Before: 1.5 GB and 0.4 GB in the page's or producer's own process."""
    make(tmp_path / "a")  # type: ignore[operator]
    before = psutil.Process().memory_info().rss
    with pytest.raises(TooLarge, match="cannot be unpacked within 192 MiB"):
        read(storage, tmp_path / "a", member, scheme)
    assert psutil.Process().memory_info().rss - before < 8 << 20 and peak_rss_mb() < 2000
    (child,) = processes()
    status = Path(f"/proc/{child.pid}/status").read_text()
    peak = next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 192 + 64
    write_zip(tmp_path / "good.zip", MEMBERS)
    assert read(storage, tmp_path / "good.zip", "3.jpg") == MEMBERS["3.jpg"], "and it goes on"


@pytest.mark.slow
def test_many_jobs_with_huge_zips(tmp_path: Path) -> None:
    """Before: 0.4 KB a member in this process for each, 100 MB here."""
    many_entries_zip(tmp_path / "a.zip", 60_000)
    before = psutil.Process().memory_info().rss
    with ExitStack() as stack:
        jobs = [stack.enter_context(closing(ProducerStorage((), tmp_path / f"{number}"))) for number in range(AT_ONCE)]
        for storage in jobs:
            assert read(storage, tmp_path / "a.zip", "0.jpg") == b""
        held = [child.memory_info().rss >> 20 for child in processes()]
        assert len(held) == AT_ONCE and max(held) < 40
        assert psutil.Process().memory_info().rss - before < 8 << 20
    assert not processes()


@pytest.mark.slow
def test_a_slow_archive_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: the thread that fed pages unpacked 512 GB, in its turn of all jobs."""
    monkeypatch.setattr(member_fetcher, "MEMBER_S", 2.5)
    monkeypatch.setattr(member_fetcher, "MEMBER_S_PER_MIB", 0.0)
    (tmp_path / "slow.tar.xz").write_bytes(slow_tar_xz())
    write_zip(tmp_path / "good.zip", MEMBERS)
    with ExitStack() as stack:
        slow, good = (stack.enter_context(closing(ProducerStorage((), tmp_path / name))) for name in "sg")
        slow.patience_s = 0.1
        for _ in range(2):  # times out, then is refused for good
            began = time.monotonic()
            with pytest.raises(NotYetError):
                read(slow, tmp_path / "slow.tar.xz", "x.jpg", "tar+file")
            assert time.monotonic() - began < 2
            assert read(good, tmp_path / "good.zip", "1.jpg") == MEMBERS["1.jpg"]
            slow.patience_s = 30.0
            with pytest.raises(TooLarge, match=r"was not unpacked within 2\.5 s"):
                read(slow, tmp_path / "slow.tar.xz", "x.jpg", "tar+file")
            slow.patience_s = 0.1
        with pytest.raises(TooLarge, match="takes too long to unpack"):
            read(slow, tmp_path / "slow.tar.xz", "y.jpg", "tar+file")


@pytest.mark.parametrize("in_a_zip", [False, True])
def test_a_slow_page_of_a_pdf_keeps_nobody_waiting(
    in_a_zip: bool, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 20 s a page, in its turn of all jobs."""
    monkeypatch.setattr(upload, "PATIENCE_S", 0.0)
    (tmp_path / "a.pdf").write_bytes(pdf(3))
    write_zip(tmp_path / "a.zip", {"a.pdf": pdf(3)})
    place = uri(tmp_path / "a.zip", "zip+file", b"a.pdf") if in_a_zip else (tmp_path / "a.pdf").as_uri()
    with upload.Uploader(ledger, "j", limit_side=640, shrink=False) as uploader:
        waited, parcels = 0, []
        deadline = time.monotonic() + 20
        while len(parcels) < 2 and time.monotonic() < deadline:
            try:
                parcels.append(uploader.pack(ManifestLine(len(parcels) + 1, "a.pdf", place, len(parcels) + 1)))
            except NotYetError:
                waited += 1
                time.sleep(0.02)
        assert waited and [(parcel.alone, parcel.page) for parcel in parcels] == [(True, 0)] * 2
        assert all(len(PdfReader(io.BytesIO(parcel.data)).pages) == 1 for parcel in parcels)


@pytest.mark.parametrize("raised", [AtWorkError, NotYetError, CorruptImage, None])
def test_a_copy_stays_while_a_process_is_at_it(
    storage: ProducerStorage, tmp_path: Path, raised: type[Exception] | None
) -> None:
    """Before: it was removed, and written anew under its name, while what takes a page out of a PDF was to open it."""
    (tmp_path / "a.zip").touch()
    content = bytes(member_fetcher.KEPT_BYTES + 1)
    storage.extract = lambda *given, **more: Path(given[3]).write_bytes(content)  # type: ignore[assignment]
    with suppress(AtWorkError, NotYetError, CorruptImage), storage.open(uri(tmp_path / "a.zip", "zip+file", b"a.pdf")):
        if raised is not None:
            raise raised("a.pdf")
    assert (tmp_path / "spool" / "member.pdf").exists() == (raised is AtWorkError)


@pytest.mark.slow
def test_more_jobs_than_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is served in its turn, also where others have asked and do not come for the answer."""
    monkeypatch.setattr(turn_process, "HOLD_S", 0.1)
    monkeypatch.setattr(turn_process, "ABANDONED_S", 0.3)
    monkeypatch.setattr(turn_process, "ROUND_S", 0.0)
    (tmp_path / "slow.tar.xz").write_bytes(slow_tar_xz())
    write_zip(tmp_path / "good.zip", MEMBERS)
    with ExitStack() as stack:
        jobs = [stack.enter_context(closing(ProducerStorage((), tmp_path / str(n)))) for n in range(AT_ONCE + 2)]
        for job in jobs:
            job.patience_s = 0.0
        for job in jobs[:AT_ONCE]:
            with pytest.raises(NotYetError):
                read(job, tmp_path / "slow.tar.xz", "x.jpg", "tar+file")
        with pytest.raises(NotYetError):
            read(jobs[-1], tmp_path / "good.zip", "1.jpg")
        time.sleep(0.35)
        for job in (*jobs[-2:], jobs[0]):
            job.patience_s = 5.0
            assert read(job, tmp_path / "good.zip", "2.jpg") == MEMBERS["2.jpg"]
            assert len(processes()) <= AT_ONCE


@pytest.mark.parametrize(
    "program",
    ["producer.detector_process.members", "producer.archive_process.program", "producer.sources.count_pages"],
)
def test_no_process_that_opens_archives_loads_redis(program: str) -> None:
    """10 MB each, several at a time beside the page: with them it was killed at 96 MB."""
    code = f"import sys, {program}; print(sorted({{'redis', 'celery', 'kombu', 'numpy'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_have_their_kinds() -> None:
    kinds = {CorruptImage, NotFound, TooLarge, UnsupportedFormat}
    assert {kind.type for kind in kinds} == set(member_fetcher._ERRORS) and all(
        issubclass(k, ImageError) for k in kinds
    )


def test_an_archive_whose_name_is_no_utf8(tmp_path: Path) -> None:
    """Before: its process died of each answer that names it, and after two no member was taken."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.zip"))
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("good.jpg", b"good")
    with closing(ProducerStorage((), tmp_path / "spool")) as opened:
        for number in range(4):
            with (
                pytest.raises(NotFound, match=r"no member '\d.jpg' in .*\\xff\.zip"),
                opened.open(f"zip+file://{quote(os.fsencode(path))}#{number}.jpg"),
            ):
                pass
        with opened.open(f"zip+file://{quote(os.fsencode(path))}#good.jpg") as good:
            assert good.read_bytes() == b"good"
