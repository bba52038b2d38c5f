"""What a scan passed over: counted by kind, so that it can be said at the end, and never grows with the folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath

MOST_KINDS = 100
OTHERS = "of other kinds"
WITHOUT_SUFFIX = "without a suffix"
UNREADABLE = "unreadable folders"
NAMELESS = "without a name in archives"
LONG_NAMED = "with a name that is too long"
LONG_LISTED = "of a list, of more than 4,096 bytes"
MOST_NAME_BYTES = 4096
"""As file systems have it. A zip of 131 KB, a PDF of 1,000 pages by a name of 65 KB, was 325 MB of Redis."""

NOT_ASKED_FOR = "that a bucket's server listed, and that lie elsewhere"
LINKS = "links in archives"
UNKNOWN = "of a kind that is not known in archives"
REPLACED = "in zips, with a later copy of the same name"
OUTSIDE = "links that lead out of the folder (--follow-links takes them)"
OURS = "folders of pictures beside a job's results (overlays, exports)"
JUNK_FOLDERS = frozenset(("@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "System Volume Information"))
"""Folders that systems keep beside people's files: Synology's previews, recycle bins, what macOS puts into zips."""

OFFICE_LOCK = "~$"
"""What the names of Microsoft Office's lock files begin with."""


class PassedOver:
    """Counts what was passed over."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, count: int = 1) -> None:
        """Counts something; kinds beyond `MOST_KINDS` together."""
        if kind not in self.counts and len(self.counts) >= MOST_KINDS:
            kind = OTHERS
        self.counts[kind] += count

    def file(self, name: PurePath) -> None:
        """Counts a file by its suffix."""
        suffix = name.suffix.lower()
        self.add(suffix.encode("utf-8", "backslashreplace").decode()[:16] if suffix else WITHOUT_SUFFIX)


def is_junk(part: str) -> bool:
    """Whether a folder or file of this name belongs to a system, not to people."""
    return part in JUNK_FOLDERS or part.startswith(OFFICE_LOCK)


def junk_kind(part: str) -> str:
    """How junk is counted."""
    return f"{OFFICE_LOCK} files" if part.startswith(OFFICE_LOCK) else f"in {part}"


def in_words(counts: Mapping[str, int], most: int = 12) -> str:
    """As "passed over: 37 .txt, 2 without a suffix", the most frequent first; empty if nothing was."""
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{count:,} {kind}" for kind, count in ordered[:most]]
    if len(ordered) > most:
        said.append(f"{sum(count for _, count in ordered[most:]):,} of {len(ordered) - most} other kinds")
    return f"passed over: {', '.join(said)}"
