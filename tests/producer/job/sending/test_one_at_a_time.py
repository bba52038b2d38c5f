"""Two processes feed one job: the page that a worker gets is of the form that its message says."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from producer.job.feed import Feeder
from producer.job.manifest import ManifestLine
from producer.job.output_folder import JobRequest, state_folder
from producer.job.sending.one_at_a_time import sending_turn, uploader_of
from producer.job.upload import Uploader
from producer.sources.scan import file_uri
from tests.fleet.parcels import packed
from tests.producer.records import pdf
from worker.app import app_for
from worker.ledger import Ledger
from worker.redis_keys import blob_key
from worker.settings import Settings

JOB = "two"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def uploader(ledger: Ledger, stack: ExitStack) -> Uploader:
    folder = state_folder(JOB)
    folder.private.mkdir(parents=True, exist_ok=True)
    one = stack.enter_context(uploader_of(ledger, folder, JobRequest(job=JOB, sources=[], transfer="redis"), ""))
    assert one is not None
    return one


@pytest.mark.slow
def test_what_another_has_sent_meanwhile_keeps_its_bytes(state: None, ledger: Ledger, tmp_path: Path) -> None:
    """Before: a whole PDF lay under the message of its page 2 alone, and page 0's boxes were the record."""
    (tmp_path / "a.pdf").write_bytes(pdf(3))
    line = ManifestLine(0, "a.pdf", file_uri(tmp_path / "a.pdf"), 2)
    ledger.create(JOB, 1, {})
    with ExitStack() as stack:
        one, other = uploader(ledger, stack), uploader(ledger, stack)
        mine, late = packed(one, line), packed(other, line)._replace(data=b"another form", alone=False, page=2)
        assert len(one.send([mine])) == 1 and other.send([late]) == []
        assert ledger.client.get(blob_key(JOB, 0)) == mine.data


def test_who_does_not_send_waits(state: None, settings: Settings, ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 begins")
    ledger.create(JOB, 1, {})
    with ExitStack() as stack:
        one = uploader(ledger, stack)
        lines = [ManifestLine(0, "a.jpg", file_uri(tmp_path / "a.jpg"), 0)]
        feeder = Feeder(app_for(settings), ledger, JOB, lines, uploader=one)
        with sending_turn(state_folder(JOB)) as mine:
            assert mine and feeder.step() == 0
        assert feeder.step() == 1
