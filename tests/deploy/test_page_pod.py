"""What unpacks has room for it, and a page that is full can be asked for what makes room again."""

from __future__ import annotations

import re

import yaml

from producer.detector_process.turn_process import AT_ONCE
from producer.sources.archive import COUNT_LIMIT
from producer.web.bounds.scan_turns import QUICK_AT_A_TIME
from producer.web.jobs.sending import MOST_COPIED
from producer.web.service import OPENING_AT_ONCE
from tests.deploy.test_files import COMPOSE, DEPLOY, documents, tmpfs_mb
from worker.messages import MAX_BLOB_BYTES
from worker.storage.files import MAX_MEMBER_BYTES


def test_a_member_of_an_archive_has_room_where_it_is_unpacked() -> None:
    """Before: 16 MB, and a zip with a picture of 20 stopped its job for ever, or in Kubernetes the page's pod."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for name in ("producer", "watch"):
        folders = tmpfs_mb(services[name])
        assert folders["/tmp"] << 20 > 2 * MAX_BLOB_BYTES, "a member, and one page of it"
        assert sum(folders.values()) + 420 <= int(services[name]["mem_limit"].removesuffix("m")), name
    assert services["web"]["volumes"] == ["web:/state"] and services["web"]["environment"]["XDG_STATE_HOME"] == "/state"
    web = DEPLOY / "kubernetes" / "web.yaml"
    volume = re.search(r"storage: (\d+)Gi", web.read_text())
    quota = re.search(r'OCRFLEET_WEB_QUOTA_MB, value: "(\d+)"', web.read_text())
    unpacked = AT_ONCE * MOST_COPIED + (QUICK_AT_A_TIME + 2) * COUNT_LIMIT + OPENING_AT_ONCE * MAX_MEMBER_BYTES
    assert volume and quota and (int(volume[1]) << 30) - (int(quota[1]) << 20) > unpacked


def test_a_full_page_can_still_be_asked() -> None:
    """Before: it was not ready, so in no Service, and nobody could fetch results or delete jobs to make room."""
    pods = (one for one in documents(DEPLOY / "kubernetes" / "web.yaml") if one["kind"] == "Deployment")
    (container,) = (container for pod in pods for container in pod["spec"]["template"]["spec"]["containers"])
    assert {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} == {"/healthz"}
