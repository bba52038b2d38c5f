"""Records, results files and documents for the producer's tests."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pypdf import PdfWriter

from producer.job.output_folder import JobRequest, OutputFolder
from producer.sources.archive import members
from producer.sources.page_count import PageCount
from producer.sources.readers import Readers
from producer.sources.scan_time import ScanTime
from worker.messages import BoxRecord, ErrorRecord, ImageRecord, ModelRecord, Seconds, encode

IN_PROCESS = Readers(members, None, lambda root, wait: iter(()), lambda key, kind, wait: PageCount(1), ScanTime())
"""Opens sound files in this process, without limits: quick, and for tests only."""

BOX = BoxRecord(points=[(10.0, 20.0), (110.4, 22.0), (110.0, 60.6), (9.6, 58.0)], score=0.91)


def ok(index: int, image: str = "a.jpg", *, page: int = 0, boxes: Sequence[BoxRecord] = (BOX,), **fields: Any) -> Any:
    """The record of a page that went well."""
    fields = {"seconds": Seconds(total=0.1, infer=0.08), "peak_rss_mb": 170.0, "worker": "host:1"} | fields
    model = ModelRecord(name="dbnet", sha256="ab" * 32, runtime="onnxruntime-int8")
    return ImageRecord(
        job="j",
        index=index,
        image=image,
        page=page,
        status="ok",
        width=200,
        height=100,
        boxes=list(boxes),
        model=model,
        **fields,
    )


def failed(index: int, image: str = "b.jpg", kind: Any = "CorruptImage", message: str = "cut short") -> ImageRecord:
    """The record of a page that did not."""
    error = ErrorRecord(type=kind, message=message)
    return ImageRecord(job="j", index=index, image=image, page=0, status="failed", error=error)


def write_results(out: Path, records: Iterable[ImageRecord], tail: bytes = b"") -> Path:
    """`results.jsonl` in an output folder."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.jsonl"
    path.write_bytes(b"".join(encode(record) + b"\n" for record in records) + tail)
    return path


def own_request(out: Path, *sources: Path) -> None:
    """A request of one's own in an output folder: pictures of these folders may be opened again."""
    OutputFolder(out).save_request(JobRequest(job="j", sources=list(map(str, sources))))


def pdf(pages: int, password: str | None = None) -> bytes:
    """A PDF of empty pages."""
    writer = PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(100, 100)
    if password is not None:
        writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    stream = io.BytesIO()
    writer.write(stream)
    return stream.getvalue()


def tiff(pages: int) -> bytes:
    """A TIFF of small pages."""
    frames = [Image.new("L", (8, 8), 10 * number) for number in range(pages)]
    stream = io.BytesIO()
    frames[0].save(stream, format="TIFF", save_all=True, append_images=frames[1:])
    return stream.getvalue()
