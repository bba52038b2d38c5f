"""A PDF is written with the streams that came in it as they are, and no larger than a document grows by its text.

qpdf unpacks what has several filters, or another than Flate, and packs it once: 1.5 MB of Flate in Flate were 2.8 GB.
The document's metadata it unpacks whatever it is asked for: 1 KB was 10 MB. Nothing of it need be on a page.
"""

from __future__ import annotations

import errno
import resource
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pikepdf

PDF_GROWS, PDF_MORE_BYTES = 8, 1 << 20
"""What a PDF may become, times its size and bytes more: 8 times is what one of 1,574 honest ones would have with its
object streams unpacked, as they are beside a stream with another filter. As they are none above 1 KB has 1.06 times."""

PICTURE_GROWS, PICTURE_MORE_BYTES = 64, 64 << 20
"""What a picture may, which is drawn without loss: one of 22 megapixels whatever it came as. Of 30 photos the most had
6 times their bytes as JPEG in a TIFF, 45 as WebP of quality 20, 50 as AVIF of quality 30."""

_STAY = {"/DCTDecode", "/JPXDecode", "/CCITTFaxDecode", "/JBIG2Decode", "/RunLengthDecode"}
"""A stream with one of these filters is none that qpdf unpacks."""


class GrowsError(ValueError):
    """The document would be far larger than what came."""


def packed(pdf: pikepdf.Pdf, data: bytes) -> pikepdf.Stream:
    """A new stream of ours, packed, as `save` packs none."""
    from pikepdf import Name

    return pdf.make_stream(zlib.compress(data), Filter=Name.FlateDecode)


def save(pdf: pikepdf.Pdf, target: Path, most: int, min_version: str = "") -> None:
    """Writes the document.

    Args:
        pdf: what it holds; names of filters, and of metadata, may be changed.
        target: the file.
        most: bytes it may have.
        min_version: of PDF.

    Raises:
        GrowsError: it would have more.
        pikepdf.PdfError: it is damaged.
    """
    from pikepdf import StreamDecodeLevel

    # Packed are then object streams and what came without a filter. Unpacked object streams make some PDFs much larger.
    packs = _stays_as_it_came(pdf)
    with _no_larger_than(most):
        pdf.save(
            target,
            min_version=min_version,
            compress_streams=packs,
            stream_decode_level=StreamDecodeLevel.generalized if packs else StreamDecodeLevel.none,
            fix_metadata_version=False,  # unpacks it, and puts an empty one where it is not well-formed
        )


def _stays_as_it_came(pdf: pikepdf.Pdf) -> bool:
    """Whether qpdf leaves all packed streams as they are, also where it packs others; mends what can be named so."""
    from pikepdf import Array, Name, Stream

    stays = True
    for stream in pdf.objects:
        if not isinstance(stream, Stream) or (filters := stream.get("/Filter")) is None:
            continue
        names = [str(name) for name in filters] if isinstance(filters, Array) else [str(filters)]
        if names == ["/Crypt"]:  # packs nothing
            continue
        if stream.get("/Type") == Name.Metadata:
            del stream["/Type"]  # /Metadata leads to it, and says what it is; 6 of 1,574 PDFs have packed ones
        if names == ["/FlateDecode"] and isinstance(filters, Array):
            stays &= _named_alone(stream)
        elif names != ["/FlateDecode"] and not _STAY.intersection(names):
            stays = False
    return stays


def _named_alone(stream: pikepdf.Stream) -> bool:
    """Its one filter is no list any more: qpdf packs anew what has a list of one. Whether that could be done."""
    from pikepdf import Array, Dictionary, Name

    settings = stream.get("/DecodeParms")
    if isinstance(settings, Array):
        if len(settings) != 1 or not (settings[0] is None or isinstance(settings[0], Dictionary)):
            return False
        if settings[0] is None:
            del stream["/DecodeParms"]
        else:
            stream["/DecodeParms"] = settings[0]
    stream["/Filter"] = Name.FlateDecode
    return True


@contextmanager
def _no_larger_than(most: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes (RLIMIT_FSIZE; Python ignores the signal)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft != resource.RLIM_INFINITY and soft <= most:
        yield
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise GrowsError(f"it would have more than {most:,} bytes, far more than what came") from error
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
