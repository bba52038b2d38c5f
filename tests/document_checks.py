"""What other programs say of our exports: hocr-spec, the formats' schemas, poppler and qpdf."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from lxml import etree

from detector.public.pypi_files import WheelError, WheelFile, fetch
from tests.tools import missing, tool

# PRImA's own pagecontent.xsd of 2019-07-15, in OCR-D's wheel (Apache-2.0). The Library of Congress has no package with
# ALTO's schema: bench/check_documents.py takes it as a file, and the tests have rules of their own.
PAGE_SCHEMA = WheelFile(
    "pagecontent-2019-07-15.xsd",
    "ocrd-models==2.67.1",
    "ocrd_validators/page.xsd",
    "69b43c0b78112cf3059bc947eb669309fbd3216236dd3a6010371a5bd602b7b2",
)
ALTO_RULES = Path(__file__).parent / "data" / "alto-4.rng"
XLINK = "http://www.loc.gov/standards/xlink/xlink.xsd"
# All that ALTO uses of it; lxml fetches nothing.
XLINK_RULES = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="http://www.w3.org/1999/xlink">
<xs:attributeGroup name="simpleLink"><xs:anyAttribute namespace="##any" processContents="skip"/></xs:attributeGroup>
</xs:schema>"""
POPPLER = "apt install poppler-utils"
QPDF = "apt install qpdf"


def hocr_problems(file: Path) -> list[str]:
    """What hocr-spec's standard profile finds wrong."""
    if find_spec("hocr_spec") is None:
        missing("hocr-spec is not installed: pip install 'ocrfleet[test]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it compares strings with `is`
        from hocr_spec import HocrValidator  # type: ignore[import-not-found]
    report = HocrValidator("standard").validate(str(file))
    return [f"{item.level}: {item.message}" for item in report.items if item.level in ("ERROR", "FATAL")]


def page_schema() -> etree.XMLSchema:
    """The official schema of PAGE, downloaded once into the virtual environment."""
    try:
        (file,) = fetch([PAGE_SCHEMA], Path(sys.prefix) / "share" / "ocrfleet-tests")
    except WheelError as error:
        missing(f"the schema of PAGE is not here: {error}")
    return etree.XMLSchema(etree.parse(file))


def alto_schema(file: Path) -> etree.XMLSchema:
    """An ALTO schema of the Library of Congress, which imports one more from the network."""

    class Here(etree.Resolver):
        def resolve(self, url: str, public_id: str, context: object) -> object:
            return self.resolve_string(XLINK_RULES, context) if url == XLINK else None

    parser = etree.XMLParser(no_network=True)
    parser.resolvers.add(Here())
    return etree.XMLSchema(etree.parse(file, parser))


def alto_rules() -> etree.RelaxNG:
    """Our own rules of what ALTO 4 allows of the elements that we write."""
    return etree.RelaxNG(etree.parse(ALTO_RULES))


def schema_problems(file: Path, schema: etree.XMLSchema | etree.RelaxNG) -> list[str]:
    """What a schema finds wrong, a line each."""
    schema.validate(etree.parse(file))
    return [f"{file.name}:{entry.line}: {entry.message}" for entry in schema.error_log]


@dataclass(frozen=True, slots=True)
class PdfWord:
    """A word as poppler sees it: text, and its rectangle as shares of the page's width and height."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


def pdf_text(file: Path) -> str:
    """What pdftotext finds."""
    done = subprocess.run([tool("pdftotext", POPPLER), str(file), "-"], capture_output=True, text=True, check=True)
    return done.stdout


def pdf_words(file: Path) -> Iterator[list[PdfWord]]:
    """The words of each page, by ``pdftotext -bbox``."""
    command = [tool("pdftotext", POPPLER), "-bbox", str(file), "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    tree = ElementTree.fromstring(re.sub(rb"<!DOCTYPE[^>]*>", b"", done.stdout))
    space = "{http://www.w3.org/1999/xhtml}"
    for page in tree.iter(f"{space}page"):
        wide, high = float(page.attrib["width"]), float(page.attrib["height"])
        yield [
            PdfWord(
                word.text or "",
                float(word.attrib["xMin"]) / wide,
                float(word.attrib["yMin"]) / high,
                float(word.attrib["xMax"]) / wide,
                float(word.attrib["yMax"]) / high,
            )
            for word in page.iter(f"{space}word")
        ]


def qpdf_problems(file: Path) -> str:
    """What ``qpdf --check`` finds wrong; empty if nothing."""
    done = subprocess.run([tool("qpdf", QPDF), "--check", str(file)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def overlap(word: PdfWord, left: float, top: float, right: float, bottom: float) -> float:
    """IoU of a word's rectangle and another one, both in shares of the page."""
    wide = max(0.0, min(word.right, right) - max(word.left, left))
    high = max(0.0, min(word.bottom, bottom) - max(word.top, top))
    areas = (word.right - word.left) * (word.bottom - word.top) + (right - left) * (bottom - top)
    return wide * high / (areas - wide * high)
