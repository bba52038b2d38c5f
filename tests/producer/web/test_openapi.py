from __future__ import annotations

import re
from pathlib import Path

from starlette.routing import Route

import producer.web
from producer.web import api, models
from producer.web.api import BASE
from producer.web.bounds import lists
from producer.web.openapi import document


def test_each_route_is_described_and_nothing_else() -> None:
    described = {
        (f"{BASE}{path}", method.upper())
        for path, entry in document()["paths"].items()
        for method in entry
        if method != "parameters"
    }
    routes = {
        (route.path, method)
        for route in (*api.ROUTES, *lists.ROUTES, *models.ROUTES)
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert described == routes


def test_its_schemas_are_json_schema_and_its_references_lead_somewhere() -> None:
    from jsonschema import Draft202012Validator  # see tests/web_schema.py

    found = document()
    assert found["openapi"].startswith("3.1")
    for schema in found["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = re.findall(r"#/components/schemas/(\w+)", str(found))
    assert names and set(names) <= set(found["components"]["schemas"])


def test_the_page_loads_nothing_from_elsewhere_and_holds_no_inline_code() -> None:
    static = Path(producer.web.__file__).parent / "static"
    files = {path.name: path.read_text() for path in static.iterdir()}
    assert {"index.html", "main.js", "page.css", "docs.html", "login.html"} <= set(files)
    for name, text in files.items():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert len(text.splitlines()) < 350, name
        if name.endswith(".html"):
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\bsrc=)", text), name


def test_every_word_of_the_page_is_there_in_chinese() -> None:
    static = Path(producer.web.__file__).parent / "static"
    chinese = (static / "i18n.js").read_text().partition("zh: {")[2]
    keys = {key for path in static.glob("*.html") for key in re.findall(r'data-i18n="([\w-]+)"', path.read_text())}
    said = {key for path in static.glob("*.js") for key in re.findall(r'\bt\("(\w+)"', path.read_text())}
    missing = [key for key in keys | said if not re.search(rf'(?:"{key}"|\b{key}): "', chinese)]
    assert keys and said and missing == []
