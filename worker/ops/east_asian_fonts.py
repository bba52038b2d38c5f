"""Does this machine draw East Asian text of PDFs that do not hold its font?"""

from __future__ import annotations

from detector.errors import UnsupportedFormat
from detector.images.page import open_page

SCRIPTS = {
    "Chinese": ("STSong-Light", "UniGB-UCS2-H", "GB1", "4e2d6587"),
    "Japanese": ("HeiseiMin-W3", "UniJIS-UCS2-H", "Japan1", "3042672c"),
    "Korean": ("HYSMyeongJo-Medium", "UniKS-UCS2-H", "Korea1", "d55cae00"),
}
"""Font, code, characters' collection, and two characters; ISO 32000-1, table 118."""


def undrawn_scripts() -> list[str]:
    """Scripts whose fonts pdfium does not find: it asks the folders of fonts once in a process."""
    undrawn = []
    for script, (font, code, collection, letters) in SCRIPTS.items():
        try:
            open_page(_page(font, code, collection, letters), limit_side=200)
        except UnsupportedFormat:
            undrawn.append(script)
    return undrawn


def _page(font: str, code: str, collection: str, letters: str) -> bytes:
    contents = f"BT/F 50 Tf 20 30 Td<{letters}>Tj ET"
    objects = (
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        f"<</Length {len(contents)}>>stream\n{contents}\nendstream",
        f"<</Type/Font/Subtype/Type0/BaseFont/{font}/Encoding/{code}/DescendantFonts[6 0 R]>>",
        f"<</Type/Font/Subtype/CIDFontType0/BaseFont/{font}/CIDSystemInfo<</Registry(Adobe)/Ordering({collection})"
        "/Supplement 0>>/DW 1000>>",
    )
    body = "".join(f"{number} 0 obj\n{text}\nendobj\n" for number, text in enumerate(objects, 1))
    return f"%PDF-1.4\n{body}trailer<</Root 1 0 R>>\n".encode("latin-1")
