"""Searchable PDFs are as large as what came and its text: streams stay as they came, and a bound ends what grows."""

from __future__ import annotations

import random
import resource
import zlib
from pathlib import Path

import pikepdf
import pytest

from producer.output.searchable_pdf import PageNotInPdfError, write_pdf
from tests.document_checks import pdf_words, qpdf_problems
from tests.producer.output.pdf.places import read
from tests.producer.output.pdf.test_odd_pdfs import BAR, raw_pdf

WORD = read("Word", 0, (400, 300), (60, 70, 180, 100))
XML = b"<?xpacket?><x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def flate_in_flate(mib: int = 1) -> bytes:
    """Unpacked once it packs well, unpacked twice no more: its blocks repeat further apart than deflate sees."""
    block = random.Random(1).randbytes(31_000) + bytes(9_000)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    count = (mib << 20) // len(packed)
    check = zlib.adler32(block * count).to_bytes(4, "big")
    return zlib.compress(b"\x78\x9c" + packed * count + b"\x03\x00" + check, 9)


def one_page(folder: Path, stream: bytes, entries: bytes, *, kids: bytes = b"3 0 R ", page: bytes = b"") -> Path:
    """A PDF of a page with a black bar, and a stream that is on no page."""
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R/Metadata 5 0 R>>",
        2: b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, kids.count(b"R")),
        3: b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 300]/Contents 4 0 R/Resources<<>>%s>>" % page,
        4: b"<</Length %d>>stream\n%s\nendstream" % (len(BAR), BAR),
        5: b"<</Length %d%s>>stream\n%s\nendstream" % (len(stream), entries, stream),
    }
    (folder / "a.pdf").write_bytes(raw_pdf(objects))
    return folder / "a.pdf"


SPACES = zlib.compress(bytes(2 << 20), 9)
STREAMS = {
    "Flate in Flate": (flate_in_flate(), b"/Filter[/FlateDecode/FlateDecode]"),
    "of a list": (zlib.compress(SPACES), b"/Filter[/FlateDecode/FlateDecode]"),
    "metadata": (zlib.compress(XML + b" " * (2 << 20), 9), b"/Filter/FlateDecode/Type/Metadata/Subtype/XML"),
    "metadata twice": (zlib.compress(SPACES), b"/Filter[/FlateDecode/FlateDecode]/Type/Metadata"),
    "metadata in a list of one": (SPACES, b"/Filter[/FlateDecode]/Type/Metadata"),
    "list of one": (zlib.compress(XML), b"/Filter[/FlateDecode]/DecodeParms[null]"),
    "list with settings": (
        zlib.compress(b"\2" + bytes(99)),
        b"/Filter[/FlateDecode]/DecodeParms[<</Predictor 12/Columns 99>>]",
    ),
    "hexadecimal": (b"00 01 20 >", b"/Filter/ASCIIHexDecode"),
    "abbreviated": (zlib.compress(XML), b"/Filter/Fl"),
    "Crypt": (XML, b"/Filter[/Crypt]/Type/Metadata"),
    "plain metadata": (XML, b"/Type/Metadata/Subtype/XML"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_what_is_none_of_ours_stays_as_it_came(tmp_path: Path, name: str) -> None:
    """Before: Flate in Flate became 100 times as large, packed metadata 2 MB of nothing."""
    stream, entries = STREAMS[name]
    source, made = one_page(tmp_path, stream, entries), tmp_path / "made.pdf"
    write_pdf(source, [WORD], made)
    assert made.stat().st_size < source.stat().st_size + 4_000
    with pikepdf.open(source) as before, pikepdf.open(made) as after:
        if name != "Crypt":
            assert after.Root.Metadata.read_raw_bytes() == stream
        if not name.endswith(("Flate", "a list", "twice")):
            assert after.Root.Metadata.read_bytes() == before.Root.Metadata.read_bytes()
        if name in ("plain metadata", "Crypt"):
            assert after.Root.Metadata.Type == pikepdf.Name.Metadata
        ours = after.pages[0].Contents[0]
        assert ours.Filter == pikepdf.Name.FlateDecode
        assert b"BT 3 Tr" in ours.read_bytes()
    assert [[word.text for word in words] for words in pdf_words(made)] == [["Word"]]
    assert qpdf_problems(made) == qpdf_problems(source)


def test_what_grows_otherwise_is_left_out(tmp_path: Path) -> None:
    """qpdf copies a page for each time that it is listed. Before: 20 KB were 8 MB, and 1 MB would be 40 GB."""
    source = one_page(tmp_path, b"", b"", kids=b"3 0 R " * 2_000, page=b"/Extra(%s)" % bytes(b"x" * 4_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(
        PageNotInPdfError, match=r"a\.pdf: cannot be written .*more than 1,\d\d\d,\d\d\d bytes, far more"
    ):
        write_pdf(source, [WORD], tmp_path / "made.pdf")
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == limits
    assert [path.name for path in tmp_path.iterdir()] == ["a.pdf"]
