"""A stranger's folder must not name what lies elsewhere: links that lead out of it are counted, and not taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from producer.growing.settling import Settling
from producer.sources.passed_over import OUTSIDE, PassedOver
from producer.sources.scan import scan
from tests.pictures import write_images
from tests.processes import command
from tests.producer.records import IN_PROCESS

KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, a link to it, and links out: to a file, a folder, nothing, and through a link to a folder."""
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (tmp_path / "home" / ".ssh" / "id_ed25519").write_bytes(KEY)
    (tmp_path / "home" / "private.jpg").write_bytes(b"x")
    folder = tmp_path / "stranger"
    write_images(folder, 1)
    (inside := folder / "sub").mkdir()
    (inside / "same.jpg").symlink_to("../" + next(folder.glob("*.jpg")).name)
    (folder / "holiday.jpg").symlink_to(tmp_path / "home" / ".ssh" / "id_ed25519")
    (folder / "more").symlink_to(tmp_path / "home")
    (inside / "gone.jpg").symlink_to(tmp_path / "home" / "maybe.jpg")
    (inside / "relative.jpg").symlink_to("../../home/private.jpg")
    return folder


def names(source: str, **options: bool) -> tuple[list[str], int]:
    passed = PassedOver()
    found = [Path(page.image).name for page in scan([source], IN_PROCESS, passed=passed, **options)]  # type: ignore[arg-type]
    return found, passed.counts[OUTSIDE]


@pytest.mark.parametrize("pattern", ["", "/**/*.jpg"])
def test_links_out_of_a_folder_are_passed_over(folder: Path, pattern: str) -> None:
    """Before: all of them were taken."""
    found, passed = names(str(folder) + pattern)
    assert len(found) == 2 and "same.jpg" in found
    assert passed == 4


def test_and_taken_when_asked_for(folder: Path) -> None:
    found, passed = names(str(folder), follow_links=True)
    assert {"holiday.jpg", "private.jpg", "relative.jpg", "gone.jpg"} <= set(found) and passed == 0


def test_a_watched_folder_names_nothing_else(folder: Path) -> None:
    found = [found.path.name for found in Settling(folder, (), settle_s=0).ready()]
    assert len(found) == 2 and "same.jpg" in found


def test_a_source_may_be_a_link_itself(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert names(str(tmp_path / "link")) == names(str(folder))
    assert names(str(folder / "holiday.jpg")) == (["holiday.jpg"], 0), "what is named is taken"


def test_a_key_never_travels(folder: Path, environment: dict[str, str], client: redis.Redis) -> None:
    """Even with --follow-links: only what begins like a picture is uploaded."""
    words = ("enqueue", folder, "--job", "links", "--transfer", "redis", "--quiet")
    assert command(environment, "ocr-producer", *words).returncode == 0
    assert client.hget("ocrfleet:job:links", "total") == b"2"
    command(environment, "ocr-producer", "forget", "links", "--yes")
    assert command(environment, "ocr-producer", *words, "--follow-links").returncode == 0
    blobs = [client.get(key) or b"" for key in client.keys("ocrfleet:blob:*")]
    assert len(blobs) == 2 and not any(KEY in blob for blob in blobs)
    records = [json.loads(fields[b"record"]) for _, fields in client.xrange("ocrfleet:job:links:results")]
    said = {Path(record["image"]).name: record["error"]["message"] for record in records}
    assert "It was not sent" in said["holiday.jpg"]
    assert not any("OPENSSH" in message for message in said.values())
