"""What a program of ours answers to who started it: one line of JSON, whatever names its texts hold."""

from __future__ import annotations

import msgspec

from detector.errors import utf8_throughout


def answer_line(answer: msgspec.Struct) -> bytes:
    r"""The answer as a line of JSON; what no UTF-8 can hold is written out in it (``\xe9``).

    An error may name a file or a member of an archive whose name is no UTF-8, and msgspec refuses that: the program
    died of its answer, and all behind was lost. So every program answers with this, and none makes lines by itself.
    """
    try:
        return msgspec.json.encode(answer) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(utf8_throughout(msgspec.to_builtins(answer))) + b"\n"
