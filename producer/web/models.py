"""The models: what is installed, and exports to ONNX of a chosen size by ``ocr-detector export``, a child process."""

from __future__ import annotations

import logging
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from detector.errors import ModelError, printable
from detector.memory import raise_oom_score
from detector.models import list_models, load_card
from detector.reading.models import list_readers, reader_path
from producer.web.api import BASE, service_of, whole_number
from producer.web.problem import Problem

logger = logging.getLogger("ocrfleet.web")
SMALLEST, LARGEST, STEP = 320, 1536, 32
MOST_KEPT = 12
MOST_S = 600
MOST_MEMORY_BYTES = 4 << 30
"""Of an export. Measured: dbnet-resnet18 at 1536, 1.2 GB (torch, and the checks of what was written)."""

MOST_SAID_BYTES = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}-[0-9]{3,4}")
_KINDS = {"onnx": "application/octet-stream", "json": "application/json"}


@dataclass
class Export:
    """One export of this run of the service.

    Attributes:
        model: its name.
        size: height and width, pixels.
        process: of ``ocr-detector export``.
        began: by the monotonic clock.
        said: its last line.
        seconds: how long it took; None while it runs.
        failed: whether it ended without a file.
    """

    model: str
    size: int
    process: subprocess.Popen[bytes]
    began: float
    said: str = ""
    seconds: float | None = None
    failed: bool = False


class Exporter:
    """Exports, one at a time. Finished files stay, also over a restart, until they are deleted."""

    def __init__(self, folder: Path) -> None:
        """Remove what a killed service left half done.

        Args:
            folder: is there, no link, and nobody else's to write, nor is a link in it (`producer.web.store.Store`).
        """
        self._folder = folder
        for left in folder.glob("*.part*"):
            left.unlink(missing_ok=True)
        self._lock = threading.Lock()
        self._exports: dict[str, Export] = {}

    def start(self, model: str, size: int) -> str:
        """Begin an export unless there is one; its name.

        Raises:
            Problem: no such model or size, no torch, another one runs, or too many are kept.
        """
        if model not in list_models():
            raise Problem(404, f"there is no model {model[:60]!r}", "see GET /api/v1/models")
        if size % STEP or not SMALLEST <= size <= LARGEST:
            near = min(max(round(size / STEP) * STEP, SMALLEST), LARGEST)
            raise Problem(400, f"size {size}: a multiple of 32 from 320 to 1536 is needed", f"the nearest is {near}")
        name = f"{model}-{size}"
        if not can_export():
            raise Problem(
                409,
                "exporting needs torch, which is not installed beside this service",
                f"pip install 'ocrfleet[torch]' there, or elsewhere: ocr-detector export {model} --size {size} -o FILE",
            )
        with self._lock:
            if self._path(name, "onnx").is_file():
                return name
            busy = [other for other, export in self._exports.items() if export.seconds is None]
            if name in busy:
                return name
            if busy:
                raise Problem(429, f"{busy[0]} is being exported", "one at a time: try again then", retry_after_s=20)
            if len(list(self._folder.glob("*.onnx"))) >= MOST_KEPT:
                raise Problem(413, f"{MOST_KEPT} exports are kept already", "delete one")
            export = self._exports[name] = Export(model, size, self._spawn(name, model, size), time.monotonic())
        threading.Thread(target=self._watch, args=(name, export), name="export", daemon=True).start()
        return name

    def _spawn(self, name: str, model: str, size: int) -> subprocess.Popen[bytes]:
        part = self._folder / f"{name}.part.onnx"
        process = subprocess.Popen(
            # -P: nothing is imported from the current folder.
            [sys.executable, "-P", "-m", "detector.cli", "export", model, "--size", str(size), "-o", str(part)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
            start_new_session=True,
        )
        raise_oom_score(process.pid)
        with suppress(ProcessLookupError):  # it is over already; what it said is read all the same
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
            # Should this service be killed, it ends by itself.
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (MOST_S, MOST_S))
            os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        return process

    def _watch(self, name: str, export: Export) -> None:
        try:
            self._see_to_its_end(name, export)
        except OSError as error:  # its file cannot have its name; it is over all the same, or no other could be begun
            export.failed, export.said = True, error.strerror or "the disk fails"
            logger.warning("export of %s: %s", name, error)
        finally:
            export.seconds = time.monotonic() - export.began

    def _see_to_its_end(self, name: str, export: Export) -> None:
        overdue = threading.Timer(MOST_S, export.process.kill)
        overdue.daemon = True
        overdue.start()
        assert export.process.stdout
        for line in iter(lambda: export.process.stdout.readline(MOST_SAID_BYTES), b""):  # type: ignore[union-attr]
            if text := line.decode("utf-8", "replace").strip():
                export.said = text.replace(f"{self._folder}{os.sep}", "").replace(".part", "")
        code = export.process.wait()
        overdue.cancel()
        export.process.stdout.close()
        part = self._folder / f"{name}.part.onnx"
        if code == 0:
            with suppress(FileNotFoundError):  # a model without a card
                part.with_suffix(".json").rename(self._path(name, "json"))
            part.rename(self._path(name, "onnx"))
        else:
            export.failed = True
            if code < 0:
                export.said = f"ended by signal {-code}: it took more than {MOST_S} s, or was stopped"
            logger.warning("export of %s: exit %d: %s", name, code, export.said)
            for left in self._folder.glob(f"{name}.part*"):
                left.unlink(missing_ok=True)

    def _path(self, name: str, kind: str) -> Path:
        return self._folder / f"{name}.{kind}"

    def status(self, name: str) -> dict[str, Any]:
        """How an export stands.

        Raises:
            Problem: 404.
        """
        export = self._exports.get(name)
        path = self._path(name, "onnx")
        done = _NAME.fullmatch(name) is not None and path.is_file()
        if export is None and not done:
            raise Problem(404, f"there is no export {name[:100]!r}", "see GET /api/v1/exports")
        model, _, size = name.rpartition("-")
        seconds = None if export is None else export.seconds or time.monotonic() - export.began
        return {
            "export": name,
            "model": model,
            "size": int(size),
            "state": "done" if done else "failed" if export is not None and export.failed else "running",
            "seconds": None if seconds is None else round(seconds, 1),
            "said": export.said if export else "",
            "bytes": path.stat().st_size if done else 0,
        }

    def all(self) -> list[dict[str, Any]]:
        """All exports by name."""
        names = {path.stem for path in self._folder.glob("*.onnx") if _NAME.fullmatch(path.stem)}
        return [self.status(name) for name in sorted(names | set(self._exports))]

    def file(self, name: str, kind: str) -> Path:
        """The .onnx file, or the .json card with its thresholds.

        Raises:
            Problem: 404, it is not there (yet).
        """
        if kind not in _KINDS or self.status(name)["state"] != "done" or not self._path(name, kind).is_file():
            raise Problem(404, f"there is no {kind[:10]!r} of {name[:100]!r}", "see GET /api/v1/exports")
        return self._path(name, kind)

    def delete(self, name: str) -> None:
        """Stop it if it runs, and remove its files."""
        self.status(name)
        export = self._exports.pop(name, None)
        if export is not None and export.seconds is None:
            export.process.kill()
        for kind in _KINDS:
            self._path(name, kind).unlink(missing_ok=True)

    def stop(self) -> None:
        """End what runs."""
        for export in self._exports.values():
            if export.seconds is None:
                export.process.kill()


def can_export() -> bool:
    """Whether torch is installed here; it is not loaded into this process."""
    return find_spec("torch") is not None


def scores_of(details: Mapping[str, Any]) -> dict[str, float]:
    """A card's scores, first those on images that took no part in development: thirty photos of `val` rank nothing."""
    unseen, held_out, seen = (details.get(name) for name in ("unseen", "held_out", "scores"))
    found = dict(unseen) if isinstance(unseen, dict) else {}
    if isinstance(held_out, dict):
        found |= {on: interval[0] for on, interval in held_out.items() if isinstance(interval, list) and interval}
    found |= seen if isinstance(seen, dict) else {}
    # A card of somebody else's may say anything; what is no JSON answered everybody with an error.
    return {printable(on): score for on, score in found.items() if isinstance(score, int | float) and abs(score) < 1e9}


def models(request: Request) -> Response:
    """GET /models: what is installed on this machine, and the limits of uploads."""
    service = service_of(request)
    found = []
    for name in filter(str.isprintable, list_models()):
        with suppress(ModelError, OSError):  # whoever names one that cannot be used is told; the others are there
            card = load_card(name)
            found.append(
                {
                    "name": name, "precision": card.precision, "bytes": card.path.stat().st_size, "sha256": card.sha256,
                    "scores": scores_of(card.details), "chosen": name == service.settings.model,
                }
            )  # fmt: skip
    web = service.web
    return JSONResponse(
        {
            "models": found,
            "readers": [
                {"name": name, "bytes": reader_path(name).stat().st_size}
                for name in filter(str.isprintable, list_readers())
            ],
            "limit_side": service.settings.limit_side,
            "profile": service.settings.profile.name,
            "limits": {"files": web.max_files, "file_mb": web.max_file_mb, "quota_mb": web.quota_mb},
            "can_export": can_export(),
        }
    )


def exporter_of(request: Request) -> Exporter:
    """The one exporter of this process."""
    exporter: Exporter = request.app.state.exporter
    return exporter


def start_export(request: Request) -> Response:
    """POST /models/{model}/export."""
    service_of(request).check_quota()
    exporter = exporter_of(request)
    size = whole_number("size", request.query_params.get("size", "800"), 1, 1 << 20)
    name = exporter.start(request.path_params["model"], size)
    return JSONResponse(exporter.status(name), 202, headers={"Location": f"{BASE}/exports/{name}"})


def list_exports(request: Request) -> Response:
    """GET /exports."""
    return JSONResponse({"exports": exporter_of(request).all()})


def show_export(request: Request) -> Response:
    """GET /exports/{export}."""
    return JSONResponse(exporter_of(request).status(request.path_params["export"]))


def export_file(request: Request) -> Response:
    """GET /exports/{export}/{kind}: the .onnx file, or its card."""
    name, kind = request.path_params["export"], request.path_params["kind"]
    path = exporter_of(request).file(name, kind)
    return FileResponse(path, media_type=_KINDS[kind], filename=path.name)


def delete_export(request: Request) -> Response:
    """DELETE /exports/{export}."""
    exporter_of(request).delete(request.path_params["export"])
    return Response(status_code=204)


ROUTES = [
    Route(f"{BASE}/models", models, methods=["GET"]),
    Route(f"{BASE}/models/{{model}}/export", start_export, methods=["POST"]),
    Route(f"{BASE}/exports", list_exports, methods=["GET"]),
    Route(f"{BASE}/exports/{{export}}", show_export, methods=["GET"]),
    Route(f"{BASE}/exports/{{export}}", delete_export, methods=["DELETE"]),
    Route(f"{BASE}/exports/{{export}}/{{kind}}", export_file, methods=["GET"]),
]
