"""The OpenAPI 3.1 document. A test holds it against the routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from producer.output.formats import FORMATS
from worker.ops.worker_registry import program_version

Json = dict[str, Any]
_NUMBER: Json = {"type": "number"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TEXT: Json = {"type": "string"}
_SIDE: Json = {"type": "integer", "minimum": 32, "maximum": 8192}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Json) -> Json:
    return {**schema, "type": [schema["type"], "null"]}


def _object(required: str, **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": required.split()}


def _schemas() -> Json:
    job = _object(
        "job title state total ok failed own",
        job=_TEXT,
        title=_TEXT,
        state={"enum": ["preparing", "open", "done", "finished", "cancelled", "refused"]},
        reason=_TEXT,
        created=_NUMBER,
        finished=_or_null(_NUMBER),
        files=_COUNT,
        **{name: {"type": "object", "additionalProperties": _TEXT} for name in ("skipped", "renamed")},
        limit_side=_COUNT,
        total=_or_null(_COUNT),
        ok=_COUNT,
        failed=_COUNT,
        in_flight=_COUNT,
        images_per_second=_NUMBER,
        eta_seconds=_or_null(_NUMBER),
        workers_alive=_COUNT,
        phase=_TEXT,
        warnings={"type": "array", "items": _TEXT},
        results_bytes=_COUNT,
        results_file=_TEXT,
        webhook={"type": "string", "description": "Who is told when it has ended."},
        told={"type": "string", "description": "sent, or why that was given up; empty while it is tried."},
        own={"type": "boolean", "description": "false: another program's job on the same broker, counts only"},
    )
    point: Json = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}
    box = _object("points score", points={"type": "array", "items": point}, score=_NUMBER)
    record = _object(
        "schema job index image page status width height boxes",
        schema={"const": 1},
        job=_TEXT,
        index=_COUNT,
        image=_TEXT,
        page=_COUNT,
        status={"enum": ["ok", "failed"]},
        width=_COUNT,
        height=_COUNT,
        boxes={"type": "array", "items": box},
        flags={"type": "array", "items": _TEXT},
        error={"oneOf": [{"type": "null"}, _object("type message", type=_TEXT, message=_TEXT)]},
    )
    page = _object(
        "index image page state",
        index=_COUNT,
        image=_TEXT,
        page=_COUNT,
        state={"enum": ["waiting", "queued", "running", "ok", "failed"]},
    )
    failure = _object(
        "index image page type message", index=_or_null(_COUNT), image=_TEXT, page=_COUNT, type=_TEXT, message=_TEXT
    )
    export = _object(
        "export model size state seconds said bytes",
        export=_TEXT,
        model=_TEXT,
        size=_COUNT,
        state={"enum": ["running", "done", "failed"]},
        seconds=_or_null(_NUMBER),
        said={"type": "string", "description": "The last line of ocr-detector export."},
        bytes=_COUNT,
    )
    worker = _object(
        "worker profile version peak_rss_mb seconds_since_page",
        worker=_TEXT,
        profile=_TEXT,
        version=_TEXT,
        peak_rss_mb=_or_null(_NUMBER),
        seconds_since_page=_or_null(_NUMBER),
    )
    model = _object(
        "name precision bytes sha256 scores chosen",
        name=_TEXT,
        precision=_TEXT,
        bytes=_COUNT,
        sha256=_TEXT,
        scores={"type": "object"},
        chosen={"type": "boolean"},
    )
    problem = _object("title status detail remedy", type=_TEXT, title=_TEXT, status=_COUNT, detail=_TEXT, remedy=_TEXT)
    return {
        "Job": job, "Record": record, "Page": page, "Failure": failure, "Export": export, "Worker": worker,
        "Model": model, "Problem": problem,
    }  # fmt: skip


def _answer(text: str, schema: Json | None = None, media: str = "application/json") -> Json:
    return {"description": text} | ({"content": {media: {"schema": schema}}} if schema else {})


def _problems(*codes: int) -> Json:
    said = {
        400: "Not understood.", 403: "Not allowed.", 404: "No such job.", 408: "Too slow.", 409: "Not in this state.",
        413: "Too large, too many, or the quota is used up.", 415: "Nothing that can be read.",
        422: "No page in it, or the Idempotency-Key was used with other files.",
        429: "Too many at a time; see Retry-After.", 503: "The broker or a share is away or full, or the page stops.",
        401: "The token is missing or wrong.", 421: "The Host header names another host.", 507: "The disk is full.",
    }  # fmt: skip
    problem, every = _ref("Problem"), (401, 421, 429)
    return {str(code): _answer(said[code], problem, "application/problem+json") for code in (*every, *codes)}


def _query(name: str, text: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _operation(summary: str, answers: Json, *, parameters: list[Json] | None = None, body: Json | None = None) -> Json:
    found: Json = {"summary": summary, "responses": answers}
    if parameters:
        found["parameters"] = parameters
    if body:
        found["requestBody"] = {"required": True, "content": body}
    return found


def _raw(*types: str) -> Json:
    return {name: {"schema": {"type": "string", "format": "binary"}} for name in types}


_OPTIONS: Json = {
    "limit_side": _SIDE,
    "box_threshold": {"type": "number", "minimum": 0, "maximum": 1},
    "unclip_ratio": {"type": "number", "minimum": 0, "maximum": 10},
    "binarize": {"type": "number", "minimum": 0, "maximum": 1},
    "tiled": {"type": "boolean"},
    "shape": {"type": "string", "enum": ["quad", "polygon", "rect"]},
}


def _form(several: bool) -> Json:
    file: Json = {"type": "string", "format": "binary"}
    files: Json = {"type": "array", "items": file} if several else file
    return {"multipart/form-data": {"schema": _object("files", files=files, **_OPTIONS)}}


def _path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "maxLength": 128}}


def _model_paths(listed: Callable[[str, str], Json]) -> Json:
    models = _object(
        "models readers limit_side profile limits can_export",
        models={"type": "array", "items": _ref("Model")},
        readers={"type": "array", "items": _object("name bytes", name=_TEXT, bytes=_COUNT)},
        limit_side=_COUNT,
        profile=_TEXT,
        limits=_object("files file_mb quota_mb", files=_COUNT, file_mb=_COUNT, quota_mb=_COUNT),
        can_export={"type": "boolean"},
    )
    export = _answer("The export.", _ref("Export"))
    size: Json = {"type": "integer", "minimum": 320, "maximum": 1536, "multipleOf": 32, "default": 800}
    return {
        "/models": {
            "get": _operation("What is installed, and the limits.", {"200": _answer("Models.", models), **_problems()})
        },
        "/models/{model}/export": {
            "parameters": [_path("model")],
            "post": _operation(
                "Export it to ONNX, height and width fixed. Needs torch beside the service.",
                {"202": export, **_problems(400, 403, 404, 409, 413, 429, 507)},
                parameters=[_query("size", "Height and width, pixels.", size)],
            ),
        },
        "/exports": {"get": _operation("All exports.", {"200": listed("exports", "Export"), **_problems()})},
        "/exports/{export}": {
            "parameters": [_path("export")],
            "get": _operation("How it stands.", {"200": export, **_problems(404)}),
            "delete": _operation("Stop and remove it.", {"204": _answer("It is gone."), **_problems(403, 404)}),
        },
        "/exports/{export}/{kind}": {
            "parameters": [
                _path("export"),
                {"name": "kind", "in": "path", "required": True, "schema": {"enum": ["onnx", "json"]}},
            ],
            "get": _operation(
                "Its file: the network (onnx), or the card with its thresholds (json).",
                {
                    "200": {
                        "description": "The file.",
                        "content": {
                            media: {"schema": {}} for media in ("application/octet-stream", "application/json")
                        },
                    },
                    **_problems(404),
                },
            ),
        },
    }


def document() -> Json:
    """The whole document."""
    options = [_query(name, "Instead of the workers' own.", schema) for name, schema in _OPTIONS.items()]
    name = _query("name", "Name of a file that is sent raw.", _TEXT)
    job_path: Json = {"name": "job", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 64}}
    job = _answer("The job.", _ref("Job"))
    accepted = _answer("Accepted: nothing that is accepted is lost. Location says where.", _ref("Job"))
    limit = _query("limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": 1000})
    upload = (400, 403, 404, 408, 413, 415, 429, 503, 507)
    addresses = _object("uris", uris={"type": "array", "items": _TEXT}, webhook=_TEXT, **_OPTIONS)
    webhook = _query("webhook", "An address that is told when the job has ended; see OCRFLEET_WEBHOOK_HOSTS.", _TEXT)
    key: Json = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}}
    offset = _query("offset", "First of them.", _COUNT)
    following: Json = {"type": ["string", "null"], "description": "The query for what follows; null: that is all."}
    results = "application/jsonl", "application/json", "text/csv", "application/zip"
    # Of one event, as Schemathesis and OpenAPI 3.2 (itemSchema) see it; data holds a Job.
    event = _object("data", data=_TEXT, event={"enum": ["message", "end", "gone"]})

    def listed(name: str, schema: str) -> Json:
        return _answer("A list.", _object(name, next=following, **{name: {"type": "array", "items": _ref(schema)}}))

    paths: Json = {
        "/detect": {
            "post": _operation(
                "Detect the text of one image. Answers within 30 s: its record, or 202 and where to ask.",
                {"200": _answer("The record.", _ref("Record")), "202": accepted, **_problems(*upload, 422)},
                parameters=[*options, name],
                body={**_form(False), **_raw("image/*", "application/octet-stream", "application/pdf")},
            )
        },
        "/jobs": {
            "get": _operation(
                "Jobs, newest first.", {"200": listed("jobs", "Job"), **_problems(400)}, parameters=[limit, offset]
            ),
            "post": _operation(
                "A job of many files, a zip, a PDF, or of addresses under OCRFLEET_ROOTS.",
                {"200": _answer("There is one with this Idempotency-Key.", _ref("Job")), "202": accepted}
                | _problems(*upload, 422),
                parameters=[key, *options, name, webhook],
                body={
                    **_form(True),
                    **_raw("application/zip", "application/pdf", "image/*", "application/octet-stream"),
                    "application/json": {"schema": addresses},
                },
            ),
        },
        "/jobs/{job}": {
            "parameters": [job_path],
            "get": _operation("How it stands.", {"200": job, **_problems(404)}),
            "delete": _operation(
                "Remove it: uploads, results, keys.", {"204": _answer("It is gone."), **_problems(404, 503)}
            ),
        },
        "/jobs/{job}/events": {
            "parameters": [job_path],
            "get": _operation(
                "Server-sent events: the job, at each change, until event: end. Where they end before, ask again.",
                {"200": _answer("Events.", event, "text/event-stream"), **_problems(404, 429)},
            ),
        },
        "/jobs/{job}/pages": {
            "parameters": [job_path],
            "get": _operation(
                "Its pages and where each is on its way.",
                {"200": listed("pages", "Page"), **_problems(400, 404)},
                parameters=[limit, offset],
            ),
        },
        "/jobs/{job}/results": {
            "parameters": [job_path],
            "get": _operation(
                "Its results so far. icdar and pagexml come as a zip.",
                {
                    "200": {
                        "description": "The file.",
                        "content": {media: {"schema": _TEXT} for media in results},
                    },
                    **_problems(400, 404, 409, 413, 429, 503, 507),
                },
                parameters=[
                    _query("format", "Which.", {"enum": ["jsonl", *FORMATS], "default": "jsonl"}),
                    _query("from", "jsonl: first byte; Ocrfleet-Next, or where an answer was cut off.", _COUNT),
                ],
            ),
        },
        "/jobs/{job}/failures": {
            "parameters": [job_path],
            "get": _operation(
                "What failed, and why.",
                {"200": listed("failures", "Failure"), **_problems(400, 404)},
                parameters=[limit, offset, _query("skipped", "First upload that was not taken.", _COUNT)],
            ),
        },
        "/jobs/{job}/retry": {
            "parameters": [job_path],
            "post": _operation(
                "Do its failed pages again; go on with a cancelled one.",
                {"202": job, **_problems(403, 404, 409, 413, 503, 507)},
            ),
        },
        "/jobs/{job}/cancel": {
            "parameters": [job_path],
            "post": _operation("Stop it; what is done stays.", {"202": job, **_problems(403, 404, 503)}),
        },
        "/workers": {
            "get": _operation(
                "Who is alive.", {"200": listed("workers", "Worker"), **_problems(400, 503)}, parameters=[offset]
            )
        },
        **_model_paths(listed),
        "/openapi.json": {
            "get": _operation("This document.", {"200": _answer("OpenAPI 3.1.", {"type": "object"}), **_problems()})
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ocrfleet",
            "version": program_version(),
            "description": "Finds the text in images. Errors are RFC 9457 problem details with a remedy.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
