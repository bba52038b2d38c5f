"""Fifty uploads of a kilobyte a second kept every other upload out for days: who is slow gives way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from producer.web.bounds import upload_places
from producer.web.bounds.upload_places import LOOKED_AT_S, SLOW_BYTES_S, YOUNG_S, Place, UploadPlaces
from producer.web.problem import Problem
from producer.web.server import PIECE_BYTES
from producer.web.settings import read_web_settings
from producer.web.store import Store
from producer.web.upload import Intake
from producer.web.visitors.few_connections import in_line
from producer.web.visitors.request_head import FewLines
from tests.producer.web.places import lone_place
from tests.producer.web.test_answers import serving, until
from tests.producer.web.test_guard import everything_is_well

SETTINGS = read_web_settings({"OCRFLEET_WEB_QUOTA_MB": "1", "OCRFLEET_WEB_MAX_FILE_MB": "1"})


class Clock:
    """A clock that goes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(places: UploadPlaces) -> Place:
    place = places.take()
    assert place is not None
    place.rate.begin()
    return place


def test_the_slowest_of_the_slow_gives_way() -> None:
    clock = Clock()
    places = UploadPlaces(3, clock)
    slow, slower, quick = (taken(places) for _ in range(3))
    assert places.take() is None, "all are young"
    clock.now = LOOKED_AT_S
    slow.rate.add(int(LOOKED_AT_S * SLOW_BYTES_S) - 1)
    slower.rate.add(1000)
    quick.rate.add(int(LOOKED_AT_S * SLOW_BYTES_S))
    newest = taken(places)
    assert (slow.given_up, slower.given_up, quick.given_up) == (False, True, False)
    places.leave(slower)  # its reader ends, later
    taken(places)
    assert slow.given_up
    assert places.take() is None, "the others are quick, or young"
    places.leave(newest)
    taken(places)
    assert not quick.given_up


def test_who_was_quick_is_not_any_more() -> None:
    """Before: 20 MiB at once, and a byte each 5 s, kept all places for 320 s; 256 MiB for more than an hour."""
    clock = Clock()
    places = UploadPlaces(2, clock)
    burst, steady = taken(places), taken(places)
    burst.rate.add(256 << 20)
    for second in range(1, 40):
        clock.now = second
        steady.rate.add(SLOW_BYTES_S + 1)
        if second % 5 == 0:
            burst.rate.add(1)
        if second <= LOOKED_AT_S:
            assert burst.rate.slowness() is None  # 256 MB in the time that is looked at
    assert burst.rate.slowness() is not None and steady.rate.slowness() is None
    assert len(burst.rate._lately) <= LOOKED_AT_S + 1, "whatever the size of a piece"
    taken(places)
    assert burst.given_up and not steady.given_up


def test_who_is_not_waited_for_is_not_slow() -> None:
    """Before its request is read, and while what it sent is brought to the disk."""
    clock = Clock()
    places = UploadPlaces(1, clock)
    place = places.take()
    assert place is not None
    clock.now = 100
    assert places.take() is None, "nothing was asked of it yet"
    place.rate.begin()
    clock.now = 100 + YOUNG_S - 0.1
    assert places.take() is None
    place.rate.end()
    clock.now = 200
    assert places.take() is None, "it has sent all"


@pytest.mark.parametrize("held_s", [0.04, 60.0], ids=["begun anew", "kept"])
def test_who_begins_anew_stands_in_line(held_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 60 that sent a head alone, and another 9 s later, were never slow: 26 of 27 uploads were 429."""
    for name, value in (("YOUNG_S", 0.05), ("LOOK_S", 0.003), ("IN_LINE_S", 1.0)):
        monkeypatch.setattr(upload_places, name, value)

    async def one(places: UploadPlaces, gone: list[bool]) -> None:
        while not gone:
            if (place := await places.take_in_line(lambda: bool(gone))) is not None:
                with place:
                    place.rate.begin()
                    await asyncio.sleep(held_s)

    async def run() -> int:
        places, gone = UploadPlaces(3), list[bool]()
        strangers = [asyncio.create_task(one(places, gone)) for _ in range(12)]
        had = 0
        for _ in range(5):
            await asyncio.sleep(0.01)
            if (place := await places.take_in_line()) is not None:
                had += 1
                places.leave(place)
        gone.append(True)
        await asyncio.sleep(0.01)
        assert places._line == []
        for task in strangers:
            task.cancel()
        assert await UploadPlaces(0).take_in_line(lambda: True) is None
        return had

    assert asyncio.run(run()) == 5


def test_who_stands_in_line_is_not_read_and_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 64 KiB of body for each of 200 the page had 100 MB; and who left was not seen to, as he was not read."""
    monkeypatch.setattr(upload_places, "LOOK_S", 0.003)
    places, told, sizes = UploadPlaces(1), list[bool](), list[int]()
    received = FewLines.receive_data

    def note(conn: FewLines, data: bytes) -> None:
        sizes.append(len(data))
        received(conn, data)

    monkeypatch.setattr(FewLines, "receive_data", note)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with in_line(scope) as is_gone:
            place = await places.take_in_line(is_gone)
        told.append(place is not None)
        if place is not None:
            total = 0
            while total < 1 << 20:
                total += len((await receive())["body"])
            await everything_is_well(scope, receive, send)

    async def run() -> bytes:
        first = places.take()
        assert first is not None
        async with serving(app) as port:
            lines = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            for (_, writer), size in zip(lines, (10, 1 << 20), strict=True):
                writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n" + bytes(size))
            await until(lambda: len(places._line) == 2)
            await asyncio.sleep(0.02)
            assert sum(sizes) <= 2 * PIECE_BYTES
            lines[0][1].transport.abort()
            await until(lambda: told == [False])
            places.leave(first)
            answer = await asyncio.wait_for(lines[1][0].readuntil(b"\r\n\r\n"), 5)
            lines[1][1].close()
            return answer

    assert asyncio.run(run()).startswith(b"HTTP/1.1 200") and told == [False, True]


def request(pieces: list[bytes], before_each: list[None], places: UploadPlaces, length: int) -> Request:
    """An upload during which others take places, one before each piece."""

    async def receive() -> dict[str, object]:
        if before_each:
            before_each.pop()
            places.clock.now += LOOKED_AT_S  # type: ignore[attr-defined]
            places.take()
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    headers = [(b"content-type", b"image/jpeg"), (b"content-length", str(length).encode())]
    return Request({"type": "http", "headers": headers, "query_string": b""}, receive)


def test_who_was_given_up_reads_no_more_and_gives_his_room_back(tmp_path: Path) -> None:
    store, places = Store(tmp_path), UploadPlaces(1, Clock())
    with taken(places) as place:
        limits = SETTINGS, store.room
        intake = Intake(store.new_upload() / "upload", *limits, archives=True, most_files=1, place=place)
        pieces = [b"\xff\xd8\xff", b"x", b"x"]
        with pytest.raises(Problem, match="too slowly") as caught:
            asyncio.run(intake.read(request(pieces, [None], places, 1000)))
        assert caught.value.status == 408
    assert store.room._claimed == 0, "what it had claimed is for others"


def test_room_of_the_quota_is_taken_from_the_slow_too(tmp_path: Path) -> None:
    """Before: sixteen slow ones that said 1 GiB each had the whole quota of 16 GiB."""
    clock = Clock()
    store, places = Store(tmp_path), UploadPlaces(4, clock)
    slow = taken(places)
    slow.claim = store.room.claim(SETTINGS.quota_bytes, 1 << 20)
    place = taken(places)
    clock.now = LOOKED_AT_S
    place.rate.add(10 << 20)
    limits = SETTINGS, store.room
    intake = Intake(store.new_upload() / "upload", *limits, archives=True, most_files=1, place=place)
    received = asyncio.run(intake.read(request([b"\xff\xd8\xff".ljust(900, b"x")], [], places, 900)))
    assert len(received.files) == 1 and slow.given_up
    other = Intake(store.new_upload() / "upload", *limits, archives=True, most_files=1, place=lone_place())
    with pytest.raises(Problem, match="quota"):  # nobody is slow any more
        asyncio.run(other.read(request([b"\xff\xd8\xff"], [], places, 1 << 20)))
