"""`OUT/report.html`: a job on one page that needs no other file, to be opened, kept or sent.

Pictures are inside the file as small JPEGs. File names are escaped, and the page's Content-Security-Policy forbids
scripts and outside resources, so a hostile name can do nothing.
"""

from __future__ import annotations

import base64
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from itertools import islice
from pathlib import Path
from string import Template
from typing import Any

from detector.atomic import atomic_write
from detector.errors import printable
from producer.detector_process.draw import OverlayProcess, can_draw
from producer.held_folder import ours_to_write
from producer.job.page_order import PageOrder
from producer.no_links import hold_out
from producer.output.charts import histogram_svg
from producer.output.ending import read_job
from producer.output.naming import page_label
from producer.output.terminal import FLAG_WORDS, duration
from producer.output.totals import LONGEST_SAID, MOST_LISTED, Totals, shortly
from producer.picture_list import picture_list
from producer.sources.passed_over import in_words
from worker.messages import ImageRecord

PICTURES = 200  # at about 30 KB each, 8 MB
FAILURES = 200
THUMBNAIL_SIDE, LARGE_SIDE = 480, 640  # pixels; few pictures may be larger
FEW = 60
LONGEST_SETTING = 20_000  # characters: `run *.pdf` names hundreds of sources
FAILED, GALLERY = "<!--failed-->", "<!--gallery-->"


def write_report(out: Path, *, pictures: int = PICTURES) -> Path:
    """Writes `report.html` into a job's output folder, from its `results.jsonl` (and `job.json`, `manifest.jsonl`).

    Memory is 8 bytes a page, however much is on it: totals are bounded, and at most `pictures` pages, chosen at random,
    are shown; their records are read again, one at a time, when they are drawn. Of a page the last record counts.

    Args:
        out: the output folder.
        pictures: how many pages to show at most.

    Returns:
        The report.

    Raises:
        FileNotFoundError: there is no results.jsonl.
    """
    with hold_out(out) as place, PageOrder(place.path / "results.jsonl") as order:
        _write(place.path, order, pictures)
    return out / "report.html"


def _write(out: Path, order: PageOrder, pictures: int) -> None:
    totals, chosen = _read(order, pictures)
    job = read_job(out / "job.json")
    drawable = can_draw() and (out / "manifest.jsonl").is_file()
    template = Template(files("producer.output").joinpath("report.html").read_text(encoding="utf-8"))
    page = template.substitute(
        title=_said(f"Text found by {job['job']}" if job.get("job") else "Text found"),
        subtitle=_subtitle(totals, job),
        tiles="".join(_tiles(totals, job)),
        charts=histogram_svg(totals.seconds, "Seconds an image", lambda value: f"{value:.3g} s")
        + histogram_svg(totals.peak_rss_mb, "Peak memory of the worker", lambda value: f"{value:.0f} MB"),
        gallery_note=_gallery_note(totals, len(chosen), drawable, (out / "manifest.jsonl").is_file()),
        settings="".join(
            f"<dt>{_said(name)}</dt><dd>{_said(value, LONGEST_SETTING)}</dd>" for name, value in _settings(totals, job)
        ),
    )
    head, _, rest = page.partition(FAILED)
    middle, _, tail = rest.partition(GALLERY)
    with (
        atomic_write(out / "report.html") as part,
        open(part, "w", encoding="utf-8", opener=ours_to_write) as stream,
    ):
        stream.write(head)
        stream.writelines(_failures(totals))
        stream.write(middle)
        if drawable:
            stream.writelines(_figures(out, order, chosen))
        stream.write(tail)


def _read(order: PageOrder, pictures: int) -> tuple[Totals, list[int]]:
    """Totals, and a uniform random choice of the pages that are fine (reservoir sampling), in the job's order.

    The same results give the same choice. Of a page it is its index: a record may have 4 MiB.
    """
    totals, chosen = Totals(damaged=order.damaged), list[int]()
    lot = random.Random(0)  # nosec B311: which pictures to show
    for record in order.records():
        totals.add(record)
        if record.status != "ok":
            continue
        if len(chosen) < pictures:
            chosen.append(record.index)
        elif (lost := lot.randrange(totals.ok)) < pictures:
            chosen[lost] = record.index
    return totals, sorted(chosen)


def _said(text: str, most: int = LONGEST_SAID) -> str:
    """Whatever the page shows comes through here: of a stranger's job neither a browser nor a terminal obeys a word.

    Nor is a word of it as long as the stranger likes.
    """
    return escape(printable(shortly(text, most)))


def _subtitle(totals: Totals, job: dict[str, Any]) -> str:
    said = f"{totals.images:,} {'image' if totals.images == 1 else 'images'}"
    said += f", {totals.failed:,} failed" if totals.failed else ", all fine"
    if job.get("wall_seconds"):
        fresh = int(job.get("images_this_run") or totals.images)
        of_these = f"the last {fresh:,} " if fresh < totals.images else ""
        said += f", {of_these}in {duration(float(job['wall_seconds']))}"
    if job.get("finished_at"):
        said += f", finished {str(job['finished_at']).replace('T', ' ').replace('Z', ' UTC')}"
    if totals.damaged:
        said += f". {totals.damaged:,} lines of results.jsonl could not be read"
    return _said(said)


def _tiles(totals: Totals, job: dict[str, Any]) -> Iterator[str]:
    def tile(value: str, name: str, kind: str = "") -> str:
        return f'<div class="tile{kind}"><b>{_said(value)}</b><span>{_said(name)}</span></div>'

    yield tile(f"{totals.ok:,}", "images fine")
    if totals.failed:
        yield tile(f"{totals.failed:,}", "failed", " bad")
    yield tile(f"{totals.boxes:,}", "text boxes")
    if totals.without_text:
        yield tile(f"{totals.without_text:,}", "without text")
    for flag in ("damaged", "blank", "small_text_lost", "xfa"):
        if totals.flags[flag]:
            yield tile(f"{totals.flags[flag]:,}", FLAG_WORDS[flag])
    if totals.uncertain:
        yield tile(f"{totals.uncertain:,}", "files with pages that could not be counted", " bad")
    if rate := job.get("images_per_second"):
        yield tile(f"{rate:,.2f}", "images a second")
    yield tile(f"{totals.seconds.quantile(0.5):.3f} s", "an image, median")
    if totals.peak_rss_mb.count:
        yield tile(f"{totals.peak_rss_mb.most:,.0f} MB", "memory at most")


def _failures(totals: Totals) -> Iterator[str]:
    if not totals.failed:
        return
    kinds = " ".join(
        f'<span class="kind">{count:,} × {_said(kind)}</span>' for kind, count in totals.errors.most_common()
    )
    more = totals.failed - min(len(totals.failures), FAILURES)
    note = f"<p>The first {FAILURES:,}; the other {more:,} are in results.jsonl.</p>" if more else ""
    yield f'<h2>Failed</h2><div class="kinds">{kinds}</div>{note}<ul class="card failures">'
    for failure in totals.failures[:FAILURES]:
        label = _said(page_label(failure.image, failure.page))
        yield f'<li><span class="kind">{_said(failure.type)}</span><strong>{label}</strong>'
        yield f"<div>{_said(failure.message)}</div></li>"
    yield "</ul>"


def _gallery_note(totals: Totals, shown: int, drawable: bool, has_manifest: bool) -> str:
    if not totals.ok:
        return "There is nothing to show."
    if not has_manifest:
        return "No pictures: manifest.jsonl, which says where the images are, is not in this folder."
    if not drawable:
        return "No pictures: this machine lacks OpenCV. Install ocrfleet[worker] and write the report again."
    if shown < totals.ok:
        return f"{shown:,} of {totals.ok:,} pages, chosen at random. Every box is in results.jsonl."
    return "All pages. Every box is in results.jsonl."


def _figures(out: Path, order: PageOrder, chosen: Sequence[int]) -> Iterator[str]:
    with (
        picture_list(out) as (manifest, roots, may_fetch),
        OverlayProcess(roots=roots, may_fetch=may_fetch) as process,
        tempfile.TemporaryDirectory(prefix="ocrfleet-report-") as folder,
    ):
        thumbnail = Path(folder) / "thumbnail.jpg"
        side = LARGE_SIDE if len(chosen) <= FEW else THUMBNAIL_SIDE
        for index in chosen:
            if (record := order.record(index)) is None:
                continue
            line = manifest.line(record.index)
            picture = '<span class="none">not in the manifest</span>'
            if line is not None:
                drawn = process.draw(line.uri, record.page, record.boxes, thumbnail, max_side=side)
                picture = f'<span class="none">{_said(drawn.error)}</span>'
                if drawn.ok:
                    data = base64.b64encode(thumbnail.read_bytes()).decode()
                    picture = (
                        f'<img loading="lazy" alt="" width="{drawn.width}" height="{drawn.height}" '
                        f'style="height:auto;width:auto" src="data:image/jpeg;base64,{data}">'
                    )
            yield _figure(record, picture)


def _figure(record: ImageRecord, picture: str) -> str:
    count = len(record.boxes)
    facts = [
        f"{count:,} {'box' if count == 1 else 'boxes'}" if count else "no text found",
        f"{record.width:,} × {record.height:,}",
        f"{record.seconds.total:.2f} s",
        *(["at reduced size"] if "degraded" in record.flags else []),
        *(words for flag, words in FLAG_WORDS.items() if flag in record.flags),
    ]
    return (
        f'<figure class="card"><div class="picture">{picture}</div><figcaption>'
        f"<b>{_said(page_label(record.image, record.page))}</b>{_said(' · '.join(facts))}</figcaption></figure>\n"
    )


def _settings(totals: Totals, job: dict[str, Any]) -> Iterator[tuple[str, str]]:
    passed_over = job.get("passed_over")
    if isinstance(passed_over, dict):
        passed_over = {kind: count for kind, count in passed_over.items() if isinstance(count, int)}
    if passed_over and isinstance(passed_over, dict):
        yield "passed over", in_words(passed_over, most=100).removeprefix("passed over: ")
    settings = job.get("settings")
    for name, value in islice(settings.items() if isinstance(settings, dict) else (), MOST_LISTED):
        shown = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
        if shown:
            yield str(name).replace("_", " "), os.fsencode(shown).decode("utf-8", "replace")
    for (name, sha256, runtime), count in totals.models.most_common(5):
        yield "model", f"{name}, {runtime}, {count:,} images, sha256 {sha256}"
    for flag, count in totals.flags.most_common(MOST_LISTED):
        yield f"flag {flag}", f"{count:,} images"
    if totals.retried:
        yield "retried", f"{totals.retried:,} images took more than one attempt"
    for host, count in totals.hosts.most_common(10):
        yield "worker", f"{host}, {count:,} images"
