"""Are this machine and its broker fit for the fleet? First the facts are read, then pure functions judge them."""

from __future__ import annotations

import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import redis

from detector.errors import ModelError
from detector.machine import Machine, read_machine
from detector.runtimes import usable_card
from worker.broker.fitness import (
    BrokerUnfitError,
    refuse_old_users,
    who_gets_in,
    why_exposed,
    why_read_only,
    why_unfit,
)
from worker.ledger import Ledger
from worker.ledger.ledger import MOST_LOOKED_AT
from worker.ops import worker_registry
from worker.ops.cleanup import last_reports
from worker.ops.diagnosis import diagnosis, look_around
from worker.ops.east_asian_fonts import undrawn_scripts
from worker.ops.lua_holes import REMEDY as HOLES
from worker.ops.lua_holes import has_lua_holes
from worker.ops.readers import lacking
from worker.ops.replay_rights import why_forgets
from worker.ops.server_memory import MOST_SCRIPTS, is_nearly_full, script_bytes
from worker.redis_url import is_local
from worker.settings import LEASE_S, Settings
from worker.storage.files import free_bytes
from worker.storage.spool import open_spool

PINGS = 7
# An image costs a worker about nine round trips (measured: 344 ms more at 40 ms): from here on they are twice its work.
SLOW_PING_S = 0.02
# Leases are compared across machines: a clock that is off by a third of a lease looks like a dead worker.
BAD_CLOCK_S, WARN_CLOCK_S = LEASE_S / 3, 2.0
# Celery's main process (57 MB) and a child with the default network and an ordinary page (125 to 140 MB).
SMALLEST_MACHINE_MB = 256
SPOOL_WARN_BYTES, SPOOL_BAD_BYTES = 512 << 20, 64 << 20
CLEANUP_LATE_S = 8 * 24 * 3600
CERTIFICATE_ENDS_S = 21 * 24 * 3600  # whoever renews those of 90 days has done so in the last 30
OLDEST_REDIS = (6, 2)

Verdict = Literal["ok", "warn", "bad"]


class Finding(NamedTuple):
    """One thing looked at: what, how it is, and one line that holds the remedy if it is not well."""

    check: str
    verdict: Verdict
    message: str


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """What Redis said. Seconds; ``clock_ahead_s`` is this machine's clock minus the broker's."""

    info: Mapping[str, Any]
    ping_s: float
    clock_ahead_s: float
    workers: Mapping[str, worker_registry.WorkerNote]
    models: Mapping[str, str]
    producers: Mapping[str, str]
    last_cleanup: float | None
    diagnoses: Mapping[str, str] = field(default_factory=dict)
    old_users: str = ""
    forgets: str = ""
    lua_holes: bool = False
    certificate_until: float | None = None


def ask_broker(ledger: Ledger) -> BrokerFacts:
    """Collect the facts.

    Raises:
        redis.RedisError: the broker stopped answering.
    """
    client = ledger.client
    pings, skews = [], []
    for _ in range(PINGS):
        before = time.time()
        seconds, micros = client.time()
        after = time.time()
        pings.append(after - before)
        skews.append((before + after) / 2 - (seconds + micros / 1e6))
    reports = last_reports(client)
    around = look_around(ledger)
    producers, diagnoses = dict[str, str](), dict[str, str]()
    for status in map(ledger.status, ledger.jobs(MOST_LOOKED_AT)):  # one at a time: a stranger's may have 2 MB
        if status is not None:
            if version := status.extra.get("version"):
                producers[status.job] = version
            if why := diagnosis(status, around):
                diagnoses[status.job] = why
    info = client.info()  # ACLs may forbid CONFIG; INFO tells the same
    old_users = ""
    try:
        refuse_old_users(client)
    except BrokerUnfitError as error:
        old_users = str(error)
    return BrokerFacts(
        info=info,
        ping_s=statistics.median(pings),
        clock_ahead_s=skews[pings.index(min(pings))],
        workers=worker_registry.workers(client),
        models={name: note.model for name, note in worker_registry.images(client).items() if note.model},
        producers=producers,
        last_cleanup=max((report["at"] for report in reports.values()), default=None),
        diagnoses=diagnoses,
        old_users=old_users,
        forgets=why_forgets(client, info),
        lua_holes=has_lua_holes(client),
        certificate_until=certificate_until(client),
    )


def certificate_until(client: redis.Redis) -> float | None:
    """When the server's certificate ends; None without TLS, and where nobody compares it with a CA."""
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        shown: Any = getattr(connection._sock, "getpeercert", dict)()
    finally:
        pool.release(connection)
    return ssl.cert_time_to_seconds(shown["notAfter"]) if shown else None


def judge_broker(facts: BrokerFacts, now: float) -> Iterator[Finding]:
    """Findings on the broker: version, latency, persistence, eviction, memory, users, clock, cleanup."""
    info = facts.info
    version = str(info.get("redis_version", "0"))
    new_enough = tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_REDIS
    why = "; needs >= 6.2" if not new_enough else HOLES if facts.lua_holes else ""
    yield Finding("server", "bad" if not new_enough else "warn" if why else "ok", f"Redis {version}{why}")
    slow = facts.ping_s > SLOW_PING_S
    yield Finding(
        "latency",
        "warn" if slow else "ok",
        f"{facts.ping_s * 1000:.1f} ms a round trip"
        + ("; an image costs nine: run more workers per core here, or move the broker nearer" if slow else ""),
    )
    aof = bool(info.get("aof_enabled"))
    yield Finding(
        "append-only file",
        "ok" if aof else "bad",
        "on" if aof else "off: a restart of Redis loses every job; set `appendonly yes`",
    )
    if facts.forgets:
        yield Finding("restart", "bad", facts.forgets)
    policy = str(info.get("maxmemory_policy", "noeviction"))
    yield Finding(
        "eviction",
        "ok" if policy == "noeviction" else "bad",
        policy if policy == "noeviction" else f"{policy}: Redis will drop jobs; set `maxmemory-policy noeviction`",
    )
    yield _judge_memory(info)
    if facts.old_users:
        yield Finding("users", "bad", facts.old_users)
    unfit = why_unfit(info) if info.get("redis_mode") == "cluster" else why_read_only(info)
    yield Finding("role", "bad" if unfit else "ok", unfit or "takes writes")
    for job, why in facts.diagnoses.items():
        yield Finding(f"job {job}", "warn", why)
    off = abs(facts.clock_ahead_s)
    yield Finding(
        "clock",
        "bad" if off > BAD_CLOCK_S else "warn" if off > WARN_CLOCK_S else "ok",
        f"{off:.2f} s {'ahead of' if facts.clock_ahead_s > 0 else 'behind'} the broker's"
        + ("; start an NTP client (timedatectl set-ntp true)" if off > WARN_CLOCK_S else ""),
    )
    if facts.certificate_until is not None and (left := facts.certificate_until - now) < CERTIFICATE_ENDS_S:
        why = f"the broker's ends in {left / 86400:.0f} days, and nobody reaches it then: run deploy/hub.sh again there"
        yield Finding("certificate", "warn", why)
    if facts.last_cleanup is not None and now - facts.last_cleanup > CLEANUP_LATE_S:
        days = (now - facts.last_cleanup) / 86400
        yield Finding("cleanup", "warn", f"the last one was {days:.0f} days ago: is `ocr-worker beat` running?")


def _judge_memory(info: Mapping[str, Any]) -> Finding:
    used, limit, scripts = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)), script_bytes(info)
    room = f"{used / 1e6:.0f} MB used" + (f" of {limit / 1e6:.0f} MB" if limit else "")
    if scripts > MOST_SCRIPTS:
        why = f", {scripts / 1e6:.0f} MB by scripts that are none of ours"
        return Finding(
            "broker memory", "warn", f"{room}{why}; run `ocr-worker cleanup` on the hub, change the passwords"
        )
    full = is_nearly_full(info)
    remedy = "; collect results, run `ocr-worker cleanup` on the hub, or raise maxmemory"
    return Finding("broker memory", "warn" if full else "ok", room + (remedy if full else ""))


def judge_fleet(facts: BrokerFacts, version: str, sha256: str, now: float) -> Iterator[Finding]:
    """Findings on the fleet: whether all machines run the same version and the same network, and who is gone."""
    here = {name: note for name, note in facts.workers.items() if worker_registry.is_alive(note, now)}
    others = {note.version for note in here.values()} | set(facts.producers.values())
    skewed = sorted(others - {version})
    yield Finding(
        "versions",
        "warn" if skewed else "ok",
        f"{version} here, {', '.join(skewed)} elsewhere: update the older side" if skewed else f"{version} everywhere",
    )
    different = sorted({name for name, model in facts.models.items() if name in here and sha256 and model != sha256})
    yield Finding(
        "fleet's model",
        "warn" if different else "ok",
        f"not this machine's on {', '.join(different)}: same version, same OCRFLEET_MODEL?"
        if different
        else "the same everywhere",
    )
    yield _judge_readers({name: note.readers for name, note in here.items()})
    gone = sorted(facts.workers.keys() - here.keys())
    yield Finding(
        "workers",
        "warn" if gone else "ok",
        f"{len(here)} reporting" + (f"; gone without signing off: {', '.join(gone)}" if gone else ""),
    )


def _judge_readers(readers: Mapping[str, tuple[str, ...]]) -> Finding:
    """Whether every worker can read what any of them can: a page that asks for more waits for another worker."""
    missing = lacking(readers)
    if missing:
        which = "; ".join(f"{name} is not on {', '.join(workers)}" for name, workers in missing.items())
        return Finding("recognisers", "warn", f"{which}: ocr-detector models --fetch NAME there, or OCRFLEET_MODELS")
    known = sorted({name for names in readers.values() for name in names})
    return Finding("recognisers", "ok", f"{', '.join(known)} on every worker" if known else "none; --read needs one")


def judge_machine(settings: Settings, machine: Machine) -> Iterator[Finding]:
    """Findings on this machine's memory and disk."""
    small = machine.memory_mb < SMALLEST_MACHINE_MB
    yield Finding(
        "memory",
        "bad" if small else "ok",
        f"{settings.profile_reason}; a worker may use {settings.memory_limit_mb or machine.memory_mb} MiB"
        + (f"; less than the {SMALLEST_MACHINE_MB} MiB a worker needs" if small else ""),
    )
    spool = settings.spool
    try:
        open_spool(spool)
        with tempfile.TemporaryFile(dir=spool):
            free = free_bytes(spool)
    except OSError as error:
        yield Finding("spool", "bad", f"{spool}: cannot write there ({error.strerror}); set OCRFLEET_SPOOL_DIR")
    else:
        verdict: Verdict = "bad" if free < SPOOL_BAD_BYTES else "warn" if free < SPOOL_WARN_BYTES else "ok"
        yield Finding(
            "spool", verdict, f"{spool}: {free / 1e9:.1f} GB free" + ("" if verdict == "ok" else "; make room")
        )


def judge_fonts(undrawn: Sequence[str]) -> Finding:
    """Whether text of PDFs that do not hold its font is drawn here."""
    if not undrawn:
        return Finding("fonts", "ok", "East Asian text of PDFs without its font is drawn")
    why = f"none for {', '.join(undrawn)}: pages of PDFs with such text and without its font fail"
    return Finding("fonts", "warn", f"{why}; apt-get install fonts-wqy-microhei (5 MB), and restart the workers")


def judge_safety(settings: Settings, who: str) -> Iterator[Finding]:
    """What an attacker could do, where Redis obeys somebody without a password (`who_gets_in`), and else."""
    scheme = urlsplit(settings.redis_url).scheme
    local = is_local(settings.redis_url)
    if who and settings.opens_anything:
        yield Finding("password", "warn", why_exposed(who))
    elif who:
        why = f"none is asked for: {who} controls the fleet; set `requirepass`, or an ACL with `user default off`"
        yield Finding("password", "warn" if local else "bad", why)
    if scheme == "redis" and not local:
        yield Finding("encryption", "warn", "none (redis://): fine inside a private network, else use rediss://")
    else:
        yield Finding("encryption", "ok", "TLS" if scheme == "rediss" else "local")
    if not (settings.roots or settings.url_roots) and not local:
        yield Finding(
            "roots",
            "warn",
            "none: this worker opens only pages sent through Redis; set OCRFLEET_ROOTS",
        )
    if os.geteuid() == 0:
        yield Finding("user", "warn", "running as root: give workers a user of their own")


def judge_model(settings: Settings) -> tuple[Finding, str]:
    """Whether this machine's network is there and whole. Returns the finding and its sha256 ("" if it is not)."""
    try:
        card = usable_card(settings.model, settings.runtime)
    except ModelError as error:
        return Finding("model", "bad", str(error)), ""
    return Finding("model", "ok", f"{card.name} {card.precision}, sha256 {card.sha256[:12]}"), card.sha256


def examine(ledger: Ledger, settings: Settings) -> list[Finding]:
    """All findings on this machine and its broker.

    Raises:
        redis.RedisError: the broker stopped answering.
    """
    facts = ask_broker(ledger)
    now = time.time() - facts.clock_ahead_s  # by the broker's clock, as all that is judged was noted
    model, sha256 = judge_model(settings)
    return [
        *judge_broker(facts, now),
        *judge_safety(settings, who_gets_in(ledger.client, settings.redis_url)),
        *judge_machine(settings, read_machine()),
        judge_fonts(undrawn_scripts()),
        model,
        *judge_fleet(facts, worker_registry.program_version(), sha256, now),
    ]
