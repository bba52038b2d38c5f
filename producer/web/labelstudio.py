"""A Label Studio ML backend: its annotators get our boxes as predictions. No pixels pass here: workers open the files.

Label Studio asks ``/health``, tells its project to ``/setup`` and sends tasks to ``/predict`` below the address it was
given (label-studio-ml-backend, label_studio_ml/api.py). Where its pictures lie must be one of OCRFLEET_ROOTS.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
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
from producer.web.api import read_json, service_of
from producer.web.problem import Problem
from producer.web.service import Service
from producer.web.store import WebJob

LABELSTUDIO = "/labelstudio"
MOST_TASKS = 100
MOST_OF_A_PAGE, MOST_RECORD_BYTES = 512 << 10, 2 << 20
"""Of a page's record, and of all that one answer is made of: 10,000 boxes, 40,000."""

MOST_CONFIG = 1 << 16
"""Characters of a labelling configuration: a thousand labels."""

_predicting = threading.Lock()  # a record of 512 KiB is 30 MB while it is made

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
    """The first tag of a configuration that takes polygons, and the field of tasks with the picture."""
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
    return Control(given.get("name", "label"), to_name, label, pictures.get(to_name) or "image")


def _config(given: object, field: str) -> str:
    """The labelling configuration of a request, empty where it has none.

    Raises:
        Problem: 413.
    """
    config = given.get(field) if isinstance(given, dict) else None
    if not isinstance(config, str):
        return ""
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


def _source_of(service: Service, task: object, key: str) -> str | None:
    """What is scanned for a task; None if its picture is not below OCRFLEET_ROOTS."""
    data = task.get("data") if isinstance(task, dict) else None
    address = data.get(key) if isinstance(data, dict) else None
    for place in _places(address, service.settings.roots) if isinstance(address, str) else ():
        try:
            return service.check_sources([place])[0]
        except (Problem, OSError, ValueError):
            continue
    return None


def _predictions(service: Service, name: str, control: Control, sources: list[str | None]) -> list[msgspec.Raw]:
    uris = [source and (file_uri(Path(source)) if source.startswith("/") else source) for source in sources]
    with _predicting:
        found = predictions(service.store.folder(name), control, {uri for uri in uris if uri})
    empty = {"result": [], "score": 0.0, "model_version": service.settings.model}
    return [found.get(uri or "") or msgspec.Raw(msgspec.json.encode(empty)) for uri in uris]


def predictions(folder: OutputFolder, control: Control, wanted: set[str]) -> dict[str, msgspec.Raw]:
    """The predictions of first pages at these addresses, as JSON.

    Raises:
        Problem: 413, they have more boxes than one answer takes. A source may be a folder, and a record 4 MiB, which is
            160 MB as Label Studio has it: so only what was asked for is read, and one record at a time.
    """
    found: dict[str, msgspec.Raw] = {}
    if not folder.results.exists():
        return found
    pages = {line.index: line.uri for line in read_manifest(folder.manifest) if line.page == 0 and line.uri in wanted}
    names = {"from_name": control.from_name, "to_name": control.to_name, "label": control.label}
    left = MOST_RECORD_BYTES
    for raw, line in read_lines(folder.results):
        if line is None or line.status != "ok" or line.index not in pages:
            continue
        left -= len(raw)
        if left < 0 or len(raw) > MOST_OF_A_PAGE:
            raise Problem(413, f"{line.image[:200]}: more boxes than one answer takes", "ask for fewer tasks at a time")
        with suppress(*UNREADABLE):
            prediction = labelstudio_prediction(msgspec.json.decode(raw, type=ImageRecord), **names)
            found[pages[line.index]] = msgspec.Raw(msgspec.json.encode(prediction))
    return found


async def predict(request: Request) -> Response:
    """POST /predict: boxes of each task's picture; none where it cannot be had."""
    service, given = service_of(request), await read_json(request)
    tasks = given.get("tasks") if isinstance(given, dict) else None
    if not isinstance(tasks, list) or len(tasks) > MOST_TASKS:
        raise Problem(400, f"tasks is not a list of at most {MOST_TASKS}", "send what Label Studio sends")
    control = await run_in_threadpool(control_of, _config(given, "label_config"))
    sources = [await run_in_threadpool(_source_of, service, task, control.key) for task in tasks]
    wanted = sorted({source for source in sources if source})
    if tasks and not wanted:
        raise Problem(403, f"no task's {control.key} lies below OCRFLEET_ROOTS", "see docs/web.md, Label Studio")
    results: list[msgspec.Raw] = []
    if wanted:
        await run_in_threadpool(service.check_room)
        name = service.new_name(quick=True)
        job = WebJob(created=time.time(), title="Label Studio", sources=wanted, quick=True)
        folder = await run_in_threadpool(service.store.new_upload)
        await run_in_threadpool(service.accept, folder, name, job)
        try:
            await asyncio.wait([asyncio.wrap_future(service.runner.start(name))], timeout=service.web.answer_s)
            results = await run_in_threadpool(_predictions, service, name, control, sources)
        finally:
            await run_in_threadpool(service.delete, name)
    answer = {"results": results, "model_version": service.settings.model}
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def setup(request: Request) -> Response:
    """POST /setup: a project was connected, or its labelling configuration changed."""
    config = _config(await read_json(request), "schema")
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
