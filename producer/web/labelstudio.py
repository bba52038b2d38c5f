"""A Label Studio ML backend: its annotators get our boxes as predictions. No pixels pass here: workers open the files.

Label Studio asks ``/health``, tells its project to ``/setup`` and sends tasks to ``/predict`` below the address it was
given (label-studio-ml-backend, label_studio_ml/api.py). Where its pictures lie must be one of OCRFLEET_ROOTS.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from detector.record import UNREADABLE, ImageRecord
from producer.job.manifest import read_manifest
from producer.job.output_folder import OutputFolder
from producer.job.results_file import read_lines
from producer.output.formats import labelstudio_prediction
from producer.sources.scan import file_uri
from producer.web.api import service_of
from producer.web.bounds.answers import ReadPlaces
from producer.web.bounds.few_readers import reading
from producer.web.problem import Problem
from producer.web.results import BLOCK, LentResponse
from producer.web.service import Service
from producer.web.store import WebJob
from producer.web.visitors import questions
from producer.web.visitors.json_body import json_body
from producer.web.visitors.leaving import while_there
from producer.web.visitors.questions import of_visitors

LABELSTUDIO = "/labelstudio"
MOST_TASKS = 100
MOST_OF_A_PAGE, MOST_OF_AN_ANSWER = 512 << 10, 12 << 20
"""Bytes of a page's record, and of the JSON for all tasks of one answer: 10,000 boxes, 40,000."""

MOST_NAME = 128
"""Characters of a label, or of a tag's name, which are said of each box."""

MOST_CONFIG = 1 << 16
"""Characters of a labelling configuration: a thousand labels."""

MOST_AT_ONCE = 256 << 10
"""Bytes of an answer that is made in memory; a longer one is read from a file while it is sent."""

_predicting = threading.Semaphore()  # a record of 512 KiB is 30 MB while it is made
_sending = ReadPlaces(6)  # each has a file of up to 11 MB

# Each takes a time linear in the length of a stranger's text: no two open repeats stand side by side, and none begins
# anew at each letter that it ran over before. `(\w+)\s*=` took 14 s for 32 KB of one letter, with the GIL held.
_TAG = re.compile(r"<(PolygonLabels)\b([^<>]*)>(.*?)(?:</\1>|\Z)", re.DOTALL)
_LABEL = re.compile(r"<Label\b([^<>]*)>")
_IMAGE = re.compile(r"<Image\b([^<>]*)>")
_ATTRIBUTE = re.compile(r'\b(\w{1,64})\s{0,8}=\s{0,8}"([^"]*)"')


@dataclass(frozen=True)
class Control:
    """Where boxes go in a labelling configuration: ``<PolygonLabels name="label" toName="image">``."""

    from_name: str = "label"
    to_name: str = "image"
    label: str = "Text"
    key: str = "image"


def control_of(config: str) -> Control:
    """The first tag of a configuration that takes polygons, and the field of tasks with the picture.

    Raises:
        Problem: 413, a name is too long.
    """
    found = _TAG.search(config)
    if found is None:
        return Control()
    given = dict(_ATTRIBUTE.findall(found[2]))
    labels = [dict(_ATTRIBUTE.findall(text)).get("value", "") for text in _LABEL.findall(found[3])]
    pictures = {
        one.get("name"): one.get("value", "").lstrip("$")
        for one in (dict(_ATTRIBUTE.findall(text)) for text in _IMAGE.findall(config))
    }
    to_name = given.get("toName", "image")
    label = next((one for one in labels if one.lower() == "text"), labels[0] if labels else "Text")
    control = Control(given.get("name", "label"), to_name, label, pictures.get(to_name) or "image")
    if max(map(len, (control.from_name, control.to_name, control.label, control.key))) > MOST_NAME:
        raise Problem(413, f"a label or name has more than {MOST_NAME} characters", "give it a shorter one")
    return control


class _Tasks(msgspec.Struct):
    """What is asked of ``/predict``. Label Studio sends a dozen fields more."""

    tasks: list[msgspec.Raw]
    label_config: msgspec.Raw = msgspec.Raw(b"null")


class _Task(msgspec.Struct):
    data: dict[str, msgspec.Raw]


class _Project(msgspec.Struct):
    schema: msgspec.Raw = msgspec.Raw(b"null")


def _text(json: msgspec.Raw) -> str | None:
    """What is a text in a request; None if it is something else."""
    with suppress(ValueError):
        return msgspec.json.decode(json, type=str)
    return None


def _config(json: msgspec.Raw) -> str:
    """The labelling configuration of a request, empty where it has none.

    Raises:
        Problem: 413.
    """
    config = _text(json) or ""
    if len(config) > MOST_CONFIG:
        raise Problem(413, f"the labelling configuration has more than {MOST_CONFIG} characters", "use fewer labels")
    return config


def _places(address: str, roots: Sequence[Path]) -> Iterator[str]:
    """Where a task's picture may lie: below the document root of Label Studio, or its media folder, if that is ours."""
    try:
        parts = urlsplit(address)
    except ValueError:  # "http://["
        return
    inside = (parse_qs(parts.query).get("d") or [""])[0] if parts.path.startswith("/data/local-files") else ""
    if not inside and parts.path.startswith("/data/upload/"):
        inside = unquote(parts.path.removeprefix("/data/"))
    if inside:
        yield f"/{inside}"  # our own exports name whole paths
        yield from (str(root / inside) for root in roots)
    else:
        yield address


def _address_of(task: msgspec.Raw, key: str) -> str | None:
    """Where a task says that its picture lies."""
    try:
        return _text(msgspec.json.decode(task, type=_Task).data[key])
    except (ValueError, KeyError, RecursionError):
        return None


def _source_of(service: Service, address: str | None) -> str | None:
    """What is scanned for a task; None if its picture is not below OCRFLEET_ROOTS."""
    for place in _places(address, service.settings.roots) if address is not None else ():
        try:
            return service.check_sources([place])[0]
        except (Problem, OSError, ValueError):
            continue
    return None


def _answer(service: Service, name: str, control: Control, sources: list[str | None]) -> Response:
    """The predictions of a job that is done, one for each task.

    Raises:
        Problem: 413, see `predictions`; 429, others are being made, or sent.
    """
    uris = [source and (file_uri(Path(source)) if source.startswith("/") else source) for source in sources]
    version = service.settings.model
    empty = msgspec.json.encode({"result": [], "score": 0.0, "model_version": version})
    with ExitStack() as held:
        spool = held.enter_context(tempfile.TemporaryFile())  # without a name: none is left, whoever is killed
        with reading(_predicting):
            found = predictions(service.store.folder(name), control, Counter(filter(None, uris)), spool)
        parts = [found.get(uri or "", empty) for uri in uris]
        size = sum(map(len, parts)) + len(parts) - 1
        around = b'{"results":[', b'],"model_version":%s}' % msgspec.json.encode(version)
        if size <= MOST_AT_ONCE:
            return Response(b"".join(_blocks(spool, parts, around)), media_type="application/json")
        if (place := _sending.take()) is None:
            raise Problem(429, "many predictions are on their way", "ask for fewer tasks at a time", retry_after_s=5)
        held.enter_context(place)
        headers = {"Content-Length": str(size + len(b"".join(around)))}
        blocks, done = _blocks(spool, parts, around), held.pop_all().close
        return LentResponse(blocks, done, media_type="application/json", headers=headers, readers=_sending.readers)


def _blocks(spool: BinaryIO, parts: Sequence[range | bytes], around: tuple[bytes, bytes]) -> Iterator[bytes]:
    """An answer, of which a part may be told many times and is on disk once."""
    between = around[0]
    for part in parts:
        yield between
        between = b","
        if isinstance(part, bytes):
            yield part
            continue
        for begin in part[::BLOCK]:
            spool.seek(begin)
            yield spool.read(min(BLOCK, part.stop - begin))
    yield around[1]


def predictions(folder: OutputFolder, control: Control, wanted: Mapping[str, int], spool: BinaryIO) -> dict[str, range]:
    """The predictions of first pages at these addresses, as JSON.

    A source may be a folder, and a record 4 MiB, which is 160 MB as Label Studio has it: so only what was asked for is
    read, and one record at a time.

    Args:
        folder: of the job.
        control: where boxes go.
        wanted: addresses, and how many tasks each answers: the same picture, a hundred times over, was 39 MB for 7 KB.
        spool: what they are written to.

    Returns:
        Which bytes there are whose.

    Raises:
        Problem: 413, the answer would have more boxes than one takes.
    """
    found: dict[str, range] = {}
    if not folder.results.exists():
        return found
    pages = {line.index: line.uri for line in read_manifest(folder.manifest) if line.page == 0 and line.uri in wanted}
    names = {"from_name": control.from_name, "to_name": control.to_name, "label": control.label}
    left = MOST_OF_AN_ANSWER
    for raw, line in read_lines(folder.results):
        if line is None or line.status != "ok" or line.index not in pages:
            continue
        if len(raw) > MOST_OF_A_PAGE:
            raise _too_much(line.image)
        uri = pages[line.index]
        with suppress(*UNREADABLE):
            prediction = msgspec.json.encode(
                labelstudio_prediction(msgspec.json.decode(raw, type=ImageRecord), **names)
            )
            left -= len(prediction) * wanted[uri]
            if left < 0:
                raise _too_much(line.image)
            found[uri] = range(spool.tell(), spool.tell() + len(prediction))
            spool.write(prediction)
    return found


def _too_much(image: str) -> Problem:
    return Problem(413, f"{image[:200]}: more boxes than one answer takes", "ask for fewer tasks at a time")


class _Begun(NamedTuple):
    """What is kept of a request while its job is done: not its addresses, which the job has.

    Attributes:
        job: its name.
        control: where boxes go.
        places: of each task's picture among the job's sources; None: it has none.
    """

    job: str
    control: Control
    places: list[int | None]


async def _begin(request: Request) -> _Begun | None:
    """Make a job of a request and start it; None: there are no tasks."""
    service = service_of(request)
    async with json_body(request, _Tasks) as asked:
        if len(asked.tasks) > MOST_TASKS:
            raise Problem(400, f"tasks is not a list of at most {MOST_TASKS}", "send what Label Studio sends")
        control = await run_in_threadpool(control_of, _config(asked.label_config))
        # One after the other, before anything is waited for: a task of 256 KiB may be 10 MB as it is decoded.
        addresses = [_address_of(task, control.key) for task in asked.tasks]
        try:
            async with asyncio.timeout(questions.ANSWER_S):  # for all: it keeps its place among the large bodies
                sources = [await of_visitors.answer(partial(_source_of, service, address)) for address in addresses]
        except TimeoutError:
            raise questions.no_answer() from None
        wanted = sorted({source for source in sources if source})
        if not sources:
            return None
        if not wanted:
            raise Problem(403, f"no task's {control.key} lies below OCRFLEET_ROOTS", "see docs/web.md, Label Studio")
        await run_in_threadpool(service.check_room)
        name = service.new_name(quick=True)
        job = WebJob(created=time.time(), title="Label Studio", sources=wanted, quick=True)
        folder = await run_in_threadpool(service.store.new_upload)
        await run_in_threadpool(service.accept, folder, name, job)
        return _Begun(name, control, [wanted.index(source) if source else None for source in sources])


async def predict(request: Request) -> Response:
    """POST /predict: boxes of each task's picture; none where it cannot be had."""
    service, begun = service_of(request), await _begin(request)
    if begun is None:
        return JSONResponse({"results": [], "model_version": service.settings.model})
    name = begun.job
    try:
        future = asyncio.wrap_future(service.runner.start(name).ended)
        await while_there(asyncio.wait([future], timeout=service.web.answer_s), request.receive)
        return await run_in_threadpool(_answer_to, service, begun)
    finally:
        await run_in_threadpool(service.delete_own, name)


def _answer_to(service: Service, begun: _Begun) -> Response:
    wanted = service.store.read(begun.job).sources
    sources = [None if place is None else wanted[place] for place in begun.places]
    return _answer(service, begun.job, begun.control, sources)


async def setup(request: Request) -> Response:
    """POST /setup: a project was connected, or its labelling configuration changed."""
    async with json_body(request, _Project) as asked:
        config = _config(asked.schema)
    if config and _TAG.search(config) is None:
        raise Problem(400, "the labelling configuration has no <PolygonLabels>", "add one over the <Image>")
    return JSONResponse({"model_version": service_of(request).settings.model})


async def health(request: Request) -> Response:
    """GET /health."""
    return JSONResponse({"status": "UP", "model_class": "ocrfleet"})


ROUTES = [
    Route(f"{LABELSTUDIO}/predict", predict, methods=["POST"]),
    Route(f"{LABELSTUDIO}/setup", setup, methods=["POST"]),
    Route(f"{LABELSTUDIO}/health", health, methods=["GET"]),
]
