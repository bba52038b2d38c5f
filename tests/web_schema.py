"""Holds answers of the service against its OpenAPI document: their code, their type, and every byte of their JSON."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from producer.web.openapi import document

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

BASE = "/api/v1"


@cache
def _described() -> dict[str, Any]:
    return document()


@cache
def _operations() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    paths = sorted(_described()["paths"].items(), key=lambda entry: entry[0].count("{"))  # /a/b before /a/{x}
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), entry) for path, entry in paths]


@cache
def _validator(schema: str) -> Draft202012Validator:
    """Of a schema, as JSON; its references lead into the document."""
    from jsonschema import Draft202012Validator  # a second, in each process that collects tests

    whole = {**json.loads(schema), "components": _described()["components"]}
    return Draft202012Validator(whole)


def check_answer(method: str, target: str, status: int, headers: dict[str, str], body: bytes) -> None:
    """Whether the document foresees this answer.

    Raises:
        AssertionError, jsonschema.ValidationError: it does not.
    """
    path = target.partition("?")[0]
    operation = _operation(method, path) if path.startswith(f"{BASE}/") else None
    if operation is None:  # the page itself, or no path of the API
        return
    assert str(status) in operation["responses"], f"{method} {path}: {status} is not described: {body[:300]!r}"
    content = operation["responses"][str(status)].get("content", {})
    media = headers.get("content-type", "").partition(";")[0]
    assert media in content or (not content and not body), f"{method} {path}: {status} as {media!r}"
    if media.endswith("json") and "schema" in content[media]:
        schema = content[media]["schema"]
        if schema.get("type") != "string":  # results in a format of another program
            _validator(json.dumps(schema)).validate(json.loads(body))


def _operation(method: str, path: str) -> dict[str, Any] | None:
    inside = path.removeprefix(BASE)
    for pattern, entry in _operations():
        if pattern.fullmatch(inside):
            found: dict[str, Any] | None = entry.get(method.lower())
            return found
    return None
