"""A form as it comes, piece by piece (multipart/form-data): files go on to who takes them, fields are short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from producer.web.names import safe_upload_name
from producer.web.problem import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_FIELDS, MOST_FIELD_BYTES = 32, 4096

BESIDE_BYTES, BESIDE_A_PART = 64 << 10, 8 << 10
"""Of a form that are in no file or field: before its first part and behind its last, and of each part's boundary and
headers, which browsers and curl write in 200 bytes and a name. They are on no disk and in no quota: without a bound
they kept a place among the uploads, gigabytes of them."""


class Files(Protocol):
    """Takes the files of a form, one after the other."""

    def begin(self, name: str) -> None:
        """One begins. ``name``: as the client has it."""

    def write(self, data: bytes) -> None:
        """Its next bytes."""

    def end(self) -> None:
        """It is whole."""


class Form:
    """One form."""

    def __init__(self, files: Files, boundary: bytes) -> None:
        """Read nothing yet.

        Args:
            files: take what has a file name.
            boundary: of the Content-Type.

        Raises:
            Problem: 400, there is none.
        """
        self._files = files
        self._header = self._value = self._disposition = b""
        self._field: tuple[bytes, bytearray] | None = None
        self._fields: dict[bytes, bytes] = {}  # text of one emoji has 4 bytes a letter: 0.5 MB an upload
        self._count = self._parts = self._beside = 0
        self._ended = False
        if not boundary:
            raise _no_form("no boundary")
        try:
            self._parser = MultipartParser(boundary, self._callbacks(), max_header_size=4096)
        except FormParserError as error:
            raise _no_form(str(error)) from None

    def write(self, data: bytes) -> None:
        """Its next bytes.

        Raises:
            Problem: it is none, or has too much of something.
        """
        self._beside += len(data)
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _no_form(str(error)) from None
        if self._beside > BESIDE_BYTES + BESIDE_A_PART * self._parts:
            raise _no_form("more beside its files and fields than a form has there")

    def end(self) -> dict[str, str]:
        """All has come: its fields.

        Raises:
            Problem: 400, it is cut off.
        """
        if not self._ended:
            raise Problem(400, "the form is cut off", "send it again")
        return {_text(name): _text(value) for name, value in self._fields.items()}

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._parts += 1
        self._header = self._value = self._disposition = b""
        self._field = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" in options:
            self._files.begin(options[b"filename"].decode("utf-8", "replace"))
        else:
            self._count += 1  # not names, as with files
            if self._count > MOST_FIELDS:
                raise Problem(400, f"the form has more than {MOST_FIELDS} fields", "send files and limit_side only")
            self._field = (options.get(b"name", b""), bytearray())

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._beside -= end - start
        if self._field is None:
            self._files.write(data[start:end])
            return
        self._field[1].extend(data[start:end])
        if len(self._field[1]) > MOST_FIELD_BYTES:
            raise Problem(
                413, f"the field {safe_upload_name(_text(self._field[0]))} is too long", "send files with a file name"
            )

    def _part_end(self) -> None:
        if self._field is None:
            self._files.end()
        else:
            self._fields[self._field[0]] = bytes(self._field[1])

    def _end(self) -> None:
        self._ended = True


def _no_form(why: str) -> Problem:
    return Problem(400, f"not multipart/form-data: {why}", "send the form as browsers and curl -F do")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
