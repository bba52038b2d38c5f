"""``python -P -m worker.celery_main ARGUMENTS``: ``celery -A worker.app ARGUMENTS``, whatever the current folder holds.

Python's ``-m`` puts the current folder first on the path, and Celery does so again while it imports the app and its
tasks: a folder of somebody's images with a ``worker.py`` or a ``numpy.py`` in it would be run as code. ``-P`` ends the
first, this module the second.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext

from celery.utils import imports


def main() -> None:
    """Run Celery's own command line on our app."""
    # Celery has no setting for it; its import_from_cwd looks this name up at each call.
    imports.cwd_in_path = nullcontext
    from celery.__main__ import main as celery

    sys.argv[1:1] = ["-A", "worker.app"]
    celery()


if __name__ == "__main__":
    main()
