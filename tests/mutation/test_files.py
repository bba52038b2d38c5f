"""Spoilt PDFs and archives, in a process with a memory limit: pages, members, or errors of ours; soon, in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.mutate import seconds_for

ALLOWED_MB, SLOWEST_S = 256 + 150, 10.0
pytestmark = pytest.mark.slow

PROGRAM = """
import io, json, logging, os, sys, tarfile, time, zipfile
from contextlib import suppress
from pathlib import Path
from detector.errors import ImageError
from detector.images.page import count_pages, open_page
from detector.memory import configure_malloc, limit_memory, peak_rss_mb
from producer.errors import CannotCountError
from producer.sources.archive import BrokenArchiveError, members
from producer.sources.page_count import count_file
from producer.sources.scan import file_uri
from tests.hostile import nested_pdf_forms
from tests.mutation.mutate import mutated
from tests.nasty_pages import locked_pdf, pdf
from worker.storage.files import Storage

folder, what, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
photo = b"\\xff\\xd8\\xff\\xe0" + bytes(60)

def zipped(method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as bundle:
        for name in ("a.jpg", "b/\\u00fc.pdf", "c.tif"):
            bundle.writestr(name, photo * 20)
    return out.getvalue()

def tarred(mode):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.GNU_FORMAT) as bundle:
        for name in ("a.jpg", "b/" + "x" * 130 + ".pdf", "c.tif"):
            info = tarfile.TarInfo(name)
            info.size = len(photo) * 20
            bundle.addfile(info, io.BytesIO(photo * 20))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
        bundle.addfile(link)
    return out.getvalue()

SOUND = {
    "pdf": [pdf(2), locked_pdf(1, "")],
    "zip": [zipped(zipfile.ZIP_STORED), zipped(zipfile.ZIP_DEFLATED), zipped(zipfile.ZIP_BZIP2)],
    "tar": [tarred("w"), tarred("w:gz"), tarred("w:xz"), tarred("w:bz2")],
}

def open_pdf(path):
    with suppress(CannotCountError):
        count_file(path, None)
    with suppress(MemoryError):
        for page in range(min(3, count_pages(path))):
            open_page(path, page, limit_side=256, max_bytes=100 << 20)

def open_archive(path):
    storage = Storage((), folder / "spool")
    try:
        for number, member in zip(range(8), members(path, what)):
            with suppress(CannotCountError):
                member.look()
            with suppress(ImageError), storage.open(file_uri(path, what + "+file", member.name)) as copy:
                assert copy.stat().st_size <= 1 << 30
    except BrokenArchiveError as error:
        assert "\\n" not in str(error), str(error)

configure_malloc(2)
logging.disable()
path, count, slowest, errors = folder / ("spoilt." + what), 0, 0.0, 0
for data in mutated(SOUND[what], seconds):
    path.write_bytes(data)
    (folder / "tried").write_text(str(count))
    began = time.monotonic()
    limit_memory(256 << 20)
    try:
        (open_pdf if what == "pdf" else open_archive)(path)
    except ImageError as error:
        assert "\\n" not in str(error), str(error)
        errors += 1
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__}: {error}; {data[:80]!r}") from error
    count, slowest = count + 1, max(slowest, time.monotonic() - began)
print(json.dumps({"count": count, "slowest": slowest, "peak_mb": peak_rss_mb(), "errors": errors}))
"""


@pytest.mark.parametrize("what", ["pdf", "zip", "tar"])
def test_spoilt_files(what: str, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path), what, str(seconds_for(what))]
    root = Path(__file__).parents[2]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=root, timeout=seconds_for(what) + 120)
    assert done.returncode == 0, done.stderr[-1500:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["count"] > 10, report
    assert report["peak_mb"] < ALLOWED_MB and report["slowest"] < SLOWEST_S, report
