"""Pages at ``s3://`` and ``https://`` addresses, copied to the spool within bounds.

What a worker may fetch is decided on the worker, not by the sender of a message: a URL must lie below a
prefix of ``OCRFLEET_ROOTS``. ``https`` is never open without one (nobody outside may read a private network
through a worker), redirects obey the same rule, and plain ``http`` is refused. A bucket's server is the one that
``AWS_*`` names, or AWS's own: its redirects are not followed.
"""

from __future__ import annotations

import os
import re
import ssl
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from billiard.exceptions import SoftTimeLimitExceeded

from detector.errors import NotFound, TooLarge, UnsupportedFormat, first_line, printable
from worker.storage.bound import Bound
from worker.storage.spool import CutOff, MachineFault, write_chunks
from worker.storage.whole_answers import WholeHTTPSHandler

SCHEMES = ("s3", "https")
MAX_REMOTE_BYTES = 512 << 20
TIMEOUT_S = 30.0
TRIES = 2
"""Of a transfer that was cut off, before whoever asked for it is told; s3fs asks five times."""

MOST_DECODED = 4
"""Layers of percent-encoding in an address: one of its own, one of a name that holds `%20`, and two to spare."""

_CHUNK = 1 << 20
# What IIS decodes; and of overlong UTF-8 all that means ASCII.
_WIDE = re.compile(rb"%u([0-9a-f]{4})", re.IGNORECASE)
_OVERLONG = re.compile(rb"(?:[\xc0\xc1]|\xe0[\x80\x81]|\xf0\x80[\x80\x81])[\x80-\xbf]")
_BLANK = re.compile(r"[\s\0-\x1f\x7f-\x9f]")
_PART = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.IGNORECASE)


def allowed(uri: str, url_roots: tuple[str, ...]) -> bool:
    """Whether a URL lies below one of the prefixes. ``..`` never does, however it is written.

    Raises:
        ValueError: it is no URL, such as ``https://[``.
    """
    parts = urlsplit(uri)
    if "@" in parts.netloc or not any(uri == root or uri.startswith(root.rstrip("/") + "/") for root in url_roots):
        return False
    # Of two # urllib sends the first on, which some servers take for a letter of the path.
    return not _leads_up(f"{parts.path}/{parts.fragment}")


def _leads_up(path: str) -> bool:
    """Whether some server takes it for a path that goes up.

    Tomcat cuts ``;...`` off, IIS takes a backslash for a slash, a proxy decodes what the server decodes again. Blanks
    of any kind: urllib cuts them off an address's end, Windows off a name's, with the dots there and what is behind a
    colon. C cuts off what follows a zero byte, others leave it out. Old servers read overlong UTF-8 and ``%u002e``,
    and Windows has other dots and slashes for the plain ones. Behind a proxy that hands on what it decoded a question
    mark begins the query. What is encoded in more than `MOST_DECODED` layers is taken for one: each layer costs its
    length, and `%252525...` has as many as letters.
    """
    raw = path.encode("utf-8", "surrogatepass")
    for _ in range(MOST_DECODED):
        raw = _decoded(raw)
    if _decoded(raw) != raw:
        return True
    plain = unicodedata.normalize("NFKC", raw.decode("utf-8", "replace"))
    return any(map(_is_up, re.split(r"[/\\]", plain)))


def _decoded(raw: bytes) -> bytes:
    """One layer less of encoding."""
    raw = _WIDE.sub(lambda match: chr(int(match[1], 16)).encode("utf-8", "replace"), unquote_to_bytes(raw))
    return _OVERLONG.sub(lambda match: bytes([(match[0][-2] & 1) << 6 | match[0][-1] & 0x3F]), raw)


def _is_up(part: str) -> bool:
    for ends in ("[;#?:\0]", "[;#?:]"):
        name = re.split(ends, part)[0]
        dots = _BLANK.sub("", name)
        if dots == ".." or (dots != name and len(dots) > 1 and not dots.strip(".")):
            return True
    return False


class Remote:
    """Fetches ``s3://`` and ``https://`` URIs.

    Attributes:
        url_roots: allowed prefixes.
        s3_open: whether any bucket is allowed (no roots are set at all: one's own machine).
        bound: how large a copy may be; None: ``MAX_REMOTE_BYTES``.
    """

    def __init__(self, url_roots: tuple[str, ...], *, s3_open: bool, bound: Bound | None = None) -> None:
        self.url_roots = url_roots
        self.s3_open = s3_open
        self.bound = bound

    def fetch(self, uri: str, target: Path) -> None:
        """Copy what is at the URI to a file.

        Raises:
            NotFound: not there, not allowed here, or no answer.
            CutOff: what was sent ended before its end, again and again.
            TooLarge: it is above the bound.
            UnsupportedFormat: ``s3://`` without the ``s3`` extra.
            MachineFault: the file cannot be written.
        """
        scheme = urlsplit(uri).scheme
        if not (allowed(uri, self.url_roots) or (scheme == "s3" and self.s3_open and allowed(uri, ("s3:/",)))):
            raise NotFound(f"{uri} is not below an allowed address (add its prefix to OCRFLEET_ROOTS on this worker)")
        bound = self.bound or Bound(MAX_REMOTE_BYTES, "copy it to a folder first")
        if scheme == "s3":
            _fetch_s3(uri, target, bound)
        else:
            self._fetch_https(uri, target, bound)

    def _fetch_https(self, uri: str, target: Path, bound: Bound) -> None:
        for tries_left in reversed(range(TRIES)):
            try:
                with self._answer(uri) as answer:
                    _copy(answer, uri, target, bound)
                return
            except CutOff:
                if not tries_left:
                    raise

    def _answer(self, uri: str) -> Any:
        opener = urllib.request.build_opener(WholeHTTPSHandler(), _SameRoots(self.url_roots))
        try:
            answer = opener.open(uri, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection
            raise NotFound(f"{uri}: the server says {_said(f'{error.code} {error.reason}')}") from None
        except (OSError, ValueError, HTTPException) as error:  # ValueError: of urllib, for an address it cannot parse
            raise NotFound(f"{uri}: {_said(getattr(error, 'reason', None) or error)}") from None
        if reason := _is_not_all(answer):
            answer.close()
            raise NotFound(f"{uri}: the server sends {reason}")
        return answer


def _is_not_all(answer: Any) -> str:
    """What an answer is that is no file whole; empty if nothing says so.

    http.client takes what it does not know of for nothing: the marks of chunks for the body where another coding, or a
    blank, stands beside the word, the first of two lengths, and a part for all.
    """
    if answer.status in (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT):
        return f"nothing ({answer.status})"
    part = _PART.fullmatch((answer.headers.get("Content-Range") or "").strip())
    if answer.status == HTTPStatus.PARTIAL_CONTENT or (part and (int(part[1]), int(part[2]) + 1) != (0, int(part[3]))):
        return f"a part of it ({answer.status}), and was asked for all"
    codings = answer.headers.get_all("Transfer-Encoding") or []
    if len(codings) > 1 or (codings and not answer.chunked and codings[0].strip().lower() != "identity"):
        return f"it as {_said(', '.join(codings))!r}, which is not read here"
    lengths = {length.strip() for length in answer.headers.get_all("Content-Length") or []}
    return "it with two lengths" if len(lengths) > 1 and not answer.chunked else ""


def _copy(answer: Any, uri: str, target: Path, bound: Bound) -> None:
    """Copy a body to a file.

    Raises:
        CutOff: it ended before its end.
        TooLarge, MachineFault: as for `Remote.fetch`.
    """
    try:
        size = write_chunks(bound.pieces(answer, uri), target)
    except MachineFault:
        raise
    except ssl.SSLEOFError:
        unannounced = answer.length is None and not answer.chunked
        why = (
            "TLS did not end it (close_notify), and no length was announced" if unannounced else "its connection ended"
        )
        raise CutOff(uri, why) from None
    except (OSError, HTTPException) as error:
        raise CutOff(uri, _said(error)) from None
    if answer.length:  # http.client takes the connection's end for the body's
        raise CutOff(uri, f"it ended after {size:,} of {size + answer.length:,} bytes")


def _said(words: object) -> str:
    """One short line of what a server said, or of what became of asking it: of 54,000 characters with raw escapes."""
    return printable(first_line(words if isinstance(words, BaseException) else Exception(words)))


class _SameRoots(urllib.request.HTTPRedirectHandler):
    """Follows redirects inside the allowed prefixes only."""

    def __init__(self, url_roots: tuple[str, ...]) -> None:
        self._url_roots = url_roots

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # urllib reads the body else, all of it, into memory
        if not allowed(newurl, self._url_roots):
            raise NotFound(f"{_said(req.full_url)}: redirects to {_said(newurl)}, which is not allowed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def s3() -> Any:
    """The S3 file system (fsspec). Keys, region and endpoint come from the usual AWS_* variables.

    Raises:
        UnsupportedFormat: the ``s3`` extra is not installed.
    """
    if os.path.expanduser("~") == "~":  # noqa: PTH111  # no HOME, and no entry in passwd, for which pathlib raises
        # Else `~/.aws/config` is one of the current folder, and says what to run (`credential_process`).
        os.environ["HOME"] = "/nonexistent"
    try:
        import fsspec
        from fsspec.config import apply_config

        from worker.storage.s3_session import NoRedirects

        # What a machine's fsspec settings say, such as the way of addressing, goes on holding.
        asked = apply_config(fsspec.get_filesystem_class("s3"), {}).get("config_kwargs") or {}
        return fsspec.filesystem("s3", config_kwargs={**asked, "http_session_cls": NoRedirects})
    except ImportError as error:
        raise UnsupportedFormat(
            f"s3:// needs the s3 extra on this machine: pip install 'ocrfleet[s3]' ({error})"
        ) from None


def s3_errors() -> tuple[type[Exception], ...]:
    """What s3fs and the libraries below it raise about a bucket, a key, credentials or a server that cannot be had."""
    from aiohttp import ClientError as HttpError
    from botocore.exceptions import BotoCoreError, ClientError

    # ValueError: s3fs, about a bucket's name that cannot be one
    return OSError, ValueError, BotoCoreError, ClientError, HttpError


def s3_path(uri: str) -> str:
    """``s3://bucket/percent%20encoded`` as fsspec wants it.

    Raises:
        ValueError: as `whole_key`.
    """
    parts = urlsplit(uri)
    return whole_key(f"{parts.netloc}{unquote(parts.path)}")


def whole_key(path: str) -> str:
    """An object's path, of which s3fs asks for the whole.

    Raises:
        ValueError: it takes the end for a version, and opens the object whose key is the rest.
    """
    if "?versionId=" in path:
        raise ValueError("s3fs asks for another object where a key holds ?versionId=; copy it to another key")
    return path


class Unended:
    """Whether something that was begun for a page goes on behind its end: this process is to take no other.

    Attributes:
        is_there: something does.
    """

    is_there = False


@contextmanager
def _ended_with_the_page(files: Any) -> Iterator[None]:
    """What fsspec's thread does, and holds of the server, ends with the block, whatever ends that."""
    try:
        yield
    finally:
        from worker.storage.s3_session import end_requests

        left, Unended.is_there = Unended.is_there, True  # should the page's time be over meanwhile
        Unended.is_there = not end_requests(files.loop) or left


def _fetch_s3(uri: str, target: Path, bound: Bound) -> None:
    files = s3()
    try:
        with (
            _ended_with_the_page(files),
            files.open(s3_path(uri), "rb", cache_type="none", block_size=_CHUNK) as source,
        ):
            size = write_chunks(bound.pieces(source, uri), target)
            announced = source.size or 0
    except (TooLarge, MachineFault, MemoryError, SoftTimeLimitExceeded):
        raise
    except Exception as error:  # aiobotocore and s3fs raise a dozen kinds; all mean that the bytes cannot be had
        from aiohttp import ClientPayloadError

        if isinstance(error, ClientPayloadError):
            raise CutOff(uri, _said(error)) from None
        raise NotFound(f"{uri}: {_said(error)}") from None
    # fsspec takes an empty range for the end. More than was announced is honest: Google's unpacks gzip.
    if size < announced:
        raise CutOff(uri, f"it ended after {size:,} of {announced:,} bytes")
