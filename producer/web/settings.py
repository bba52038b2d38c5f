"""What the environment says about the page and the API (prefix ``OCRFLEET_WEB_``), read once into a frozen object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from detector.cache import base_folder
from producer.errors import ProducerError
from producer.web.webhooks.settings import WebhookSettings, read_webhook_settings

PREFIX = "OCRFLEET_WEB_"
MIB = 1 << 20
SHORTEST_TOKEN = 16
# The tool that many come from advises at most 10 pictures at a time on a small machine, and takes 50.
FILES_LOW, FILES = 10, 50


class WebSettingsError(ProducerError):
    """An environment variable holds something unusable, or the service would be open to everybody."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Every knob of ``ocr-producer serve``.

    Attributes:
        host: address to listen on.
        port: TCP port.
        token: what clients must know; empty: nothing, on a loopback address only.
        folder: uploads and results, one folder a job; for this user alone.
        hosts: names that the Host header may hold, lower case, without port; empty: any.
        max_files: files in one request.
        max_file_mb: one file, MiB.
        quota_mb: all jobs' uploads and results, MiB.
        max_requests: uploads that are received at a time.
        answer_s: how long ``POST /detect`` waits for its record before it answers 202, seconds.
        idle_s: a client that sends nothing for so long is sent away, seconds.
        transfer: ``uri`` (workers open our folder), ``redis`` (bytes travel through the broker), or ``auto``.
        webhooks: who may be told that a job has ended.
    """

    host: str
    port: int
    token: str
    folder: Path
    hosts: frozenset[str]
    max_files: int
    max_file_mb: int
    quota_mb: int
    max_requests: int
    answer_s: float
    idle_s: float
    transfer: str
    webhooks: WebhookSettings

    @property
    def max_file_bytes(self) -> int:
        """The largest file."""
        return self.max_file_mb * MIB

    @property
    def quota_bytes(self) -> int:
        """All uploads and results."""
        return self.quota_mb * MIB


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_web_settings(
    environ: Mapping[str, str], *, low: bool = False, host: str = "", port: int = 0, folder: Path | None = None
) -> WebSettings:
    """Read the settings.

    Args:
        environ: usually ``os.environ``.
        low: whether the machine's profile is ``low``.
        host: wins over the environment if given.
        port: wins over the environment if given.
        folder: wins over the environment if given.

    Raises:
        WebSettingsError: an unusable value, or an address beyond this machine without a token.
    """

    def text(name: str, default: str) -> str:
        return environ.get(PREFIX + name, "").strip() or default

    def number(name: str, default: int, least: int, most: int) -> int:
        value = text(name, str(default))
        if not value.isdecimal() or not least <= int(value) <= most:
            raise WebSettingsError(f"{PREFIX}{name}: {value!r} is not a whole number from {least} to {most}")
        return int(value)

    address = host or text("HOST", "127.0.0.1")
    token = text("TOKEN", "")
    if token and len(token) < SHORTEST_TOKEN:
        raise WebSettingsError(f"{PREFIX}TOKEN has fewer than {SHORTEST_TOKEN} characters: {_MAKE_ONE}")
    if not token and not is_loopback(address):
        raise WebSettingsError(f"{address} can be reached by others: set {PREFIX}TOKEN ({_MAKE_ONE})")
    hosts = {name.strip().lower() for name in text("HOSTS", "").split(",") if name.strip()}
    if is_loopback(address):
        # A page of another site may have its name point here (DNS rebinding): its Host header tells.
        hosts |= {"localhost", "127.0.0.1", "[::1]", address}
    transfer = text("TRANSFER", "auto")
    if transfer not in ("auto", "uri", "redis"):
        raise WebSettingsError(f"{PREFIX}TRANSFER: {transfer!r} is not auto, uri or redis")
    return WebSettings(
        host=address,
        port=port or number("PORT", 8600, 1, 65535),
        token=token,
        folder=folder or (Path(named).absolute() if (named := text("FOLDER", "")) else _default_folder(environ)),
        hosts=frozenset(hosts),
        max_files=number("MAX_FILES", FILES_LOW if low else FILES, 1, 10_000),
        max_file_mb=number("MAX_FILE_MB", 256 if low else 1024, 1, 1 << 20),
        quota_mb=number("QUOTA_MB", 4096 if low else 16384, 1, 1 << 30),
        max_requests=number("MAX_REQUESTS", 8 if low else 50, 1, 10_000),
        answer_s=number("ANSWER_S", 30, 1, 300),
        idle_s=number("IDLE_S", 10, 1, 300),
        transfer=transfer,
        webhooks=read_webhook_settings(environ),
    )


def _default_folder(environ: Mapping[str, str]) -> Path:
    if (base := base_folder(environ, "XDG_STATE_HOME", ".local/state")) is None:
        raise WebSettingsError(f"no home folder to keep jobs in: set HOME, XDG_STATE_HOME or {PREFIX}FOLDER")
    return base / "ocrfleet-web"


_MAKE_ONE = "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
