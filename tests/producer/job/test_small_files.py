"""What lies in a job's folder may be anything where somebody handed it over: it costs a line, no memory and no time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from producer.no_links import MOST_SMALL_BYTES, read_small
from producer.output.report import write_report
from tests.producer.records import ok, write_results


@pytest.mark.parametrize("kind", ["FIFO", "sparse"])
def test_a_report_of_what_somebody_handed_over(tmp_path: Path, kind: str) -> None:
    """Before: of 6 GB of zeros all were read, and of a FIFO nothing, for ever."""
    write_results(tmp_path, [ok(0)])
    if kind == "FIFO":
        os.mkfifo(tmp_path / "job.json")
    else:
        (tmp_path / "job.json").touch()
        os.truncate(tmp_path / "job.json", 6 * 2**30)
    began = time.monotonic()
    write_report(tmp_path)
    assert (tmp_path / "report.html").exists() and time.monotonic() - began < 10
    with pytest.raises(OSError, match=r"not a regular file|larger"):
        read_small(tmp_path / "job.json")


def test_what_just_fits(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(MOST_SMALL_BYTES))
    assert len(read_small(tmp_path / "a")) == MOST_SMALL_BYTES
