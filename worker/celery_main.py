"""``python -P -m worker.celery_main ARGUMENTS``: ``celery -A worker.app ARGUMENTS``, whatever the current folder holds.

Python's ``-m`` puts the current folder first on the path, and Celery does so again while it imports the app and its
tasks: a folder of somebody's images with a ``worker.py`` or a ``numpy.py`` in it would be run as code. ``-P`` ends the
first, this module the second.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from importlib import import_module

from celery.utils import imports

from detector.cli.environment import leave_others_temporary_folder
from detector.cli.streams import set_up_streams
from detector.memory import collect_little_at_start
from worker.celery_ext.watched_events import check_events

# These start without `celery`'s own group of commands, which imports every other command first, with those that
# packages add (Flower and its web server) and a prompt.
ALONE = ("worker", "beat")


def main() -> None:
    """Run Celery's own command line on our app."""
    set_up_streams(output_may_fail=False)
    collect_little_at_start()
    leave_others_temporary_folder(os.environ)  # `ocr-worker` has said so
    # Celery has no setting for it; its import_from_cwd looks this name up at each call.
    imports.cwd_in_path = nullcontext
    name, *arguments = sys.argv[1:] or [""]
    sys.argv[1:1] = ["-A", "worker.app"]
    if name in ALONE:
        run_alone(name, arguments)
    check_events()
    from celery.__main__ import main as celery

    celery()


def run_alone(name: str, arguments: list[str]) -> None:
    """Run one of Celery's commands as its group does, then exit.

    Args:
        name: ``worker`` or ``beat``.
        arguments: its options.

    Raises:
        SystemExit: always, with Celery's exit code.
    """
    from celery.bin.base import CLIContext

    from worker.app import app

    command = getattr(import_module(f"celery.bin.{name}"), name)
    context = CLIContext(app=app, no_color=bool(os.environ.get("NO_COLOR")), workdir=None)
    command.main(arguments, f"celery {name}", obj=context, auto_envvar_prefix=f"CELERY_{name.upper()}")


if __name__ == "__main__":
    main()
