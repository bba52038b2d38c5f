"""Stranded pages are found and sent again; everything that is alive is left alone."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from worker.app import app_for
from worker.broker import queue
from worker.ledger import Ledger, reconcile
from worker.messages import ImageTask
from worker.process_identity import identity
from worker.redis_keys import JobKeys
from worker.settings import Settings

JOB = "job"


@pytest.fixture
def pages(ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[ImageTask]:
    """Three pages that the ledger believes to be queued, and nothing on the queue."""
    app_for(settings)
    monkeypatch.setattr(reconcile, "GRACE_S", 0)
    monkeypatch.setattr(reconcile, "GAP_S", 0.01)
    tasks = [ImageTask(job=JOB, index=index, image=f"{index}.jpg", uri=f"file:///{index}") for index in range(3)]
    ledger.create(JOB, 3, {})
    ledger.feed(tasks)
    time.sleep(0.01)
    return tasks


def test_messages_that_never_arrived(ledger: Ledger, settings: Settings, pages: list[ImageTask]) -> None:
    app = app_for(settings)
    queue.send(app, pages[1])
    assert reconcile.stranded(ledger, JOB) == [0, 2]
    assert reconcile.reconcile(app, ledger, JOB) == 2
    assert queue.queued_ids(ledger.client) == {"job:0", "job:1", "job:2"}
    assert reconcile.reconcile(app, ledger, JOB) == 0, "what waits in the queue is not stranded"


def test_a_fresh_page_has_its_grace(ledger: Ledger, pages: list[ImageTask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "GRACE_S", 10)
    assert reconcile.stranded(ledger, JOB) == []


def test_held_messages(ledger: Ledger, settings: Settings, pages: list[ImageTask]) -> None:
    """A worker took two messages: one just now, one long ago without ever beginning."""
    for tag, index, since in (("new", 0, time.time()), ("old", 1, time.time() - 1000)):
        raw = json.dumps([{"headers": {"id": f"{JOB}:{index}"}}, "", queue.IMAGE_QUEUE])
        ledger.client.hset(queue.UNACKED, tag, raw)
        ledger.client.zadd(queue.UNACKED_INDEX, {tag: since})
    assert reconcile.stranded(ledger, JOB) == [1, 2]


def test_a_lapsed_lease(
    ledger: Ledger, settings: Settings, pages: list[ImageTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_for(settings)
    for page in pages:
        ledger.begin(JOB, page.index, redelivered=False)
    assert reconcile.stranded(ledger, JOB) == []
    ledger.client.zadd(JobKeys.of(JOB).leases, {"2": 1})
    assert reconcile.reconcile(app, ledger, JOB) == 1
    assert queue.queued_ids(ledger.client) == {"job:2"}
    ledger.lease_s = 30
    assert ledger.begin(JOB, 2, redelivered=False).attempts == 2


def test_one_pass_for_the_whole_fleet(ledger: Ledger, settings: Settings, pages: list[ImageTask]) -> None:
    app = app_for(settings)
    assert reconcile.reconcile_all_once(app, ledger) == 3
    assert reconcile.reconcile_all_once(app, ledger) is None


def test_a_cancelled_job_leaves_the_queue(ledger: Ledger, settings: Settings, pages: list[ImageTask]) -> None:
    app = app_for(settings)
    for page in [*pages, ImageTask(job="other", index=0, image="a", uri="file:///a")]:
        queue.send(app, page)
    assert queue.depth(ledger.client) == (4, 0)
    assert queue.drop_job(ledger.client, JOB) == 3
    assert queue.queued_ids(ledger.client) == {"other:0"}


def dead_process() -> str:
    """One of this machine that is gone."""
    gone = subprocess.Popen(["sleep", "60"])
    name = identity(gone.pid)
    gone.kill()
    gone.wait()
    return name


def hold(ledger: Ledger, tag: str, index: int, holder: str) -> None:
    """As a worker's main process notes a message that it took (celery_ext/channel.py)."""
    message = queue.held_by({"headers": {"id": f"{JOB}:{index}"}}, holder)
    ledger.client.hset(queue.UNACKED, tag, json.dumps([message, "", queue.IMAGE_QUEUE]))
    ledger.client.zadd(queue.UNACKED_INDEX, {tag: time.time()})


def test_what_was_taken_and_not_begun_is_given_back_at_once(
    ledger: Ledger, settings: Settings, pages: list[ImageTask]
) -> None:
    """Nobody has a lease on it: before, whoever looked waited for 30 s, the time that a worker may take to begin."""
    app = app_for(settings)
    hold(ledger, "dead", 0, dead_process())
    hold(ledger, "mine", 1, identity())
    hold(ledger, "elsewhere", 2, "another-boot:1:1:1")
    assert reconcile.hand_back(app, ledger, {"mine"}) == 1
    assert queue.queued_ids(ledger.client) == {"job:0"}
    assert {message.tag for message in queue.in_hand(ledger.client)} == {"mine", "elsewhere"}, "or it would come twice"
    # Its connection is lost, and the child did not begin: Celery forgets what it had taken.
    assert reconcile.hand_back(app, ledger, set()) == 1
    assert queue.queued_ids(ledger.client) == {"job:0", "job:1"}
    assert reconcile.hand_back(app, ledger, set()) == 0


def test_a_page_that_its_child_did_begin_stays_its_own(
    ledger: Ledger, settings: Settings, pages: list[ImageTask]
) -> None:
    """Celery forgot the message with the connection; the child runs the page all the same, and will renew its lease
    now that a broker is back that was away for longer."""
    ledger.holder = identity()
    ledger.begin(JOB, 0, redelivered=False)
    ledger.expire_leases(JOB)
    hold(ledger, "forgotten", 0, identity())
    assert reconcile.hand_back(app_for(settings), ledger, set()) == 0
    assert queue.queued_ids(ledger.client) == set()


def test_a_dead_main_process_holds_a_running_page_once(
    ledger: Ledger, settings: Settings, pages: list[ImageTask]
) -> None:
    """It is found by its message and by its holder, and sent again once."""
    ledger.holder = dead_process()
    ledger.begin(JOB, 0, redelivered=False)
    hold(ledger, "dead", 0, ledger.holder)
    assert reconcile.hand_back(app_for(settings), ledger) == 1
    assert ledger.client.llen(queue.IMAGE_QUEUE) == 1


def test_a_dead_main_process_of_this_machine_gives_its_page_back_at_once(
    ledger: Ledger, settings: Settings, pages: list[ImageTask]
) -> None:
    """Three pages run: of a process that is gone, of one that lives, of another machine. Before, all waited 30 s."""
    app = app_for(settings)
    gone = subprocess.Popen(["sleep", "60"])
    dead = identity(gone.pid)
    for index, holder in enumerate((dead, identity(), "another-boot:1:1:1")):
        ledger.holder = holder
        assert ledger.begin(JOB, index, redelivered=False).verdict == "run"
    assert reconcile.hand_back(app, ledger) == 0
    gone.kill()
    gone.wait()
    assert reconcile.hand_back(app, ledger) == 1
    assert queue.queued_ids(ledger.client) == {"job:0"}
    assert reconcile.hand_back(app, ledger) == 0, "given back once"
    assert ledger.reclaim(JOB, 1, dead=dead) is None, "its holder is another one"
    ledger.holder = "next"
    assert ledger.begin(JOB, 0, redelivered=False) == ("run", 2, ())
    assert ledger.finish(JOB, 0, ok=True, record=b"{}")
    assert set(ledger.holders(JOB)) == {1, 2}
