"""A job's list of pages travels with it: copied as it grows, within bounds, and read by nobody's leave but its own."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from producer.errors import OtherJobError, ProducerError
from producer.fleet_request import remembered
from producer.handover import list_copy
from producer.handover.inherit import do_lost_again, inherit
from producer.handover.list_copy import FIELD, Extent, ListCopy, copying, drop_if_complete, extent
from producer.job import growth as growth_module
from producer.job.growth import Growth
from producer.job.job_epoch import is_ours, open_job
from producer.job.manifest import ManifestLine, count_manifest, read_manifest, write_lines, write_manifest
from producer.job.output_folder import JobRequest, OutputFolder
from producer.job.results_file import Line
from producer.sources.scan import FoundPage
from worker.ledger.ledger import JobReplacedError, JobStatus, Ledger
from worker.messages import ImageRecord, ImageTask, Seconds, encode
from worker.redis_keys import JobKeys

JOB = "lost"
KEYS = JobKeys.of(JOB)


def begin(root: Path, ledger: Ledger, pages: int, *, transfer: str = "uri") -> OutputFolder:
    """A job of this machine, with its list on the broker, whose producer was last at work an hour ago."""
    folder = OutputFolder(root)
    request = JobRequest(job=JOB, sources=["/shared"], transfer=transfer, output="s3://bucket/out")
    folder.save_request(request)
    write_manifest((FoundPage(f"{i}.tif", f"file:///shared/{i}.tif", 0) for i in range(pages)), folder.manifest)
    open_job(folder, ledger, JOB, pages, remembered(request))
    copy(folder, ledger)
    ledger.client.hset(KEYS.job, "fed_ms", 1)
    return folder


def status_of(ledger: Ledger) -> JobStatus:
    status = ledger.status(JOB)
    assert status is not None
    return status


def copy(folder: OutputFolder, ledger: Ledger) -> list[str]:
    said: list[str] = []
    copying(folder, folder.request(), ledger, status_of(ledger), said.append)()
    return said


def add_page(folder: OutputFolder, ledger: Ledger, page: ManifestLine) -> None:
    with folder.manifest.open("ab") as stream:
        write_lines(stream, [page])
    ledger.grow(JOB, page.index + 1)


def test_another_machine_has_the_same_list(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a lost producer cost its job: "was enqueued on another machine: resume it there"."""
    monkeypatch.setattr(list_copy, "BLOCK", 5000)
    monkeypatch.setattr("producer.handover.list_copy.PIECE", 700)
    first = begin(tmp_path / "first", ledger, 1000)
    add_page(first, ledger, ManifestLine(1000, "7.tif", "file:///shared/7.tif", 1, None, 7))
    copy(first, ledger)
    assert ledger.client.ttl(KEYS.manifest) > 3000
    ledger.client.expire(KEYS.manifest, 5)
    ledger.client.hdel(KEYS.job, "kept_ms")
    ledger.touch(JOB)
    assert ledger.client.ttl(KEYS.manifest) > 3000, "it lives as long as the job's other keys"
    second = OutputFolder(tmp_path / "second")
    assert inherit(ledger, status_of(ledger), second) == 1001
    assert second.manifest.read_bytes() == first.manifest.read_bytes()
    assert (second.request().sources, second.request().output) == ([], ""), "nothing is scanned, nor sent to a bucket"
    assert open_job(second, ledger, JOB, 1001) == first.epoch
    ledger.forget(JOB)
    assert ledger.client.keys(f"ocrfleet:*{JOB}*") == []


def test_the_copy_goes_on_and_begins_again(tmp_path: Path, ledger: Ledger) -> None:
    folder = begin(tmp_path, ledger, 50)
    size = ledger.client.strlen(KEYS.manifest)
    copy(folder, ledger)
    assert ledger.client.strlen(KEYS.manifest) == size, "nothing is copied twice"
    with folder.manifest.open("ab") as stream:
        stream.write(b'{"index":50,"ima')
    copy(folder, ledger)
    assert ledger.client.strlen(KEYS.manifest) == size, "half a line is none"
    # Counted again before a retry: the file is another one from its middle on.
    write_manifest((FoundPage(f"{i}.png", f"file:///{i}.png", 0) for i in range(50)), folder.manifest)
    copy(folder, ledger)
    assert inherit(ledger, status_of(ledger), OutputFolder(tmp_path / "second")) == 50
    lines = list(read_manifest(tmp_path / "second" / "manifest.jsonl"))
    assert lines[49].image == "49.png"


@pytest.mark.parametrize("piece", [list_copy.PIECE, 10])
@pytest.mark.parametrize("grows", [True, False])
@pytest.mark.parametrize("damage", ["gone", "hash", "shorter", "longer", "mark", "long mark", "middle"])
def test_a_damaged_copy_is_made_whole(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, damage: str, grows: bool, piece: int
) -> None:
    """Before: of another type it ended each command of the job with 3; else no machine could ever take the job over."""
    if damage == "middle" and piece == 10:
        pytest.skip("of a large one only the end is looked at")
    folder = begin(tmp_path / "first", ledger, 50)
    before = status_of(ledger)
    monkeypatch.setattr(list_copy, "PIECE", piece)
    lives = copying(folder, folder.request(), ledger, before, print)
    lives()
    client, data = ledger.client, ledger.client.get(KEYS.manifest)
    if damage == "middle":
        client.setrange(KEYS.manifest, 20, b"XXXX")
    elif damage.endswith("mark"):
        client.hset(KEYS.job, FIELD, "x" * (900 if damage == "long mark" else 1))
    else:
        client.delete(KEYS.manifest)
        if damage == "hash":
            client.hset(KEYS.manifest, "a", "b")
        elif damage != "gone":
            client.set(KEYS.manifest, data[:-9] if damage == "shorter" else data + b"x")
    if grows:
        add_page(folder, ledger, ManifestLine(50, "z.tif", "file:///shared/z.tif", 0))
        lives()
    copy(folder, ledger)
    monkeypatch.undo()
    assert inherit(ledger, status_of(ledger), OutputFolder(tmp_path / "second")) == 50 + grows


def test_two_processes_of_a_machine_copy_one_list(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`watch-folder` and `collect --follow`. Before: each took the other's copy away and began again, for ever."""
    monkeypatch.setattr(list_copy, "BLOCK", 700)
    folder = begin(tmp_path / "first", ledger, 100)
    watch, follow = (ListCopy(folder.manifest, ledger, JOB, epoch=folder.epoch, heir="", warn=print) for _ in range(2))
    places: list[int] = []
    pages = 100

    def add() -> None:
        nonlocal pages
        add_page(folder, ledger, ManifestLine(pages, "z.tif", "file:///shared/z.tif", 0))
        pages += 1

    def counted(copying: ListCopy, before: Callable[[], None]) -> None:
        write = copying._write

        def call(keys: list[str], args: list[int]) -> object:
            before()
            places.append(args[3])
            return write(keys=keys, args=args)

        monkeypatch.setattr(copying, "_write", call)

    def file_comes() -> None:
        if pages < 130:
            add()
            watch.step()

    follow.step()
    counted(watch, lambda: None)
    counted(follow, file_comes)
    add()
    watch.step()
    follow.step()
    assert len(places) == 1, "what the other has copied is not copied again"
    add()
    follow.step()  # while files come
    follow.step()
    assert 0 not in places and len(places) < 50
    assert inherit(ledger, status_of(ledger), OutputFolder(tmp_path / "second")) == pages


def test_a_list_too_large_stays_and_says_so(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_copy, "MOST_BYTES", 3000)
    monkeypatch.setattr(list_copy, "BLOCK", 5000)
    folder = begin(tmp_path / "first", ledger, 2000)
    [said] = copy(folder, ledger)
    assert "only this machine can resume" in said
    assert not ledger.client.exists(KEYS.manifest)
    with pytest.raises(ProducerError, match="not on the broker: resume it there"):
        inherit(ledger, status_of(ledger), OutputFolder(tmp_path / "second"))
    sent = ledger.client.info("stats")["total_net_input_bytes"]
    assert copy(folder, ledger) == [said], "who feeds it again"
    assert ledger.client.info("stats")["total_net_input_bytes"] - sent < 1500, "sends nothing of it. Before: all"
    assert not ledger.client.exists(KEYS.manifest)


@pytest.mark.parametrize("raw", [1, 40_000])
def test_nobody_else_says_that_a_list_is_too_large(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, raw: int
) -> None:
    """Before: one word in the job's hash, and no process ever copied its list again: a lost machine cost the job."""
    monkeypatch.setattr(list_copy, "MOST_BYTES", 50_000)
    folder = begin(tmp_path / "first", ledger, 2000)
    assert folder.manifest.stat().st_size > raw
    ledger.client.hset(KEYS.job, FIELD, msgspec.json.encode(Extent(raw, 0, 77)))
    add_page(folder, ledger, ManifestLine(2000, "z.tif", "file:///shared/z.tif", 0))
    assert copy(folder, ledger) == []
    assert inherit(ledger, status_of(ledger), OutputFolder(tmp_path / "second")) == 2001


def test_a_job_that_is_on_disk_needs_no_list(tmp_path: Path, ledger: Ledger) -> None:
    begin(tmp_path, ledger, 1)
    drop_if_complete(ledger, status_of(ledger), 0)
    assert ledger.client.exists(KEYS.manifest)
    ledger.adopt(JOB, [0], ok=True)
    drop_if_complete(ledger, status_of(ledger), 1)
    assert not ledger.client.exists(KEYS.manifest) and FIELD not in status_of(ledger).extra


def packed(*lines: bytes) -> tuple[bytes, Extent]:
    raw = b"".join(lines)
    return zlib.compress(raw), Extent(len(raw), len(zlib.compress(raw)), zlib.crc32(raw))


GOOD = b'{"index":0,"image":"a","uri":"file:///a","page":0}\n'
BOMB = zlib.compress(bytes(8 << 20))


@pytest.mark.parametrize(
    ("data", "says", "told"),
    [
        (BOMB, Extent(100 << 10, len(BOMB), 0), "larger than it says"),
        (BOMB, Extent(8 << 20, len(BOMB), zlib.crc32(bytes(8 << 20))), "damaged at page 0"),
        (b"\0" * 100, Extent(100, 100, 0), "damaged"),
        (packed(GOOD)[0], Extent(len(GOOD), 1 << 20, zlib.crc32(GOOD) + 1), "damaged"),
        (*packed(GOOD, GOOD), "not this job's"),
        (*packed(GOOD.replace(b'"page":0', b'"page":-1')), "not this job's"),
        (*packed(GOOD.replace(b"0", b"5")), "not this job's"),
        (*packed(GOOD.replace(b'"a"', b'"%b"' % (b"a" * 20_000))), "damaged at page 0"),
        (*packed(b"[]\n"), "damaged"),
        (*packed(b""), "0 of 1 pages"),
    ],
    ids=["bomb", "long line", "no zlib", "cut", "too many", "page", "index", "long name", "no line", "too few"],
)
def test_a_strangers_list_is_refused(tmp_path: Path, ledger: Ledger, data: bytes, says: Extent, told: str) -> None:
    """Whoever has a worker's password may write there."""
    begin(tmp_path / "first", ledger, 1)
    ledger.client.set(KEYS.manifest, data)
    ledger.client.hset(KEYS.job, FIELD, msgspec.json.encode(says))
    second = OutputFolder(tmp_path / "second")
    with pytest.raises(ProducerError, match=told):
        inherit(ledger, status_of(ledger), second)
    assert not second.manifest.exists() and not second.exists()
    assert [file.name for file in second.root.rglob("*") if file.is_file()] == ["lock"]


def test_what_is_no_extent_is_none() -> None:
    for text in ("", "{}", "x", '{"raw":-1,"size":1}', '{"raw":1,"size":99999999999}', '{"raw":99999999999,"size":1}'):
        assert extent(text) == Extent()


def test_files_of_such_a_list_are_not_opened(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path / "first", ledger, 2)
    second = OutputFolder(tmp_path / "second")
    inherit(ledger, status_of(ledger), second)

    def opened(path: Path) -> object:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(growth_module, "kind_of_file", opened)
    growth = Growth(second.manifest, ledger, JOB, 2, heir=second.heir)
    growth.note(Line(index=0, image="0.tif", page=0, status="ok", seconds=Seconds(), pages=3))
    assert len(growth.write()) == 2, "a TIFF by its name"
    growth.close()


def test_pages_whose_bytes_are_sent_from_there_are_not_sent_from_here(tmp_path: Path, ledger: Ledger) -> None:
    begin(tmp_path / "first", ledger, 1, transfer="redis")
    assert not ledger.client.exists(KEYS.manifest)
    with pytest.raises(OtherJobError, match="sends its pages' bytes"):
        inherit(ledger, status_of(ledger), OutputFolder(tmp_path / "second"))


def test_a_producer_at_work_keeps_its_job(tmp_path: Path, ledger: Ledger) -> None:
    begin(tmp_path / "first", ledger, 1)
    ledger.touch(JOB, feeding=True)
    with pytest.raises(OtherJobError, match="fed 0 s ago"):
        inherit(ledger, status_of(ledger), OutputFolder(tmp_path / "second"))


@pytest.mark.parametrize("total", ["1", "", "x"])
def test_a_smaller_number_keeps_no_heir_away(tmp_path: Path, ledger: Ledger, total: str) -> None:
    """Before: a whole list was "not this job's"; where its machine was lost, nobody could put the number right."""
    begin(tmp_path / "first", ledger, 3)
    ledger.client.hset(KEYS.job, mapping={"total": total, "fed_ms": 1})
    assert inherit(ledger, status_of(ledger), OutputFolder(tmp_path / "second")) == 3
    assert status_of(ledger).total == 3


def test_a_machine_that_comes_back_is_told(tmp_path: Path, ledger: Ledger) -> None:
    """Its list and the other's would grow apart: two pages of one number."""
    first = begin(tmp_path / "first", ledger, 2)
    asleep = copying(first, first.request(), ledger, status_of(ledger), print)
    growing = Growth(first.manifest, ledger, JOB, 2, heir=first.heir)
    second = OutputFolder(tmp_path / "second")
    inherit(ledger, status_of(ledger), second)
    assert not is_ours(first, status_of(ledger)) and is_ours(second, status_of(ledger))
    with pytest.raises(OtherJobError, match="took lost over"):
        open_job(first, ledger, JOB, 2)
    (tmp_path / "first" / "manifest.jsonl").write_bytes(first.manifest.read_bytes() + GOOD.replace(b":0", b":2"))
    with pytest.raises(JobReplacedError):
        asleep()
    growing.note(Line(index=0, image="0.tif", page=0, status="ok", seconds=Seconds(), pages=3))
    with pytest.raises(OtherJobError, match="took lost over"):
        growing.write()
    growing.close()
    assert status_of(ledger).total == 2
    third = OutputFolder(tmp_path / "third")
    ledger.client.hset(KEYS.job, "fed_ms", 1)
    assert inherit(ledger, status_of(ledger), third) == 2, "and so on"
    with pytest.raises(OtherJobError):
        open_job(second, ledger, JOB, 2)


def test_what_was_collected_on_a_lost_disk_is_done_again(tmp_path: Path, ledger: Ledger) -> None:
    folder = begin(tmp_path / "first", ledger, 5)
    epoch = status_of(ledger).epoch
    # What a stranger says of a page that the list has not. Before: it was among the results, exit 0.
    ledger.client.setrange(KEYS.state, 5, b"ooo")
    ledger.client.hset(KEYS.job, "total", 8)
    made_up = ImageRecord(job=JOB, index=7, image="7.tif", page=0, status="ok")
    for index in range(4):  # 0 was collected there, 1 here, 2 waits, 3 runs, 4 was never fed
        task = ImageTask(job=JOB, index=index, image=f"{index}.tif", uri="file:///x", epoch=epoch)
        ledger.feed([task])
        ledger.begin(JOB, index, redelivered=False, epoch=epoch)
        record = encode(ImageRecord(job=JOB, index=index, image=task.image, page=0, status="ok"))
        if index < 3:
            ledger.finish(JOB, index, ok=True, record=record, epoch=epoch)
        if index == 1:
            (tmp_path / "here").mkdir()
            (tmp_path / "here" / "results.jsonl").write_bytes(record + b"\n")
        if index < 2:
            ledger.client.xtrim(KEYS.results, maxlen=0, approximate=False)
    ledger.client.xadd(KEYS.results, {"record": encode(made_up)})
    assert do_lost_again(folder, ledger, status_of(ledger), tmp_path / "here" / "results.jsonl") == 1
    status = status_of(ledger)
    assert (status.ok, status.failed, status.unfed, status.total) == (2, 0, 2, 5)
    assert list(ledger.pages_in_state(JOB, b"\0")) == [0, 4]
    assert count_manifest(tmp_path / "here" / "results.jsonl") == 2
