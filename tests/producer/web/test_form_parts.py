"""Parts of a form count one by one, whatever they are called; and what lists failures and pages holds no long texts."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from starlette.requests import Request

from producer.job.manifest import ManifestLine
from producer.web.bounds.form import MOST_FIELDS, Form
from producer.web.bounds.upload_places import Place
from producer.web.jobs.entries import MOST_SHOWN
from producer.web.problem import Problem
from producer.web.service import Service
from producer.web.settings import read_web_settings
from producer.web.store import Store, WebJob
from producer.web.upload import Intake, Received
from tests.producer.records import failed, write_results
from tests.producer.web.places import lone_place
from tests.traced import assert_few_bytes

SETTINGS = read_web_settings({})
PICTURE, OTHER = b"\xff\xd8\xff" + bytes(100), b"x"


def send(
    store: Store,
    parts: list[bytes],
    most_files: int = 5,
    before: Iterable[bytes] = (),
    after: Iterable[bytes] = (),
    place: Place | None = None,
) -> Received:
    """What came of a form of these parts."""
    left = [b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts] + [b"--b--\r\n"]
    left = [*before, *left, *after]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    request = Request({"type": "http", "headers": headers, "query_string": b""}, receive)
    limits, place = (SETTINGS, store.room), place or lone_place()
    intake = Intake(store.new_upload() / "upload", *limits, archives=True, most_files=most_files, place=place)
    return asyncio.run(intake.read(request))


def file(name: bytes, data: bytes) -> bytes:
    return b'name="files"; filename="' + name + b'"\r\n\r\n' + data


def field(name: bytes) -> bytes:
    return b'name="' + name + b'"\r\n\r\n1'


@pytest.mark.parametrize("data", [OTHER, b"", PICTURE])
def test_files_of_one_name_count_one_by_one(tmp_path: Path, data: bytes) -> None:
    """Before: those that were not taken counted by name; 100,000 of one byte kept the page from others for a minute."""
    store = Store(tmp_path)
    with pytest.raises(Problem, match="more than 5 files") as refused:
        send(store, [file(b"a", data)] * 2000)
    assert refused.value.status == 413
    took = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix == ".jpg"]
    assert len(took) <= 5
    received = send(store, [file(b"a", PICTURE)] * 5)
    assert len(received.files) == len(received.hashes) == 5


def test_fields_of_one_name_count_one_by_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(Problem, match=f"more than {MOST_FIELDS} fields"):
        send(store, [field(b"a")] * 2000)
    received = send(store, [field(b"%d" % number) for number in range(MOST_FIELDS)] + [file(b"a", PICTURE)])
    assert len(received.files) == 1


def test_fields_of_a_form_on_its_way_take_what_was_sent() -> None:
    """Before: as text, 4 bytes a letter where one is an emoji, 0.5 MB of each of 50 uploads."""
    value = "\U0001f600".encode() + b"x" * 4000

    def begun(_: int) -> list[Form]:
        forms = [Form(SimpleNamespace(), b"b") for _ in range(50)]
        for form in forms:
            for number in range(MOST_FIELDS):
                head = b'--b\r\nContent-Disposition: form-data; name="%d"\r\n\r\n' % number
                form.write(head + value + b"\r\n")
        return forms

    assert_few_bytes(begun, peak=50 * MOST_FIELDS * 2 * len(value), held=50 * MOST_FIELDS * (len(value) + 500))


def test_what_is_refused_is_not_read_to_its_end(tmp_path: Path) -> None:
    """Nothing of the parts behind the bound is parsed; a little more is taken from the line, so that the answer is."""
    parts, began = [file(b"a", OTHER)] * 20_000, time.monotonic()
    with pytest.raises(Problem):
        send(Store(tmp_path), parts)
    assert time.monotonic() - began < 3


PIECE = 16 << 10


@pytest.mark.parametrize("where", ["before", "after", "padding"])
def test_what_is_beside_the_parts_is_bounded(where: str, tmp_path: Path) -> None:
    """Before: gigabytes before the first part or behind the last, which no quota counts, were an upload's progress."""
    store, part, few, many = Store(tmp_path), file(b"a", PICTURE), 3, 20
    junk = {"before": b"\n", "after": b"x", "padding": b" "}[where] * PIECE
    place = lone_place()

    def sent(count: int) -> Received:
        if where == "padding":  # of a boundary, as RFC 2046 allows it
            padded = field(b"a") + b"\r\n--b" + junk * count + b"\r\nContent-Disposition: form-data; " + field(b"c")
            return send(store, [padded, part], place=place)
        return send(store, [part], place=place, **{where: [junk] * count})

    assert len(sent(few).files) == 1
    assert sum(size for _, size in place.rate._lately) == len(PICTURE)
    with pytest.raises(Problem, match="beside its files") as refused:
        sent(many)
    assert refused.value.status == 400


def test_forms_as_programs_write_them_have_room(tmp_path: Path) -> None:
    """Long names, all headers that are in use, a preamble and an epilogue, however it is cut into pieces."""
    name = "é".encode() * 1000
    more = b"\r\nContent-Type: image/jpeg\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <a@b>"
    part = b'name="files"; filename="%s"; filename*=UTF-8\'\'a.jpg%s\r\n\r\n' % (name[:800], more) + PICTURE
    received = send(Store(tmp_path), [part] * 50, 50, [b"\r\n"], [b"\r\n", b"the end\r\n"])
    assert len(received.files) == 50


@pytest.fixture
def service(tmp_path: Path) -> SimpleNamespace:
    store = Store(tmp_path)
    assert store.accept(store.new_upload(), "job", WebJob(created=time.time()))
    return SimpleNamespace(store=store, ledger=SimpleNamespace(client=SimpleNamespace(getrange=lambda *_: b"of")))


@pytest.mark.slow
def test_messages_of_failures_are_cut(service: SimpleNamespace) -> None:
    """Whoever has a worker's password writes records: 150 messages of 4 MB were 1.8 GB in the page."""
    folder = service.store.folder("job")
    write_results(folder.root, [failed(index, "b" * 100_000, message="é" * 500_000) for index in range(30)])
    tracemalloc.start()
    try:
        rows = list(Service.failures(service, "job", 1000))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20, "one record at a time"
    finally:
        tracemalloc.stop()
    assert len(rows) == 30 and {len(row["message"]) for row in rows} == {MOST_SHOWN}
    assert {len(row["image"]) for row in rows} == {MOST_SHOWN}


def test_names_of_pages_are_cut(service: SimpleNamespace) -> None:
    """Before: 500 rows of a hostile zip's names were 306 MB."""
    lines = [ManifestLine(number, "é" * 50_000, "file:///a", 0) for number in range(100)]
    folder = service.store.folder("job")
    folder.manifest.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    tracemalloc.start()
    try:
        rows = Service.pages(service, "job", 0, 1000)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20, "one line at a time"
    finally:
        tracemalloc.stop()
    assert [row["state"] for row in rows[:3]] == ["ok", "failed", "waiting"] and len(rows) == 100
    assert {len(row["image"]) for row in rows} == {MOST_SHOWN}
