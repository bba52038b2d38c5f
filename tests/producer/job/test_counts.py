"""The counts of a job that the broker has forgotten, from its results."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from producer.job import results_file
from producer.job.results_file import counts_of
from tests.producer.records import failed, ok, write_results
from worker.messages import encode


@pytest.mark.slow
def test_counts_take_no_memory_and_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a list of all states, 80 MB for ten million pages, and the whole file at each look."""
    results = write_results(tmp_path, [ok(0), failed(1), failed(2)], tail=b"no record\n")
    with results.open("ab") as file:
        file.writelines(encode(ok(index)) + b"\n" for index in range(2, 20_002))  # of 2 it is the second
    tracemalloc.start()
    assert counts_of(results) == {"total": 20_002, "ok": 20_001, "failed": 1}
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results_file, "read_lines", None)
        assert counts_of(results)["total"] == 20_002
    with results.open("ab") as file:
        file.write(encode(failed(20_002)) + b"\n")
    assert counts_of(results) == {"total": 20_003, "ok": 20_001, "failed": 2}
    assert counts_of(tmp_path / "none") == {"total": 0}
    assert results_file._counts.cache_info().maxsize == 256
