"""The page within the memory that it is deployed with: what strangers' archives cost is lost, the page is not."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bench.cgroup import MemoryCgroup
from tests.hostile import many_entries_zip
from tests.processes import wait_until
from tests.producer.records import pdf
from tests.web_service import Served, form

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = {"m": 1, "M": 1, "Mi": 1, "g": 1024, "G": 1024}
MEMBERS = 120_000

pytestmark = pytest.mark.chaos
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a memory cgroup needs root")


def deployed_limits_mb() -> list[int]:
    """What systemd, compose and Kubernetes give the page, MiB."""
    [unit] = re.findall(r"^MemoryMax=(\S+)$", (DEPLOY / "systemd" / "ocrfleet-web.service").read_text(), re.MULTILINE)
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]["web"]["mem_limit"]
    [deployment] = [
        one
        for one in yaml.safe_load_all((DEPLOY / "kubernetes" / "web.yaml").read_text())
        if one["kind"] == "Deployment"
    ]
    pod = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    found = [re.fullmatch(r"(\d+)([a-zA-Z]+)", text) for text in (unit, compose, pod)]
    return [int(match[1]) * UNITS[match[2]] for match in found if match]


def zip_of_a_pdf() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("a.pdf", pdf(1))
    return buffer.getvalue()


def send(served: Served, name: str, data: bytes) -> str:
    status, _, body = served.ask("POST", "/api/v1/jobs", *form([(name, data)]))
    assert status == 202, body
    return str(json.loads(body)["job"])


def status_of(served: Served, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(served.ask("GET", f"/api/v1/jobs/{job}")[2])
    return found


def wait_for_scan(served: Served, job: str) -> int:
    """How many pages were found, once that is known."""
    folder = served.folder / "jobs" / job
    manifest = folder / "manifest.jsonl"

    def is_known() -> bool:
        assert served.process.poll() is None, "the page was killed"
        return manifest.exists() or b'"state":"refused"' in (folder / "web.json").read_bytes()

    wait_until(
        is_known,
        seconds=60,
        what=f"the scan: {served.log.read_text()[-500:]}",
    )
    return manifest.read_bytes().count(b"\n") if manifest.exists() else 0


@needs_root
def test_the_deployed_limit_has_room_for_a_scan(environment: dict[str, str], client: object, tmp_path: Path) -> None:
    """Before, with 96 MB: a zip of one PDF of 307 bytes killed the page; one of 120,000 members each restart too."""
    many_entries_zip(tmp_path / "many.zip", MEMBERS)
    with MemoryCgroup(min(deployed_limits_mb())) as cgroup:
        served = Served(environment, tmp_path / "web", inside=cgroup.join, TRANSFER="redis")
        try:
            one = send(served, "one.zip", zip_of_a_pdf())
            many = send(served, "many.zip", (tmp_path / "many.zip").read_bytes())
            assert wait_for_scan(served, one) == 1
            folder = served.folder / "jobs" / many

            def is_well_under_way() -> bool:
                """The listing process holds all names from its first answer on; waiting for the last one adds 10 s."""
                return any(part.stat().st_size > 1 << 20 for part in folder.glob(".manifest*.part"))

            wait_until(is_well_under_way, seconds=60, what=f"the scan: {served.log.read_text()[-500:]}")
            usage = cgroup.usage()
            assert served.process.poll() is None and usage.oom_kills == 0, usage
            print(f"held {usage.held_mb:.0f} MB of {cgroup.limit_mb}")
        finally:
            served.kill()


@needs_root
def test_the_kernel_takes_the_child(environment: dict[str, str], client: object, tmp_path: Path) -> None:
    """With less than the listing process may take. Before: the page held more than it, and went."""
    many_entries_zip(tmp_path / "many.zip", MEMBERS)
    with MemoryCgroup(100) as cgroup:
        served = Served(environment, tmp_path / "web", inside=cgroup.join, TRANSFER="redis")
        try:
            job = send(served, "many.zip", (tmp_path / "many.zip").read_bytes())
            wait_for_scan(served, job)
            assert cgroup.usage().oom_kills >= 1
            assert served.process.poll() is None and served.ask("GET", "/healthz")[0] == 200
        finally:
            served.kill()


def test_what_kills_it_twice_is_not_taken_up_again(environment: dict[str, str], client: object, tmp_path: Path) -> None:
    """Before: each start died over it again."""
    many_entries_zip(tmp_path / "many.zip", 200_000)
    served = Served(environment, tmp_path / "web", TRANSFER="redis")
    try:
        job = send(served, "many.zip", (tmp_path / "many.zip").read_bytes())
        mark = served.folder / "jobs" / job / ".ocrfleet" / "scanning"
        for times in (1, 2):
            wait_until(
                lambda: mark.exists() and mark.stat().st_size == times,  # noqa: B023  # asked in this round only
                seconds=30,
                what=f"scan {times}",
            )
            served.kill()
            served.start()
        wait_for_scan(served, job)
        found = status_of(served, job)
        assert found["state"] == "refused" and "was killed 2 times while it looked for pages" in found["reason"]
        served.stop()
        served.start()
        assert status_of(served, job)["state"] == "refused"
        assert wait_for_scan(served, send(served, "one.zip", zip_of_a_pdf())) == 1
    finally:
        served.stop()
    assert "Traceback" not in served.log.read_text()
