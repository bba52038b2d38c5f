"""``ocr-worker deadletters``."""

from __future__ import annotations

import os

import click

from detector.cli.say import say, tell, tell_json
from detector.errors import read_json
from detector.record import UNREADABLE
from worker.settings import read_settings


@click.command("deadletters")
@click.option("--count", default=20, show_default=True, type=click.IntRange(1, 1000), help="The latest this many.")
@click.option("--json", "as_json", is_flag=True, help="Whole records, one a line.")
def dead_letters(count: int, as_json: bool) -> None:
    """List images that took their process with them at every try, newest first.

    \b
    Example:
      ocr-worker deadletters --count 5
    """
    import msgspec

    from worker.broker import connect
    from worker.ledger.dead_letters import latest_dead_letters
    from worker.messages import ImageRecord

    for data in latest_dead_letters(connect(read_settings(os.environ)), count):
        try:
            record = msgspec.json.decode(data, type=ImageRecord)
            plain = read_json(data)  # fields of a version to come, too
        except (*UNREADABLE, ValueError) as error:  # a stranger's, or of a version to come
            say(f"an entry that is no record ({error})")
            continue
        reason = record.error.message if record.error else ""
        line = f"{record.job}  {record.image!a} page {record.page}  {reason}"
        if as_json:
            tell_json(plain)
        else:
            tell(line)
