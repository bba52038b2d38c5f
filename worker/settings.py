"""What the environment says, read once into one frozen object (prefix ``OCRFLEET_``)."""

from __future__ import annotations

import os
import pwd
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from detector.cache import others_above
from detector.errors import ProfileError
from detector.exit_codes import ExitCode
from detector.models import AUTO_MODEL, choose_model
from detector.profile import Profile, choose_profile
from worker.errors import WorkerError
from worker.redis_url import is_ambiguous, is_local, redacted

PREFIX = "OCRFLEET_"
DEFAULT_CRON = "17 3 * * *"
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
# A worker that has not renewed its lease for this long counts as dead: three missed heartbeats (docs/architecture.md).
LEASE_S = 30.0
# The hard limit kills the child; the soft one, this much earlier, lets the task write its own TimedOut record.
HARD_LIMIT_MARGIN_S = 15
SPOOL_FOLDER = "ocrfleet-spool"  # inside OCRFLEET_SPOOL_DIR, which may hold files of the user's


class SettingsError(WorkerError):
    """An environment variable holds something unusable. The message names the variable and what it may hold."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Settings:
    """Every knob of a worker or producer process.

    Attributes:
        redis_url: ``redis://``, ``rediss://`` or ``unix:///path.sock`` URL, password included.
        profile: the machine profile in force (limits the environment did not override come from it).
        profile_reason: one line that says why this profile was chosen.
        limit_side: the long side the network sees at most, pixels.
        model: name of a shipped, registered or fetched model, or path of an .onnx file; what "auto" chose.
        runtime: ``auto``, ``onnxruntime``, ``openvino`` or ``torch``.
        threads: intra-op threads of one worker child.
        memory_limit_mb: what one worker child may use, MiB; None when nothing limits it.
        max_pixels: pages with more pixels than this are refused before decoding.
        roots: folders a ``file://`` URI may point into; empty means any (only right on one's own machine).
        url_roots: ``s3://`` and ``https://`` prefixes a URI may lie below, from the same variable.
        named_roots: the folders of `roots` as the variable names them, absolute: a link may be on their way.
        spool_dir: the folder that holds `spool`.
        result_ttl_h: hours after its last activity at which a job's Redis keys expire.
        temp_ttl_h: hours after which cleanup removes a file in the spool.
        cleanup_cron: five-field cron line (UTC) of the nightly cleanup.
        max_attempts: how often one image may be tried before it becomes a dead letter.
        task_timeout_s: soft time limit of one image, seconds.
        lease_s: seconds a worker may be silent over a page before another one gets it; it speaks every third of that.
        nice: how far a worker lowers its own priority (0-19).
        max_tasks_per_child: images after which the child process is recycled.
    """

    redis_url: str
    profile: Profile
    profile_reason: str
    limit_side: int
    model: str
    runtime: str
    threads: int
    memory_limit_mb: int | None
    max_pixels: int
    roots: tuple[Path, ...]
    url_roots: tuple[str, ...]
    spool_dir: Path
    result_ttl_h: float
    temp_ttl_h: float
    cleanup_cron: str
    max_attempts: int
    task_timeout_s: int
    lease_s: float
    nice: int
    max_tasks_per_child: int
    named_roots: tuple[Path, ...] = ()

    @property
    def spool(self) -> Path:
        """Where temporary files of running images live: a folder of our own, in which cleanup may delete."""
        return self.spool_dir / SPOOL_FOLDER / "pages"

    @property
    def opens_anything(self) -> bool:
        """Whether tasks may name any file and bucket: only without roots, and from a broker of this machine.

        On a network broker a stolen password must not be enough to read this machine's disk.
        """
        return not (self.roots or self.url_roots) and is_local(self.redis_url)

    @property
    def hard_timeout_s(self) -> int:
        """Seconds after which the child that runs an image is killed."""
        return self.task_timeout_s + HARD_LIMIT_MARGIN_S

    @property
    def visibility_timeout_s(self) -> int:
        """Seconds after which Redis hands an unacknowledged message to another worker.

        Well above the hard limit, so that a slow image is never run twice at once; the ledger's lease finds dead
        workers long before this does.
        """
        return 2 * self.hard_timeout_s + 60


def _number(environ: Mapping[str, str], name: str, default: float, *, low: float, high: float) -> float:
    text = environ.get(PREFIX + name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{PREFIX}{name}: {text!r} is not a number") from None
    if not low <= value <= high:
        raise SettingsError(f"{PREFIX}{name}: {text} is not between {low:g} and {high:g}")
    return value


def _redis_url(environ: Mapping[str, str]) -> str:
    url = environ.get(PREFIX + "REDIS_URL", "").strip() or DEFAULT_REDIS_URL
    if is_ambiguous(url):  # what is read of it would be shown as a host or a port: by Celery, by redis-py, in a log
        remedy = "in a password write / as %2F, ? as %3F, # as %23, @ as %40"
        raise SettingsError(f"{PREFIX}REDIS_URL: {redacted(url)} cannot be read; {remedy}")
    return url


def _check_cron(line: str) -> None:
    from worker.cron import parse_cron  # Celery's parser: not every program that reads settings needs it

    try:
        parse_cron(line)
    except ValueError as error:
        raise SettingsError(
            f"{PREFIX}CLEANUP_CRON: {line!r} is not a valid cron line ({error}); example: '{DEFAULT_CRON}'"
        ) from None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from an environment.

    Args:
        environ: usually ``os.environ``; tests pass their own.

    Raises:
        SettingsError: a value is unusable.
    """
    try:
        profile, reason = choose_profile(environ.get(PREFIX + "PROFILE", "").strip() or "auto")
    except ProfileError as error:
        raise SettingsError(f"{PREFIX}PROFILE: {error}") from None
    runtime = environ.get(PREFIX + "RUNTIME", "").strip() or profile.runtime
    if runtime not in ("auto", "onnxruntime", "openvino", "torch"):
        raise SettingsError(f"{PREFIX}RUNTIME: {runtime!r} is not a runtime; use auto, onnxruntime, openvino or torch")
    roots, url_roots = split_roots(environ.get(PREFIX + "ROOTS", ""))
    spool = environ.get(PREFIX + "SPOOL_DIR", "").strip()
    limit_mb = _number(environ, "MEMORY_LIMIT_MB", profile.memory_limit_mb or 0, low=0, high=1 << 20)
    cron = environ.get(PREFIX + "CLEANUP_CRON", "").strip() or DEFAULT_CRON
    if cron != DEFAULT_CRON:
        _check_cron(cron)
    return Settings(
        redis_url=_redis_url(environ),
        profile=profile,
        profile_reason=reason,
        limit_side=int(_number(environ, "LIMIT_SIDE", profile.limit_side, low=32, high=8192)),
        model=choose_model(environ.get(PREFIX + "MODEL", "").strip() or AUTO_MODEL, runtime),
        runtime=runtime,
        threads=int(_number(environ, "THREADS", profile.threads, low=1, high=256)),
        memory_limit_mb=int(limit_mb) or None,
        max_pixels=int(_number(environ, "MAX_PIXELS", profile.max_pixels, low=1, high=1e11)),
        roots=roots,
        url_roots=url_roots,
        spool_dir=Path(spool) if spool else default_spool_dir(environ),
        result_ttl_h=_number(environ, "RESULT_TTL_H", 72, low=0.0001, high=24 * 365),
        temp_ttl_h=_number(environ, "TEMP_TTL_H", 24, low=0.0001, high=24 * 365),
        cleanup_cron=cron,
        max_attempts=int(_number(environ, "MAX_ATTEMPTS", 3, low=1, high=100)),
        task_timeout_s=int(_number(environ, "TASK_TIMEOUT_S", 120, low=1, high=3600)),
        lease_s=_number(environ, "LEASE_S", LEASE_S, low=1, high=3600),
        nice=int(_number(environ, "NICE", profile.nice, low=0, high=19)),
        max_tasks_per_child=int(_number(environ, "MAX_TASKS_PER_CHILD", profile.max_tasks_per_child, low=1, high=1e6)),
        named_roots=tuple(Path(part).absolute() for part in _root_parts(environ.get(PREFIX + "ROOTS", ""), url=False)),
    )


def default_spool_dir(environ: Mapping[str, str]) -> Path:
    """A place of this user alone, on a disk where there is one.

    The cache folder; without a home, or where others may rename what is above it, $XDG_RUNTIME_DIR, which is private
    too but in memory; then that of the home in passwd, which units and `env -i` do not name; else a folder in the
    system's temporary one. Anybody can foretell its name, and who has made it stops the worker:
    `worker.storage.spool.open_spool` refuses what another user made.
    """
    places = [environ.get("XDG_CACHE_HOME", "").strip(), _cache_in(environ.get("HOME", ""))]
    places.append(environ.get("XDG_RUNTIME_DIR", "").strip())
    with suppress(KeyError):
        places.append(_cache_in(pwd.getpwuid(os.getuid()).pw_dir))
    for place in filter(None, places):
        if _can_be_written(Path(place)):
            return Path(place) / "ocrfleet"
    return Path(tempfile.gettempdir()) / f"ocrfleet-{os.getuid()}"


def _cache_in(home: str) -> str:
    return f"{home}/.cache" if home else ""


def _can_be_written(folder: Path) -> bool:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    # Where others could put another in its place, a page of theirs was read for ours.
    return folder.is_absolute() and os.access(existing, os.W_OK | os.X_OK) and others_above(folder / "ocrfleet") is None


def split_roots(text: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """``/data:s3://bucket/in:https://host:8443/a`` -> folders, and URL prefixes. A URL's own colons do not separate.

    Raises:
        SettingsError: a URL that is neither ``s3://`` nor ``https://``.
    """
    urls = tuple(_root_parts(text, url=True))
    for url in urls:
        if not url.startswith(("s3://", "https://")):
            raise SettingsError(f"{PREFIX}ROOTS: {url!r} is not a folder, an s3:// or an https:// prefix")
    return tuple(Path(part).resolve() for part in _root_parts(text, url=False)), urls


def _root_parts(text: str, *, url: bool) -> list[str]:
    parts = re.split(r":(?!//|\d+(?:[/:]|$))", text.strip())
    return [part for part in parts if part and ("://" in part) is url]


@cache
def settings() -> Settings:
    """The settings of this process, read from ``os.environ`` at the first call."""
    return read_settings(os.environ)
