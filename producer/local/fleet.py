"""All-in-one on this machine: an embedded server and worker processes, started, watched and stopped with one job."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import redis

from detector.errors import ModelError
from detector.machine import Machine, read_machine
from detector.profile import choose_profile
from detector.runtimes import usable_card
from producer.errors import ProducerError
from producer.held_folder import as_named, to_start_in
from producer.job.output_folder import JobRequest, OutputFolder, roots_of
from producer.local.server import EmbeddedServer, tail
from producer.no_links import no_links
from producer.sources.remote import is_remote
from worker.process import MALLOC_ENVIRONMENT, celery_command, set_parent_death_signal
from worker.settings import read_settings, settings, split_roots
from worker.storage.spool import OthersSpoolError, refuse_others_spool

# A worker that dies this soon after its start will die again.
QUICK_DEATH_S = 15
QUICK_DEATHS = 3
# Longer than any image on a slow machine; then the image is simply run again by the next resume.
STOP_TIMEOUT_S = 30
# After an error (disk full, server gone) a worker may wait in vain; its page is simply run again.
ERROR_STOP_TIMEOUT_S = 2
# Producer (67 MB, 90 with a large job) and server (10 MB, more while records wait) beside the workers.
HUB_MB = 110

TASKS_OF_A_WORKER = 3
"""Celery's main process, its child, and the thread of the lease: `ulimit -u` counts each."""

MOST_ROOTS = 100
"""Each page's path is compared with each."""

MOST_ROOTS_BYTES = 64 << 10
"""Half of what the kernel takes for one variable."""


def memory_share_mb(profile: str, workers: int, machine: Machine) -> int:
    """What one of ``workers`` may use, MiB: each would take the machine for its own."""
    chosen, _ = choose_profile(profile, machine)
    each = replace(machine, memory_mb=max(1, (machine.memory_mb - HUB_MB) // workers))
    return max(1, choose_profile(chosen.name, each)[0].memory_limit_mb or 0)  # 0 would mean no limit


class LocalFleetError(ProducerError):
    """Workers cannot run here. The message says why and what to do."""


def check_installed() -> None:
    """Raises LocalFleetError unless the worker's libraries are installed here (looked up, not imported)."""
    missing = [name for name in ("numpy", "cv2", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise LocalFleetError(
            f"this machine cannot run workers ({', '.join(missing)} missing): pip install 'ocrfleet[local]', "
            "or use `enqueue` with workers elsewhere"
        )


def check_model(request: JobRequest) -> None:
    """Raises LocalFleetError unless the network that workers would load is there, whole, and such as they can run."""
    runtime = request.runtime if request.runtime != "auto" else settings().runtime
    try:
        usable_card(request.model or settings().model, runtime)
    except ModelError as error:
        raise LocalFleetError(f"{error} (--model, OCRFLEET_MODEL)") from None
    if request.options.read:
        from detector.reading.models import reader_path

        try:
            reader_path(request.options.read)
        except ModelError as error:
            raise LocalFleetError(f"{error} (--read)") from None


def absolute_paths(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for workers, which run in a folder of their own: relative paths mean the user's."""
    current = read_settings(environ)
    result = {
        **environ,
        "OCRFLEET_ROOTS": ":".join([*map(str, current.roots), *current.url_roots]),
        "OCRFLEET_SPOOL_DIR": str(current.spool_dir.absolute()),
    }
    for name in ("OCRFLEET_MODELS", "OCRFLEET_TUNE_FILE"):
        if result.get(name):
            paths = (Path(part).expanduser().absolute() for part in result[name].split(os.pathsep) if part)
            result[name] = os.pathsep.join(map(str, paths))
    return result


def sources_as_roots(request: JobRequest) -> str:
    """OCRFLEET_ROOTS of workers that do one job: a picture that becomes a link after the scan leads to no other file.

    Where the variable cannot say it (a colon in a name, many files), the folders that they lie in. Empty, and workers
    open what they are told, where it cannot say these either, nobody knows where a job's pages lie (a list on stdin,
    addresses), or links are followed.
    """
    roots = () if any(map(is_remote, request.sources)) else roots_of(request, gone=True)
    for held in (roots, tuple({root.parent: root for root in roots})):  # `run *.jpg` names files by the thousand
        text = ":".join(map(str, held))
        with suppress(RecursionError):  # a source of 1,000 links in a row
            if (
                len(held) <= MOST_ROOTS
                and len(os.fsencode(text)) <= MOST_ROOTS_BYTES
                and split_roots(text) == (held, ())
            ):
                return text
    return ""


class _Worker:
    """One local Celery worker process, restarted when it dies."""

    def __init__(self, number: int, environment: dict[str, str], log: Path) -> None:
        self._flags = ("-n", f"local{number}@%h", "--loglevel", "INFO")
        self._environment = environment
        self._log = log
        self._started = 0.0
        self._quick_deaths = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self._log, "ab", opener=no_links) as log:
            self.process = subprocess.Popen(
                # Plain settings: what `celery -A worker.app worker` gives, under a name of its own and with a log.
                celery_command("worker", *self._flags),
                env=self._environment,
                cwd=to_start_in(self._log.parent),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the producer alone, which then stops its workers in order
                # Killed, not asked: its server dies with this process too, and Celery would wait for it for ever.
                preexec_fn=partial(set_parent_death_signal, signal.SIGKILL),
            )
        self._started = time.monotonic()  # not of one for which there was no file or process: it did not die

    def revive(self) -> bool:
        """Start again if it died. Returns True if it had.

        Raises:
            LocalFleetError: it dies at once, again and again.
        """
        if self.process is None or self.process.poll() is None:
            return False
        quick = time.monotonic() - self._started < QUICK_DEATH_S
        self._quick_deaths = self._quick_deaths + 1 if quick else 0
        if self._quick_deaths >= QUICK_DEATHS:
            lines = tail(self._log).strip().splitlines()
            raise LocalFleetError(
                f"the worker does not start: {lines[-1] if lines else 'no output'} (see {as_named(str(self._log))})"
            )
        self.start()
        return True


def _try_threads(count: int) -> None:
    """Start and end them, before the first page, which would be tried three times to say that there is no room."""
    enough = threading.Event()
    threads = [threading.Thread(target=enough.wait, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
    finally:
        enough.set()


class LocalFleet:
    """The embedded server and the workers of one ``run``. A context manager: at its end all processes are gone."""

    def __init__(self, folder: OutputFolder, request: JobRequest) -> None:
        """Start nothing yet.

        Args:
            folder: the job's, for logs and the server's data.
            request: how many workers, and their settings.

        Raises:
            SettingsError: an environment variable holds something unusable.
        """
        self.server = EmbeddedServer(folder.server_data)
        environment = {
            **absolute_paths(os.environ),
            **MALLOC_ENVIRONMENT,
            "OCRFLEET_REDIS_URL": self.server.url,
        }
        # Not beside the user's own: what he names holds more than one job's pictures, or he says where links may lead.
        environment["OCRFLEET_ROOTS"] = environment["OCRFLEET_ROOTS"] or sources_as_roots(request)
        # "auto" leaves the choice to the environment, and there to the machine.
        if request.profile != "auto":
            environment["OCRFLEET_PROFILE"] = request.profile
        if request.options.memory_limit_mb:
            environment["OCRFLEET_MEMORY_LIMIT_MB"] = str(request.options.memory_limit_mb)
        if not environment.get("OCRFLEET_MEMORY_LIMIT_MB"):
            name = environment.get("OCRFLEET_PROFILE", "").strip() or "auto"
            environment["OCRFLEET_MEMORY_LIMIT_MB"] = str(memory_share_mb(name, request.workers, read_machine()))
        if request.model:
            environment["OCRFLEET_MODEL"] = request.model
        if request.runtime != "auto":
            environment["OCRFLEET_RUNTIME"] = request.runtime
        self.workers = [
            _Worker(number, environment, folder.worker_log(number)) for number in range(1, request.workers + 1)
        ]

    def start_server(self) -> str:
        """Start the server. Returns its URL.

        Raises:
            NoEmbeddedServerError: no server is installed, or it does not start.
        """
        self.server.start()
        return self.server.url

    def revive_server(self) -> None:
        """Start the server again if it died: its data is on the disk, and workers and producer wait for it.

        Raises:
            NoEmbeddedServerError: it does not start any more.
            OthersFolderError: somebody laid a link into its data, or a folder of his.
        """
        self.server.keep_from_others()
        if not self.server.running:
            self.server.start()

    def start_workers(self) -> None:
        """Start the workers.

        Raises:
            LocalFleetError: their spool is another user's.
            RuntimeError: the system lets this user start too few processes.
        """
        try:
            refuse_others_spool(read_settings(os.environ).spool)
        except OthersSpoolError as error:
            raise LocalFleetError(str(error)) from None
        _try_threads(TASKS_OF_A_WORKER * len(self.workers))
        for worker in self.workers:
            worker.start()

    def revive(self) -> int:
        """Start dead workers again. Returns how many had died.

        Raises:
            LocalFleetError: one does not stay up.
        """
        return sum(worker.revive() for worker in self.workers)

    def __enter__(self) -> LocalFleet:
        """Start nothing yet."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop workers, then the server. That it died of a limit is said, not that it cannot be reached."""
        try:
            if isinstance(exc, redis.RedisError):
                self.server.refuse_small_files()
        finally:
            self.stop_workers(STOP_TIMEOUT_S if exc_type is None else ERROR_STOP_TIMEOUT_S)
            self.server.stop()

    def stop_workers(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Let running images finish, then stop the workers; the server goes on, so that their records arrive."""
        running = [worker.process for worker in self.workers if worker.process and worker.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
