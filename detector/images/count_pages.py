"""Counts the pages of PDFs as the workers will see them; as a program, one file per line.

``python -m detector.images.count_pages`` reads JSON lines on stdin::

    {"path": "/data/a%20b.pdf"}

(`path` is the percent-encoded file name; `seen`, device and inode, may say which file it was) and answers each with one
line on stdout:
``{"ok": true, "pages": 12, "listed": 12, "most": 12}`` (pdf_tree.py) or ``{"ok": false, "error": "..."}``. It ends with
its input. pdfium reads the file in pieces; what it may allocate is bounded, so that a hostile file costs this process,
not the producer.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO
from urllib.parse import unquote_to_bytes

from detector.errors import ImageError, json_line, read_json, show
from detector.images.pdf import count_pdf_pages
from detector.images.pdf_tree import listed_pages
from detector.images.regular_file import SeenPath, open_regular, raise_read_error
from detector.memory import limit_memory

MEMORY_BYTES = 256 << 20
"""Of which Python and pdfium take 20 MiB. A PDF of 10,000 pages is counted in less than 100."""


def serve(lines: TextIO, answers: TextIO) -> None:
    """Answers one line per line until the input ends."""
    for line in lines:
        limit_memory(MEMORY_BYTES)
        answer: dict[str, object]
        try:
            question = read_json(line)
            seen = question.get("seen")
            path = SeenPath.to(os.fsdecode(unquote_to_bytes(question["path"])), (seen[0], seen[1]) if seen else None)
            with open_regular(path) as file:
                try:
                    pages = count_pdf_pages(file, show(path))
                    listed = listed_pages(file, pages)
                finally:
                    raise_read_error(file)
                answer = {"ok": True, "pages": pages, "listed": listed.least, "most": listed.most}
        except ImageError as error:
            answer = {"ok": False, "error": str(error)}
        except MemoryError:
            answer = {"ok": False, "error": f"its pages cannot be counted within {MEMORY_BYTES >> 20} MiB"}
        except (OSError, ValueError, KeyError, TypeError) as error:
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        answers.write(json_line(answer))
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
