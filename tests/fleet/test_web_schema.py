"""The API as Schemathesis finds it in its OpenAPI document: requests that fit, and requests that do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.pictures import write_images
from tests.processes import WorkerProcess
from tests.web_service import Served

CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
TOKEN = "a-token-of-enough-characters"


@pytest.fixture
def served(environment: dict[str, str], client: object, tmp_path: Path) -> Iterator[Served]:
    service = Served(environment, tmp_path / "web", TOKEN=TOKEN, ANSWER_S="1", MAX_FILES="10")
    yield service
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text() and "bug in ocrfleet" not in service.log.read_text()


def test_no_answer_is_a_bug_or_breaks_its_schema(environment: dict[str, str], served: Served, tmp_path: Path) -> None:
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    job = served.client(TOKEN).submit([*write_images(tmp_path / "in", 2), tmp_path / "in" / "torn.jpg"], key="known")
    job.wait(60)
    worker.stop()

    described = json.loads(served.ask("GET", "/api/v1/openapi.json", None, {"Authorization": f"Bearer {TOKEN}"})[2])
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=f"{served.url}/api/v1")
    schema.config.update(headers={"Authorization": f"Bearer {TOKEN}"})
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.endswith("/export"):
            continue  # would begin exports: tests/fleet/test_web_others.py
        cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | operation.as_strategy(
            generation_mode=GenerationMode.NEGATIVE
        )

        @settings(
            max_examples=6,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases, st.booleans())
        def ask(case: Case, known: bool) -> None:
            if known and "job" in case.path_parameters and case.method != "DELETE":
                case.path_parameters["job"] = job.name  # else hardly one of them would ever be there
            answer = case.call(timeout=30)
            seen.setdefault(f"{case.method} {case.path}", set()).add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        ask()
    assert len(seen) == sum(len(set(entry) - {"parameters"}) for entry in described["paths"].values()) - 1
    for place in ("pages", "results", "failures", "events"):
        assert 200 in seen[f"GET /jobs/{{job}}/{place}"], place  # what a real job looks like was seen
