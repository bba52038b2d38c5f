"""Asks the servers of buckets and pictures, within limits; as a program, one question a line.

``python -m producer.detector_process.remote_program`` reads JSON lines (`Question`) on stdin and answers each with one
line. What a server sends without end, or to be parsed, costs this process, and never who scans or draws pages: a list
of 400 MB was 1.6 GB of the page, which has 96 MB for all its jobs. `remote_process` ends it where no answer comes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec

from detector.errors import DetectorError, ImageError, TooLarge, first_line
from detector.memory import limit_memory
from producer.answer_line import answer_line
from producer.detector_process.members import MemberTaken
from producer.errors import CannotCountError
from producer.sources.count_pages import CountAnswer
from producer.sources.page_count import count_pages
from producer.sources.readers import Listed
from worker.storage.bound import Bound
from worker.storage.remote import Remote, s3, s3_errors, whole_key
from worker.storage.spool import MachineFault

MEMORY_BYTES = 256 << 20
"""Python, pypdf and s3fs take 90 MiB of it; a list of a thousand keys of 1,024 bytes 10 MB more."""

MOST_KEY_BYTES = 1024
"""As S3 has it, and whoever speaks its protocol."""

MOST_TOKEN_BYTES = 8 << 10
_TOO_MUCH = f"its server's answer takes more than {MEMORY_BYTES >> 20} MiB"
_CHECK = "check the address and the AWS_* variables"


class WantedList(msgspec.Struct, frozen=True, tag="list"):
    """Some of a bucket's objects: percent-encoded ``bucket/prefix``, where the list before ended, and how many."""

    root: str
    next_list: str
    most: int


class WantedCount(msgspec.Struct, frozen=True, tag="count"):
    """An object's pages: percent-encoded ``bucket/key``, and its kind (``pdf``, ``tiff``)."""

    key: str
    kind: str


class WantedCopy(msgspec.Struct, frozen=True, tag="copy"):
    """What is at an address: the prefixes that redirects may lead to, and a percent-encoded file; and a bound."""

    uri: str
    roots: tuple[str, ...]
    out: str
    most_bytes: int
    remedy: str


Question = WantedList | WantedCount | WantedCopy


class _OddAnswerError(Exception):
    """A list that no server of S3's protocol sends."""


def serve(lines: BinaryIO, answers: BinaryIO) -> None:
    """Answers one line after the other until the input ends."""
    limit_memory(MEMORY_BYTES)
    decoder: msgspec.json.Decoder[Question] = msgspec.json.Decoder(WantedList | WantedCount | WantedCopy)
    for question in map(decoder.decode, lines):
        answer: Listed | CountAnswer | MemberTaken
        if isinstance(question, WantedList):
            answer = _listed(question)
        else:
            answer = _counted(question) if isinstance(question, WantedCount) else _copied(question)
        answers.write(answer_line(answer))
        answers.flush()


def _listed(wanted: WantedList) -> Listed:
    try:
        files = s3()
        try:
            # As typed, not percent-decoded: people copy keys from `aws s3 ls`.
            root = unquote(wanted.root, errors="surrogateescape")
            if not wanted.next_list and files.isfile(root):
                return Listed(is_object=True)
            return _part(files, root, wanted)
        except s3_errors() as error:
            return Listed(error=_TOO_MUCH if _is_memory(error) else f"{first_line(error)} ({_CHECK})")
    except ImageError as error:  # without the extra
        return Listed(error=str(error))
    except MemoryError:
        return Listed(error=_TOO_MUCH)
    except _OddAnswerError as error:
        return Listed(error=f"its server's list cannot be read: {error}")
    except Exception as error:  # botocore and s3fs, of what a server answers that is none: KeyError, AttributeError
        return Listed(error=f"its server's list cannot be read ({type(error).__name__})")


def _is_memory(error: BaseException | None) -> bool:
    """Whether memory ended in the thread that reads: aiohttp and botocore say that the connection did."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _part(files: Any, root: str, wanted: WantedList) -> Listed:
    bucket, prefix, _ = files.split_path(root)
    prefix = f"{prefix}/" if prefix else ""
    asked = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": wanted.most}
    if wanted.next_list:
        asked["ContinuationToken"] = wanted.next_list
    found = files.call_s3("list_objects_v2", **asked)
    entries = found.get("Contents") or ()
    if len(entries) > wanted.most:
        raise _OddAnswerError(f"it holds more than the {wanted.most:,} objects that were asked for")
    keys, outside, long = [], 0, 0
    for key in (entry.get("Key") for entry in entries):
        if not isinstance(key, str):
            raise _OddAnswerError("it holds an object without a name")
        # One that lies elsewhere was not asked for, whatever it is, and would be a page of this job.
        if not key.startswith(prefix):
            outside += 1
        elif len(key.encode("utf-8", "replace")) > MOST_KEY_BYTES:
            long += 1
        else:
            keys.append(f"{bucket}/{key}")
    next_list = ""
    if found.get("IsTruncated"):
        next_list = found.get("NextContinuationToken") or ""
        if not next_list or next_list == wanted.next_list or len(next_list) > MOST_TOKEN_BYTES:
            raise _OddAnswerError("it says that there is more, and not where")
    return Listed(keys=keys, next_list=next_list, outside=outside, long=long)


def _counted(wanted: WantedCount) -> CountAnswer:
    try:
        with s3().open(whole_key(unquote(wanted.key, errors="surrogateescape")), "rb") as stream:
            count = count_pages(stream, wanted.kind)
    except CannotCountError as error:
        return CountAnswer(False, error=str(error))
    except MemoryError:
        return CountAnswer(False, error=_TOO_MUCH)
    except Exception as error:
        if isinstance(error, (DetectorError, *s3_errors())):
            return CountAnswer(False, error=first_line(error, 200))
        return CountAnswer(False, error=f"its server's answer cannot be read ({type(error).__name__})")
    return CountAnswer(True, count.pages, broken=count.broken)


def _copied(wanted: WantedCopy) -> MemberTaken:
    out = Path(os.fsdecode(unquote_to_bytes(wanted.out)))
    remote = Remote(wanted.roots, s3_open=True, bound=Bound(wanted.most_bytes, wanted.remedy))
    try:
        remote.fetch(wanted.uri, out)
    except MachineFault as error:
        where = quote(os.fsencode(error.filename or out))
        return MemberTaken("Internal", error.strerror or str(error), error.errno or 5, where)
    except ImageError as error:
        return MemberTaken(error.type, str(error))
    except MemoryError:
        return MemberTaken(TooLarge.type, f"{wanted.uri}: {_TOO_MUCH}")
    return MemberTaken()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
