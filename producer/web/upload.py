"""Uploads: streamed to a folder in small pieces, checked by size and first bytes. Nothing is held in memory."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path, PurePosixPath

import anyio
import msgspec
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from detector.atomic import sync_to_disk
from detector.errors import ImageError
from producer.web.bounds.form import Form
from producer.web.bounds.room import ENTRY_BYTES, Claim, Room
from producer.web.bounds.upload_places import Place
from producer.web.names import MOST_FOLDERS, fitting_name, free_name, safe_upload_name
from producer.web.problem import Problem, quota_is_used
from producer.web.settings import WebSettings

SLOWEST_BYTES_S = 1024  # a client that sends less, over all its request, only holds a place
PASS_OVER_S, PASS_OVER_BYTES = 2.0, 64 << 20


@dataclass
class Received:
    """What a request brought.

    Attributes:
        files: names below the folder, in order of arrival.
        skipped: name -> why a file was not taken.
        fields: the form's other fields.
        hashes: SHA-256 of each file that came, taken or not.
        renamed: number of a file that came, from 0 -> its name here, where that is another than it was sent with.
    """

    files: list[PurePosixPath] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    hashes: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    def fingerprint(self, asked: Mapping[str, str]) -> str:
        """Tells this request from one with other files, names or settings. ``asked``: the settings, all of them."""
        names = [*map(str, self.files), *self.skipped]
        what = msgspec.json.encode([self.hashes, names, sorted(asked.items())])
        return hashlib.sha256(what).hexdigest()


class Intake:
    """Takes the files of one request into ``folder``."""

    def __init__(
        self,
        folder: Path,
        settings: WebSettings,
        room: Room,
        *,
        archives: bool,
        most_files: int,
        place: Place,
    ) -> None:
        """Make nothing yet.

        Args:
            folder: exists and is empty.
            settings: the limits.
            room: what is left of the quota, for this and all other requests.
            archives: whether a zip is welcome.
            most_files: files that are taken.
            place: of this request among the uploads; who is given up reads on no more.
        """
        self._place = place
        self.received = Received()
        self._folder = folder
        self._settings = settings
        self._room = room
        self._claim: Claim | None = None
        self._archives = archives
        self._most_files = most_files
        self._name = ""
        self._parts = self._folders = 0
        self._numbers: dict[PurePosixPath, int] = {}
        self._file: FileIO | None = None
        self._size = 0
        self._hash = hashlib.sha256()

    async def read(self, request: Request) -> Received:
        """Read the request's body to its end.

        Raises:
            Problem: too large, too many, too slow, not what its type says, or nothing in it.
        """
        kind, options = parse_options_header(request.headers.get("content-type"))
        said = request.headers.get("content-length", "")
        # One file's worth is kept at most: who says that much more comes, and sends it slowly, keeps nobody else out.
        size = min(int(said), self._settings.max_file_bytes) if said.isdecimal() and len(said) < 20 else 0
        try:
            limits = self._room, self._settings.quota_bytes
            self._place.claim = self._claim = await self._place.places.wait_for_room(*limits, size)
            if self._claim is None:
                raise quota_is_used(self._settings.quota_mb)
            self._place.rate.begin()
            if kind == b"multipart/form-data":
                await self._read_form(request, options.get(b"boundary", b""))
            elif kind.startswith(b"image/") or kind in (
                b"application/octet-stream",
                b"application/pdf",
                b"application/zip",
            ):
                await self._read_raw(request)
            else:
                raise Problem(
                    415,
                    f"the request's Content-Type is {kind.decode('latin-1') or 'missing'}",
                    "send multipart/form-data, image/*, application/pdf, application/zip or application/octet-stream",
                )
        except Problem:
            await self._pass_over(request)
            raise
        except ClientDisconnect:
            raise Problem(400, "the connection ended before the request did", "send it again") from None
        finally:
            self._place.rate.end()
            if self._file is not None:
                self._file.close()
            if self._claim is not None:
                self._claim.close()
        if not self.received.files and not self.received.skipped:
            raise Problem(400, "the request holds no file", "send files in a form field named files")
        await run_in_threadpool(self._sync)
        return self.received

    def _sync(self) -> None:
        """Have the files on the disk.

        Not one by one as they come: 600 of a few bytes fit into one piece of a request, and the page answered nobody
        for as long as the disk took for them.
        """
        for name in self.received.files:
            sync_to_disk(self._folder / name)

    async def _pass_over(self, request: Request) -> None:
        """Read a little more of what is refused: a client that still sends would not see our answer (TCP reset)."""
        passed = 0
        with anyio.move_on_after(PASS_OVER_S), suppress(RuntimeError, ClientDisconnect):
            while passed < PASS_OVER_BYTES:
                message = await request.receive()
                passed += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        began, total = time.monotonic(), 0
        stream = request.stream()
        while True:
            try:
                with anyio.fail_after(self._settings.idle_s):
                    chunk = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise _too_slow() from None
            total += len(chunk)
            if self._place.given_up:
                raise _too_slow()
            if time.monotonic() - began > self._settings.idle_s + total / SLOWEST_BYTES_S:
                raise _too_slow()
            if chunk:
                yield chunk

    async def _read_raw(self, request: Request) -> None:
        self.begin(request.query_params.get("name", "") or request.headers.get("x-file-name", "") or "upload")
        async for chunk in self._chunks(request):
            self.write(chunk)
        self.end()

    async def _read_form(self, request: Request, boundary: bytes) -> None:
        form = Form(self, boundary)
        async for chunk in self._chunks(request):
            form.write(chunk)
            await asyncio.sleep(0)  # what has come already is given without a pause
        self.received.fields = form.end()

    def begin(self, name: str) -> None:
        """A file begins."""
        self._parts += 1  # not names: 100,000 parts of one name kept the page from others for a minute
        if self._parts > self._most_files:
            raise Problem(
                413,
                f"more than {self._most_files} file{'s' * (self._most_files != 1)} in one request",
                "send several requests, or one zip" if self._archives else "send the others to POST /api/v1/jobs",
            )
        self._name, self._size, self._hash = name, 0, hashlib.sha256()
        self._take(ENTRY_BYTES)
        self._file = (self._folder / ".part").open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Its next bytes."""
        assert self._file is not None
        self._place.rate.add(len(data))
        self._size += len(data)
        if self._size > self._settings.max_file_bytes:
            raise Problem(413, f"{_shown(self._name)}: larger than {self._settings.max_file_mb} MiB", _RAISE_FILE)
        self._take(len(data))
        self._hash.update(data)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def _take(self, size: int) -> None:
        assert self._claim is not None
        if not self._claim.write(size):
            raise quota_is_used(self._settings.quota_mb)

    def _make_folders(self, name: PurePosixPath) -> None:
        """Those of a name, which count as files do."""
        fresh = sum(1 for above in name.parents if not (self._folder / above).is_dir())
        self._folders += fresh
        if self._folders > MOST_FOLDERS:
            raise Problem(
                413,
                f"the names make more than {MOST_FOLDERS} folders in one request",
                "send several requests, or one zip",
            )
        self._take(fresh * ENTRY_BYTES)
        (self._folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def end(self) -> None:
        """Keep the file under a name of its own if its bytes can be read, else remember why not."""
        assert self._file is not None
        self._file.close()
        self._file = None
        self.received.hashes.append(self._hash.hexdigest())
        part = self._folder / ".part"
        try:
            name = fitting_name(part, safe_upload_name(self._name), archives=self._archives)
        except ImageError as error:
            self.received.skipped[_shown(self._name)] = str(error)
            part.unlink()
            return
        name = free_name(self._folder, name, self._numbers)
        target = self._folder / name
        try:
            self._make_folders(name)
            part.rename(target)
        except OSError:  # a folder has the name of a file that came before
            name = free_name(self._folder, PurePosixPath(name.name), self._numbers)
            part.rename(self._folder / name)
        self.received.files.append(name)
        if str(name) != self._name:
            self.received.renamed[str(self._parts - 1)] = str(name)


def _shown(name: str) -> str:
    return str(safe_upload_name(name))


def _too_slow() -> Problem:
    return Problem(408, "the request came too slowly", "send it again over a better line, in smaller parts")


_RAISE_FILE = "send a smaller file, or raise OCRFLEET_WEB_MAX_FILE_MB"
