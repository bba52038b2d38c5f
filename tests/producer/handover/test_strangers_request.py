"""What somebody wrote into a job's request goes no further than its workers understand."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.handover.inherit import inherit
from producer.job.output_folder import JobRequest, OutputFolder
from tests.producer.handover.test_list_copy import JOB, KEYS, begin, status_of
from worker.ledger.ledger import Ledger
from worker.page_options import PageOptions


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ('"limit_side":-7', JobRequest(job=JOB, sources=[])),
        ('"limit_side":1000000000000000000000000000000', JobRequest(job=JOB, sources=[])),
        (
            '"limit_side":640,"urgent":true,"options":{"read":"r"},"profile":"zzz","workers":64,"model":"/etc/passwd",'
            '"output":"s3://x/y","overlays":true,"follow_links":true,"shrink":true,"zip_encoding":"zzz"',
            JobRequest(job=JOB, sources=[], limit_side=640, urgent=True, options=PageOptions(read="r")),
        ),
    ],
)
def test_what_is_asked_of_the_workers_is_taken_over_alone(
    tmp_path: Path, ledger: Ledger, asked: str, taken: JobRequest
) -> None:
    """Before: each page was refused by all workers, after three tries, also after `retry`."""
    begin(tmp_path / "first", ledger, 2)
    ledger.client.hset(KEYS.job, "request", f'{{"job":"../x","sources":["-"],{asked}}}')
    folder = OutputFolder(tmp_path / "second")
    assert inherit(ledger, status_of(ledger), folder) == 2
    assert folder.request() == taken
