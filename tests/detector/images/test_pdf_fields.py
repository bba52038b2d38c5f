"""What is filled in on a PDF's page is drawn, whatever is left of the form that it is taken out of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.images.page import open_page
from tests.producer.sources.test_page_bounds import written_pdf
from tests.producer.sources.test_single_page import cut

pytestmark = pytest.mark.slow

FONT = b"/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica-Bold>>>>"


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream\n" % (entries, len(content), content)


def look(text: bytes) -> bytes:
    entries = b"/Type/XObject/Subtype/Form/BBox[0 0 500 40]/Resources<<%s>>" % FONT
    return stream(b"BT/F 30 Tf 5 8 Td(%s)Tj ET" % text, entries)


def document(*widgets: bytes, root: bytes = b"") -> bytes:
    """A page of these widgets, each with 6 0 R for what it shows; 5 0 R is a field above them."""
    first = 8
    numbers = b" ".join(b"%d 0 R" % (first + number) for number in range(len(widgets)))
    return written_pdf(
        b"<</Type/Catalog/Pages 2 0 R%s>>" % root,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 600]/Contents 4 0 R/Annots[%s]>>" % numbers,
        stream(b""),
        b"<</FT/Tx/T(above)/Kids[%s]>>" % numbers,
        look(b"FILLED IN"),
        b"<</Fields[%s]>>" % numbers,
        *(
            b"<</Type/Annot/Subtype/Widget/Rect[40 %d 560 %d]%s>>" % (y, y + 40, more)
            for y, more in zip(range(500, 0, -60), widgets, strict=False)
        ),
    )


def ink(tmp_path: Path, data: bytes) -> list[bool]:
    """Of each place of a widget, whether something is in it."""
    (tmp_path / "a.pdf").write_bytes(data)
    pixels = open_page(tmp_path / "a.pdf", 0, limit_side=600).pixels
    return [bool((np.asarray(pixels[560 - y : 600 - y]) < 128).sum() > 500) for y in range(500, 0, -60)]


SHOWN = b"/F 4/AP<</N 6 0 R>>"
STATES = b"/F 4/AP<</N<</On 6 0 R>>>>/AS"


@pytest.mark.parametrize(
    ("widget", "seen"),
    [
        (b"/FT/Tx/T(a)/V(x)" + SHOWN, True),
        (b"/FT/Tx/V(x)" + SHOWN, True),  # its name was the form's
        (b"/T(a)" + SHOWN, True),
        (SHOWN, True),
        (b"/Parent 5 0 R" + SHOWN, True),
        (b"/Parent 99 0 R" + SHOWN, True),  # left out with the form
        (b"/FT/Btn/T(b)" + STATES + b"/On", True),
        (STATES + b"/On", True),
        (STATES + b"/Off", False),
        (b"/FT/Tx/T(a)/F 2/AP<</N 6 0 R>>", False),  # hidden
        (b"/F 2/AP<</N 6 0 R>>", False),
        (b"", False),
    ],
)
@pytest.mark.parametrize("form", [False, True])
def test_without_its_form(tmp_path: Path, widget: bytes, seen: bool, form: bool) -> None:
    root = b"/AcroForm 7 0 R" if form else b""
    assert ink(tmp_path, document(widget, widget, root=root))[:3] == [seen, seen, False]


@pytest.mark.parametrize(
    ("root", "is_told"), [(b"/NeedsRendering true", True), (b"/NeedsRendering false", False), (b"", False)]
)
def test_a_form_that_its_reader_must_draw(
    root: bytes, is_told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before: "Please wait..." was `ok` without a flag, and pypdfium2 said two lines of its own, of each XFA form.

    Also of a page that travels alone.
    """
    data = document(b"/FT/Tx/T(a)" + SHOWN, root=root + b"/AcroForm<</Fields[8 0 R]/XFA()>>")
    for one in (data, cut(data, 0)):
        (tmp_path / "a.pdf").write_bytes(one)
        assert ("xfa" in open_page(tmp_path / "a.pdf", 0, limit_side=600).flags) == is_told
        assert ink(tmp_path, one)[0]
    assert not caplog.records
