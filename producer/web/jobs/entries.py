"""What the page tells of a job's pages, and of those that failed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import redis

from producer.job.manifest import read_manifest
from producer.job.results_file import failed_lines
from producer.web.store import Store
from worker.redis_keys import JobKeys

STATE_NAMES = {0: "waiting", ord("q"): "queued", ord("r"): "running", ord("o"): "ok", ord("f"): "failed"}
MOST_SHOWN = 2048


def pages(store: Store, client: redis.Redis, name: str, offset: int, limit: int) -> list[dict[str, Any]]:
    """Pages of a job and where each is on its way."""
    folder = store.folder(name)
    if not folder.manifest.exists():
        return []
    try:
        states = client.getrange(JobKeys.of(name).state, offset, offset + limit - 1)
    except (redis.RedisError, OSError):
        states = b""
    lines = islice(read_manifest(folder.manifest, offset), limit)
    return [
        {
            "index": line.index, "image": line.image[:MOST_SHOWN], "page": line.page,
            "state": STATE_NAMES.get(states[place] if place < len(states) else 0, "waiting"),
        }
        for place, line in enumerate(lines)
    ]  # fmt: skip


def failures(store: Store, name: str, limit: int, offset: int = 0, skipped: int = 0) -> Iterator[dict[str, Any]]:
    """Uploads that were not taken, from `skipped` on, then failed pages, from `offset` on."""
    for image, reason in islice(store.read(name).skipped.items(), skipped, None):
        yield {"index": None, "image": image, "page": 0, "type": "NotTaken", "message": reason}
    results = store.folder(name).results
    if not results.exists():
        return
    for line, error in islice(failed_lines(results), offset, offset + limit):
        yield {
            "index": line.index, "image": line.image[:MOST_SHOWN], "page": line.page, "type": error.type,
            "message": error.message[:MOST_SHOWN].replace(f"{store.uploads(name)}/", ""),
        }  # fmt: skip
