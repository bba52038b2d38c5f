"""Fifty uploads of a kilobyte a second kept every other upload out for days: who is slow gives way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.requests import Request

from producer.web.bounds import upload_places
from producer.web.bounds.room import Room
from producer.web.bounds.upload_places import FIRST_S, LOOKED_AT_S, SLOW_BYTES_S, Place, UploadPlaces
from producer.web.problem import Problem
from producer.web.settings import read_web_settings
from producer.web.store import Store
from producer.web.upload import Intake
from tests.producer.web.places import lone_place

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
    clock.now = FIRST_S + LOOKED_AT_S
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
        if second <= LOOKED_AT_S:  # 256 MiB are more than what slow ones send meanwhile
            assert burst.rate.slowness() is None
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
    clock.now = 100 + FIRST_S
    assert places.take() is None
    place.rate.end()
    clock.now = 200
    assert places.take() is None, "it has sent all"


def test_nobody_is_quick_for_being_new() -> None:
    """Before: 60 that sent a head alone, and again each 9 s, kept 26 of 27 out: judged was who was 15 s old."""
    clock = Clock()
    places = UploadPlaces(3, clock)
    silent, poor, good = (taken(places) for _ in range(3))
    clock.now = FIRST_S
    assert places.take() is None, "a round trip or two is nobody's fault"
    clock.now = FIRST_S + 1
    poor.rate.add(SLOW_BYTES_S - 1)
    good.rate.add(SLOW_BYTES_S)
    taken(places)
    assert silent.given_up and not poor.given_up
    taken(places)
    assert poor.given_up and not good.given_up
    assert places.take() is None


def test_who_begins_anew_all_the_time_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor has who said a large file the quota, however young each of his uploads is."""
    monkeypatch.setattr(upload_places, "FIRST_S", 0.02)
    monkeypatch.setattr(upload_places, "LOOK_S", 0.002)
    store = Store(tmp_path)
    quota = SETTINGS.quota_bytes

    async def begin_anew(places: UploadPlaces) -> None:
        while True:
            if (place := await places.wait()) is None:
                await asyncio.sleep(0.001)
                continue
            with place:
                place.claim = await places.wait_for_room(store.room, quota, quota // 2)
                place.rate.begin()
                await asyncio.sleep(0.015)  # never judged
                if place.claim is not None:
                    place.claim.close()

    async def run() -> None:
        places = UploadPlaces(5)
        those = [asyncio.create_task(begin_anew(places)) for _ in range(12)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            for _ in range(3):
                place = await places.wait()
                assert place is not None
                with place:
                    claim = await places.wait_for_room(store.room, quota, quota // 2)
                    assert claim is not None
                    claim.close()
        for one in those:
            one.cancel()
        await asyncio.gather(*those, return_exceptions=True)

    asyncio.run(run())


def test_who_is_told_to_come_again_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where waiting is of no use: all are quick, the quota is full of what was written, too many wait."""
    clock, store = Clock(), Store(tmp_path)

    async def run() -> None:
        places = UploadPlaces(1, clock)
        place = taken(places)
        clock.now = LOOKED_AT_S + FIRST_S
        place.rate.add(64 << 20)
        assert await places.wait() is None and places.take() is None
        place.rate.begin()
        place.claim = store.room.claim(SETTINGS.quota_bytes, 1)
        assert await places.wait_for_room(store.room, SETTINGS.quota_bytes, SETTINGS.quota_bytes + 1) is None
        waiting = [asyncio.create_task(places.wait()) for _ in range(upload_places.MOST_WAITING)]
        await asyncio.sleep(0)
        assert await places.wait() is None
        places.leave(place)
        found = await asyncio.gather(*waiting)
        assert found[0] is not None and not any(found[1:]), "the first, and the others not for ever"

    monkeypatch.setattr(upload_places, "WAIT_S", 0.1)
    asyncio.run(run())


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
    clock.now = FIRST_S + LOOKED_AT_S
    place.rate.add(10 << 20)
    limits = SETTINGS, store.room
    intake = Intake(store.new_upload() / "upload", *limits, archives=True, most_files=1, place=place)
    received = asyncio.run(intake.read(request([b"\xff\xd8\xff".ljust(900, b"x")], [], places, 900)))
    assert len(received.files) == 1 and slow.given_up
    other = Intake(store.new_upload() / "upload", *limits, archives=True, most_files=1, place=lone_place())
    with pytest.raises(Problem, match="quota"):  # nobody is slow any more
        asyncio.run(other.read(request([b"\xff\xd8\xff"], [], places, 1 << 20)))


def test_nobody_is_sent_away_for_room_that_cannot_be_had() -> None:
    """Before: all slow uploads were, where all that they were promised is less than what somebody wants."""
    clock, room = Clock(), Room(lambda: (900, 900))
    room.used()
    places = UploadPlaces(32, clock)
    slow = [taken(places) for _ in range(10)]
    for place in slow:
        place.claim = room.claim(1000, 1)
    clock.now = FIRST_S + LOOKED_AT_S
    assert asyncio.run(places.wait_for_room(room, 1000, 500)) is None
    assert not any(place.given_up for place in slow)
    assert asyncio.run(places.wait_for_room(room, 1000, 95)) is not None
    assert sum(place.given_up for place in slow) == 5
