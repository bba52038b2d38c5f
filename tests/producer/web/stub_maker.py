"""A program as `Making` starts them, which makes nothing and takes for ever.

It is told a file, and writes there what it has started beside it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from producer.web.bounds.makings import end_with_the_page

if __name__ == "__main__":
    file, _, kind = end_with_the_page().decode().strip().partition(" ")
    tempfile.mkdtemp()
    child = subprocess.Popen(["sleep", "600"])
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(f"{file}.part").write_text(f"{os.getpid()} {child.pid}")
    Path(f"{file}.part").rename(file)
    if kind == "quick":
        print("made", flush=True)
    try:
        time.sleep(600)
    finally:
        child.kill()
        child.wait()
    sys.exit(0)
