"""What a record of two million characters becomes is not the page's own memory; and what else expiring met."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from starlette.responses import Response, StreamingResponse

from detector.memory import peak_rss_mb
from producer.job.output_folder import OutputFolder
from producer.job.results_file import drop_failed, failed_lines
from producer.sources.scan import file_uri
from producer.web.bounds import export_process
from producer.web.bounds.job_locks import JobLocks, on_our_own
from producer.web.labelstudio import MOST_OF_A_PAGE, Control, predictions
from producer.web.problem import Problem
from producer.web.results import converted_response, file_name, line_blocks, lines_response, record_blocks
from producer.web.service import Service
from producer.web.store import Store, WebJob
from tests.producer.records import BOX, failed, ok, write_results
from worker.messages import encode


def folder_of(tmp_path: Path, *records: object) -> OutputFolder:
    folder = OutputFolder(tmp_path / "job")
    folder.root.mkdir()
    write_results(folder.root, records)
    return folder


def forget_the_peak() -> float:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_rss_mb()


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["labelstudio"])
def test_a_page_of_very_many_boxes_is_converted_elsewhere(tmp_path: Path, wanted: str) -> None:
    """Before: 60,000 boxes were 160 MB of the page's own, and six were made at a time."""
    folder = folder_of(tmp_path, ok(0, boxes=[BOX] * 20_000))
    exports = tmp_path / "exports"
    exports.mkdir()
    before = forget_the_peak()
    response = converted_response("job", folder, wanted, exports, ExitStack())
    assert response.status_code == 200 and peak_rss_mb() - before < 8
    [task] = json.loads((exports / wanted).read_bytes())
    assert len(task["predictions"][0]["result"]) == 20_000


@pytest.mark.slow
def test_what_opens_pictures_reads_no_record_here(tmp_path: Path) -> None:
    """Before: two `pdf` of records of 3.7 MiB were 131 MB of the page's own process, two `crops` 162."""
    folder = folder_of(tmp_path, ok(0, boxes=[BOX] * 40_000))
    before = forget_the_peak()
    with pytest.raises(Problem, match="was not read") as refused:
        converted_response("job", folder, "pdf", tmp_path / "exports", ExitStack())
    assert refused.value.status == 409 and peak_rss_mb() - before < 4


def test_what_is_ordered_is_not_ordered_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the page goes on whoever has left."""
    folder, asked = folder_of(tmp_path, ok(0, boxes=[BOX] * 1000)), []
    assert 32 << 10 < folder.results.stat().st_size < 256 << 10

    def ask(wanted: export_process.Wanted, making: object) -> export_process.Converted:
        asked.append(wanted.format_name)
        return export_process.Converted()

    monkeypatch.setattr(export_process, "_ask", ask)
    for wanted in ("txt", "hocr", "alto", "csv", "crops", "pdf"):
        export_process.convert(folder.root, wanted, tmp_path / wanted, "")
    assert asked == ["txt", "hocr", "alto", "crops", "pdf"]


def test_what_takes_too_much_there_costs_that_answer_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path, ok(0))
    monkeypatch.setattr(export_process, "SMALL_BYTES", 0)
    monkeypatch.setattr(sys, "executable", "/bin/false")  # as one that the kernel killed
    with pytest.raises(Problem, match="labelstudio: these results take more than") as refused:
        converted_response("job", folder, "labelstudio", tmp_path / "export", ExitStack())
    assert refused.value.status == 409


def test_what_it_refuses_and_what_it_cannot_write_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path, ok(0))
    wanted = export_process.Wanted(quote(str(folder.root)), "txt", quote(str(tmp_path / "txt")), "")
    assert "was not read" in export_process.answer(export_process.msgspec.json.encode(wanted)).refused
    (tmp_path / "file").touch()
    wanted = export_process.Wanted(quote(str(folder.root)), "csv", quote(str(tmp_path / "file" / "csv")), "")
    told = export_process.answer(export_process.msgspec.json.encode(wanted))
    assert told.errno and str(tmp_path / "file") in told.file
    monkeypatch.setattr(export_process, "SMALL_BYTES", 0)
    monkeypatch.setattr(export_process, "_ask", lambda wanted, making: told)
    with pytest.raises(OSError, match="cannot be written"):
        export_process.convert(folder.root, "csv", tmp_path / "csv", "")
    monkeypatch.setattr(export_process, "PATIENCE_S", 0)
    monkeypatch.setattr(export_process, "_converting", export_process.threading.Semaphore(0))
    with pytest.raises(Problem) as refused:
        export_process.convert(folder.root, "csv", tmp_path / "csv", "")
    assert refused.value.status == 429


def test_the_answer_of_detect_is_the_line_as_it_is(tmp_path: Path) -> None:
    """Before: read and written anew, 60 MB for 4 MiB, for each of 32 who wait."""
    folder = folder_of(tmp_path, failed(0, message=f"{tmp_path}/job/upload/a.jpg: is none"))
    found = record_blocks(folder.results)
    assert found is not None and json.loads(b"".join(found[1]))["error"]["message"] == "a.jpg: is none"
    record = encode(ok(0, boxes=[BOX] * 60_000))
    folder.results.write_bytes(record + b"\n")
    before = forget_the_peak()
    found = record_blocks(folder.results)
    assert found is not None and found[0] == len(record) > 2 << 20
    assert max(map(len, found[1])) <= 1 << 15 and peak_rss_mb() - before < 1, "a block at a time"
    found = record_blocks(folder.results)
    assert found is not None and b"".join(found[1]) == record
    write_results(folder.root, [ok(0), ok(1)])
    assert record_blocks(folder.results) is None


def test_results_go_on_from_any_byte(tmp_path: Path) -> None:
    """Before: from the second byte of our folder's name on it was told; and who was cut off got some bytes twice."""
    upload = f"{tmp_path}/job/upload/"
    texts = ("is none", f"{upload}a.jpg: is none", f"{upload}{upload}b.jpg, {upload[:-1]}")
    folder = folder_of(tmp_path, *(failed(number, message=text) for number, text in enumerate(texts)), ok(3))
    file = folder.results.read_bytes()
    folder.results.write_bytes(file + b'{"half')

    following = int(lines_response("job", folder).headers["Ocrfleet-Next"])
    for start in (0, 1, following // 2, following, following + 1, 1 << 50):
        answered = lines_response("job", folder, start)
        body = asyncio.run(_body_of(answered))
        assert answered.headers["Content-Length"] == str(len(body)), "else it ends anywhere for HTTP/1.0"

    def answer(start: int) -> bytes:
        with folder.results.open("rb") as stream:
            return b"".join(line_blocks(stream, start, following, hide=upload))

    said = answer(0)
    assert said.replace(b" ", b"") == file.replace(upload.encode(), b"").replace(b" ", b"")
    assert [json.loads(line) for line in said.splitlines()][3] == json.loads(file.splitlines()[3])
    assert following == len(said) == len(file), "the places are the file's"
    for start in range(len(file) + 3):
        assert answer(start) == said[start:]
    assert answer(1 << 50) == b""


def test_failures_are_read_without_boxes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ok(0, boxes=[BOX] * 20_000), failed(1, message="is none"))
    before = forget_the_peak()
    [(line, error)] = failed_lines(folder.results)
    assert line.index == 1 and error.message == "is none" and peak_rss_mb() - before < 8


def test_label_studio_gets_what_it_asked_for_and_no_more(tmp_path: Path) -> None:
    """Before: each record of a folder that a task named was held as Label Studio has it."""
    folder = folder_of(tmp_path, ok(0), ok(1), ok(2, boxes=[BOX] * 8000))
    lines = [{"index": n, "image": f"{n}.jpg", "uri": file_uri(Path(f"/roots/{n}.jpg")), "page": 0} for n in range(3)]
    folder.manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(encode(ok(2, boxes=[BOX] * 8000))) > MOST_OF_A_PAGE
    spool = io.BytesIO()
    found = predictions(folder, Control(), {"file:///roots/1.jpg": 1, "file:///roots/none.jpg": 1}, spool)
    assert found == {"file:///roots/1.jpg": range(len(spool.getvalue()))}
    assert len(json.loads(spool.getvalue())["result"]) == 1
    with pytest.raises(Problem) as refused:
        predictions(folder, Control(), {"file:///roots/2.jpg": 1}, spool)
    assert refused.value.status == 413


def test_expiring_goes_on_past_jobs_that_visitors_delete(tmp_path: Path) -> None:
    """Before: one that was gone when its turn came ended expiring until the next start, and the quota filled."""
    store = Store(tmp_path)
    for name in ("one", "two", "three"):
        assert store.accept(store.new_upload(), name, WebJob(created=1, finished=1, state="done"))
    service = Service.__new__(Service)  # its constructor wants a broker
    service.store, service.changing, deleted = store, JobLocks(), list[str]()
    service.settings = SimpleNamespace(result_ttl_h=1)  # type: ignore[assignment]

    def delete(service: Service, name: str, limit: float) -> None:
        """As the service does, but a visitor is quicker with the first."""
        deleted.append(name)
        store.throw_away(name)
        if len(deleted) == 1:
            store.folder(name)

    service.delete_old = partial(on_our_own(delete), service)  # type: ignore[method-assign]
    assert service.expire(time.time()) == 3 and len(deleted) == 3 and store.names() == []


def test_the_list_of_jobs_leaves_out_what_is_deleted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    for name in ("one", "two"):
        assert store.accept(store.new_upload(), name, WebJob(created=1))
    has = store.has

    def gone_after_a_look(name: str) -> bool:
        there = has(name)
        if name == "one":
            store.throw_away(name)
        return there

    monkeypatch.setattr(store, "has", gone_after_a_look)
    assert store.names() == ["two"]


def test_a_file_that_takes_anothers_place_has_a_name_that_none_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: its inode, which ext4 gives again: after two retries a client went on amid a line of another file.

    So did who knew a job that was deleted, and sent again: the first file had no name of its own.
    """
    fstat = os.fstat
    monkeypatch.setattr(os, "fstat", lambda file: os.stat_result((0o100644, 21, *tuple(fstat(file))[2:])))
    folder = folder_of(tmp_path, ok(0), failed(1, message="is none"), ok(2))
    names = [file_name(folder.results)]
    for _ in range(3):
        drop_failed(folder.results)
        names.append(file_name(folder.results))
        with folder.results.open("ab") as stream:
            stream.write(encode(failed(1, message="still")) + b"\n")
        assert file_name(folder.results) == names[-1], "the same file, longer"
        lines = folder.results.read_bytes()
        folder.results.unlink()  # its job was deleted, and sent again with its key: a Collector makes the file
        folder.results.write_bytes(lines)
        names.append(file_name(folder.results))
    if not hasattr(os, "getxattr") or names[1] == names[0]:
        pytest.skip("files have no attributes here")
    assert len(set(names)) == 7
    answer = lines_response("job", folder)
    assert answer.headers["Ocrfleet-File"] == names[-1]


def test_what_is_told_is_of_one_file_whatever_takes_its_place(tmp_path: Path) -> None:
    """Before: it was opened three times by its name: the end of one, and the bytes of another."""
    folder = folder_of(tmp_path, ok(0), failed(1, message="is none"))
    file = folder.results.read_bytes()
    answer = lines_response("job", folder)
    drop_failed(folder.results)
    assert asyncio.run(_body_of(answer)) == file


async def _body_of(answer: Response) -> bytes:
    assert isinstance(answer, StreamingResponse)
    return b"".join([bytes(block) async for block in answer.body_iterator])  # type: ignore[arg-type]
