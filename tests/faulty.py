"""PDFs and TIFFs with faults, for counting: each file from a seed."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pikepdf
import pypdfium2

from producer.errors import CannotCountError
from producer.sources.page_count import CountPdf, count_file


def drawn_pdf(pages: int, *, streams: bool = False, depth: int = 0, password: str = "") -> bytes:
    """A PDF of so many pages.

    Args:
        pages: how many.
        streams: objects and their table in streams, as PDF 1.5 has them.
        depth: levels of page tree nodes between root and pages.
        password: of its owner; encrypted by AES-256, opened by anybody.
    """
    document = pikepdf.new()
    for number in range(pages):
        document.add_blank_page(page_size=(200 + number, 200))
    if depth:
        _deepen(document, depth)
    mode = pikepdf.ObjectStreamMode.generate if streams else pikepdf.ObjectStreamMode.disable
    locked: pikepdf.Encryption | bool = pikepdf.Encryption(owner=password, user="") if password else False
    buffer = io.BytesIO()
    document.save(buffer, object_stream_mode=mode, encryption=locked, deterministic_id=not password)
    return buffer.getvalue()


def _deepen(document: pikepdf.Pdf, depth: int) -> None:
    root = document.Root.Pages
    for _ in range(depth):
        kids = list(root.Kids)
        node = document.make_indirect(
            pikepdf.Dictionary(Type=pikepdf.Name.Pages, Kids=kids, Count=len(document.pages), Parent=root)
        )
        for kid in kids:
            kid.Parent = node
        root.Kids = pikepdf.Array([node])


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: int(len(data) * rng.uniform(0.3, 0.995))]


def _flipped(data: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 4, 16))):
        spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
    return bytes(spoilt)


def _counted_wrongly(data: bytes, rng: random.Random) -> bytes:
    return re.sub(rb"/Count \d+", b"/Count %d" % rng.choice((0, 1, 3, 99)), data)


def _no_table(data: bytes, rng: random.Random) -> bytes:
    return data.replace(b"startxref", b"startxxxx").replace(
        b"trailer", b"trxxxxx" if rng.random() < 0.5 else b"trailer"
    )


def _table_moved(data: bytes, rng: random.Random) -> bytes:
    return b"junk of a mail gateway\r\n" * rng.randint(1, 9) + data


def _more_behind(data: bytes, rng: random.Random) -> bytes:
    return data + bytes(rng.randrange(256) for _ in range(rng.randint(1, 3000)))


def _kid_lost(data: bytes, rng: random.Random) -> bytes:
    kids = re.search(rb"/Kids \[([^\]]*)\]", data)
    references = re.findall(rb"\d+ 0 R", kids[1]) if kids else []
    if not references:
        return _flipped(data, rng)
    lost = rng.choice(references)
    return data.replace(lost, b"9" * (len(lost) - 4) + b" 0 R", 1)


def _kid_twice(data: bytes, rng: random.Random) -> bytes:
    kids = re.search(rb"/Kids \[([^\]]*)\]", data)
    references = re.findall(rb"\d+ 0 R", kids[1]) if kids else []
    if len(references) < 2:
        return _flipped(data, rng)
    one, other = rng.sample(references, 2)
    return data.replace(one, other.ljust(len(one))[: len(one)], 1)


PDF_FAULTS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "none": lambda data, rng: data,
    "cut": _cut,
    "flipped": _flipped,
    "count": _counted_wrongly,
    "no table": _no_table,
    "junk before": _table_moved,
    "junk behind": _more_behind,
    "kid lost": _kid_lost,
    "kid twice": _kid_twice,
}


def faulty_pdf(seed: int) -> tuple[str, bytes]:
    """The name of its fault, and the file."""
    rng = random.Random(seed)
    name = list(PDF_FAULTS)[seed % len(PDF_FAULTS)]
    sound = drawn_pdf(
        rng.randint(1, 12),
        streams=rng.random() < 0.4,
        depth=rng.choice((0, 0, 1, 3)),
        password="owner" if rng.random() < 0.15 else "",
    )
    return name, PDF_FAULTS[name](sound, rng)


@dataclass
class Trial:
    """Counts of many files against those of pdfium and qpdf.

    Attributes:
        agreed: files of which all three say the same.
        told: files of which it is said that pages are missing, or that they cannot be counted.
        wrong: a line for each file that has pages which nobody was told of.
    """

    agreed: int = 0
    told: int = 0
    wrong: list[str] = field(default_factory=list)


def count_faulty_pdfs(seeds: Iterable[int], path: Path, count_pdf: CountPdf) -> Trial:
    """Counts the files of these seeds.

    Ours must be pdfium's count, for workers open the pages by it. Where qpdf sees more pages, ours must say that some
    are missing; where it sees fewer, each page of ours gets a record, a failed one if it cannot be opened.
    """
    trial = Trial()
    for seed in seeds:
        fault, data = faulty_pdf(seed)
        path.write_bytes(data)
        fium, qpdf = _pdfium_count(path), _qpdf_count(path)
        try:
            ours = count_file(path, count_pdf)
        except CannotCountError:
            trial.told += 1  # one page, whose worker says what is wrong
            if fium > 0:
                trial.wrong.append(f"{seed} ({fault}): not counted, pdfium {fium}")
            continue
        trial.told += bool(ours.broken)
        trial.agreed += ours.pages == fium == qpdf and not ours.broken
        if ours.pages != fium or (qpdf > fium and not ours.broken):
            trial.wrong.append(f"{seed} ({fault}): {ours}, pdfium {fium}, qpdf {qpdf}")
    return trial


def _pdfium_count(path: Path) -> int:
    try:
        with pypdfium2.PdfDocument(path) as document:
            return len(document)
    except pypdfium2.PdfiumError:
        return 0


def _qpdf_count(path: Path) -> int:
    try:
        with pikepdf.open(path, suppress_warnings=True) as document:
            return len(document.pages)
    except (pikepdf.PdfError, RuntimeError, ValueError, TypeError, KeyError, AttributeError):
        return 0
