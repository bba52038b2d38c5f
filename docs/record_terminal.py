"""Records a real command in a terminal and draws it as an animated SVG, which GitHub shows as a picture.

    python docs/record_terminal.py docs/run.svg -- ocr-producer run examples/images -o out --overlays

The command runs in a pseudo-terminal, in a temporary folder with a link to this repository's ``examples``, so that what
it writes is thrown away and no path of the recording machine is drawn: the folder's own path is left out of the lines.
Times and rates are those of the recording machine.
"""

from __future__ import annotations

import argparse
import codecs
import fcntl
import os
import pty
import re
import select
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, ROWS = 96, 40
CELL_W, CELL_H, MARGIN = 8.4, 19, 16
FRAME_EVERY_S = 0.25
MAX_FRAMES = 24
"""A long command is thinned out to this many pictures: the file stays under 100 KB."""
LAST_S = 6.0
"""How long the last picture stays before the recording begins again, seconds."""

CONTROL = re.compile(r"\x1b\[(?P<numbers>[0-9;?]*)(?P<letter>[A-Za-z])|(?P<plain>[\r\n])")
CUT = re.compile(r"(\x1b(\[[0-9;?]*)?)?\Z")


@dataclass
class Screen:
    """As much of a terminal as progress bars need: line feed, carriage return, cursor up, erase line, colours."""

    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    fresh: bool = True
    """The next text replaces the line instead of going on with it."""

    def feed(self, data: str) -> None:
        """What the command wrote."""
        place = 0
        for match in CONTROL.finditer(data):
            self._write(data[place : match.start()])
            place = match.end()
            self._control(match)
        self._write(data[place:])

    def _control(self, match: re.Match[str]) -> None:
        letter, numbers = match["letter"], match["numbers"] or ""
        if match["plain"] == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
            self.fresh = True
        elif match["plain"] == "\r":
            self.fresh = True
        elif letter == "m":
            self._write(match.group(0))
        elif letter == "A":
            self.row = max(0, self.row - int(numbers or 1))
            self.fresh = True
        elif letter == "K":
            self.lines[self.row] = ""

    def _write(self, text: str) -> None:
        if text:
            self.lines[self.row] = text if self.fresh else self.lines[self.row] + text
            self.fresh = False

    def shown(self) -> tuple[str, ...]:
        """The lines as they stand, without the empty ones below."""
        lines = list(self.lines)
        while lines and not lines[-1].strip():
            lines.pop()
        return tuple(lines)


def record(command: list[str], folder: Path) -> tuple[list[tuple[float, tuple[str, ...]]], int]:
    """Runs a command in a terminal of COLUMNS x ROWS.

    Args:
        command: program and arguments.
        folder: where it runs.

    Returns:
        (seconds since the start, lines) whenever the screen changed, and the exit code.
    """
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PATH": path}
    environment |= {"COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    screen, decode, rest = Screen(), codecs.getincrementaldecoder("utf-8")(errors="replace").decode, ""
    frames: list[tuple[float, tuple[str, ...]]] = []
    while True:
        ready, _, _ = select.select([leader], [], [], FRAME_EVERY_S)
        if ready:
            try:
                data = os.read(leader, 1 << 16)
            except OSError:  # Linux says EIO where the other end is closed
                break
            if not data:
                break
            text = rest + decode(data)
            cut = CUT.search(text)
            whole = cut.start() if cut else len(text)  # a read may end inside a control sequence
            rest = text[whole:]
            screen.feed(text[:whole])
        lines = screen.shown()
        if not frames or (lines != frames[-1][1] and time.monotonic() - started - frames[-1][0] >= FRAME_EVERY_S):
            frames.append((time.monotonic() - started, lines))
    os.close(leader)
    code = process.wait()
    frames.append((time.monotonic() - started, screen.shown()))
    return frames, code


def thinned(frames: list[tuple[float, tuple[str, ...]]]) -> list[tuple[float, tuple[str, ...]]]:
    """At most MAX_FRAMES of them, the first and the last among them."""
    if len(frames) <= MAX_FRAMES:
        return frames
    step = (len(frames) - 1) / (MAX_FRAMES - 1)
    return [frames[round(number * step)] for number in range(MAX_FRAMES)]


def svg(command: list[str], frames: list[tuple[float, tuple[str, ...]]]) -> str:
    """The recording as one SVG; a viewer without animation shows the last frame."""
    rows = max(len(lines) for _, lines in frames) + 1
    width, height = COLUMNS * CELL_W + 2 * MARGIN, rows * CELL_H + 2 * MARGIN + 18
    total = frames[-1][0] + LAST_S
    body = []
    for number, (start, lines) in enumerate(frames):
        last = number == len(frames) - 1
        end = total if last else frames[number + 1][0]
        drawn = "".join(_line(2 + row, line) for row, line in enumerate(lines))
        # Times as parts of the whole round: shown from `start` to `end`, hidden otherwise.
        first, then = start / total, end / total
        times = f"0;{first:.4f};1" if last else f"0;{first:.4f};{min(then, 0.9999):.4f};1"
        values = "0;1;1" if last else "0;1;0;0"
        body.append(
            f'<g opacity="{1 if last else 0}"><animate attributeName="opacity" calcMode="discrete" dur="{total:.2f}s" '
            f'repeatCount="indefinite" keyTimes="{times}" values="{values}"/>{drawn}</g>'
        )
    prompt = _line(1, f"\x1b[32m$\x1b[0m {shlex.join(command)}")
    dots = "".join(
        f'<circle cx="{20 + 18 * number}" cy="15" r="5" fill="{colour}"/>'
        for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">'
        f"<title>{escape(shlex.join(command))}</title>"
        f'<rect width="100%" height="100%" rx="8" fill="#191a1e"/>{dots}{prompt}{"".join(body)}</svg>\n'
    )


def _line(row: int, line: str) -> str:
    """One line of the screen; each run of one style has its place and its length, whatever the viewer's font."""
    text = Text.from_ansi(line)
    parts, column = [], 0
    y = MARGIN + 14 + row * CELL_H
    for segment in text.render(_console()):
        content = segment.text.rstrip("\n")
        if content.strip():
            lead = len(content) - len(content.lstrip(" "))
            word = content.strip(" ")
            x = MARGIN + (column + lead) * CELL_W
            parts.append(
                f'<text x="{x:.1f}" y="{y}" textLength="{len(word) * CELL_W:.1f}" xml:space="preserve"'
                f"{_attributes(segment.style)}>{escape(word)}</text>"
            )
        column += len(content)
    return "".join(parts)


def _attributes(style: Style | None) -> str:
    colour = style.color if style and style.color else Color.default()
    fill = colour.get_truecolor(DIMMED_MONOKAI).hex if not colour.is_default else "#d9d9d9"
    bold = ' font-weight="bold"' if style and style.bold else ""
    dim = ' opacity="0.65"' if style and style.dim else ""
    return f' fill="{fill}"{bold}{dim}'


def _console() -> Console:
    return Console(width=COLUMNS, color_system="truecolor", force_terminal=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("svg", type=Path, help="where to draw it")
    parser.add_argument("command", nargs="+", help="after --: the command and its arguments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ocrfleet-record-") as name:
        folder = Path(name).resolve()
        (folder / "examples").symlink_to(ROOT / "examples")
        frames, code = record(arguments.command, folder)
        hidden = [(start, tuple(line.replace(f"{folder}/", "") for line in lines)) for start, lines in frames]
    drawn = svg(arguments.command, thinned(hidden))
    arguments.svg.write_text(drawn)
    print(f"{arguments.svg}: {len(frames)} pictures seen, {len(drawn) / 1000:.0f} KB, exit code {code}")


if __name__ == "__main__":
    main()
