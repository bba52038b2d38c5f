"""Each Redis command that our code sends is one that the user of its role in deploy/redis/users.acl may send."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from redis.commands.core import CoreCommands

from producer import watch_folder
from producer.cli.main import COMMANDS
from producer.cli.main import main as ocr_producer
from tests.pictures import write_images
from tests.producer.records import failed, ok
from tests.redis_users import ROLES, USERS, ServerWithUsers, server_with_users
from worker.app import app
from worker.ledger import Ledger
from worker.ledger.ledger import ANY_EPOCH
from worker.messages import encode

ROOT = Path(__file__).parents[2]
CALLED = re.compile(r"(\w*)\.([a-z_]+)\(")
IN_LUA = re.compile(r"redis\.p?call\(\s*['\"](\w+)['\"](?:,\s*['\"]([A-Z]+)['\"])?")
IN_WORDS = re.compile(r"execute_command\(\"([A-Z]+)\", \"([A-Z]+)\"")
METHODS = {name for name in dir(CoreCommands) if not name.startswith("_") and name != "execute_command"}
OTHERS_TOO = {*dir(dict), *dir(list), *dir(set), *dir(str), *dir(Path), "info", "save", "select", "time", "wait"} | {
    *("command", "digest", "echo", "reset", "shutdown")
}
"""Such methods are Redis' where they are a connection's."""
CONNECTIONS = re.compile(r"(client|pipe|pipeline|redis)$")
NOT_FOR = {
    "lrem": {"hub"},  # a message goes back, or to another place: workers; a job is cancelled: producers
    "scan": {"worker", "producer"},  # `ocr-worker cleanup`, and doctor
    "acl|dryrun": {"worker", "producer"},
    "xread": {"worker", "hub"},  # who collects
    "xdel": {"worker", "hub"},
    "xrevrange": {"producer"},  # `ocr-worker deadletters`
    "eval": {"worker", "producer", "hub"},  # a question to who may be no Redis: that it is refused is an answer, too
}
"""Commands that some roles do not send, and may not."""


def sent_by(code: str) -> Iterator[str]:
    """The commands in a module, named as in an ACL."""
    for owner, name in CALLED.findall(code):
        if name in METHODS and (name not in OTHERS_TOO or CONNECTIONS.search(owner)):
            yield {"delete": "del", "register_script": "evalsha"}.get(name, name.replace("_", "|"))
    for pattern in (IN_LUA, IN_WORDS):
        for name, word in pattern.findall(code):
            yield f"{name}|{word}".lower() if name in ("MEMORY", "ACL") else name.lower()


def test_each_command_in_our_code_is_one_of_the_users() -> None:
    """Before: a watched folder asked STRLEN, which no user may, and no test ran that under them."""
    where: dict[str, list[str]] = {}
    for package in ("worker", "producer"):
        for file in (ROOT / package).rglob("*.py"):
            for name in set(sent_by(file.read_text())):
                where.setdefault(name, []).append(str(file.relative_to(ROOT)))
    rules = {line.split()[1]: set(re.findall(r" \+(\S+)", line)) for line in USERS.read_text().splitlines()}
    refused = {name: lacking for name in where if (lacking := {role for role in ROLES if name not in rules[role]})}
    assert refused == NOT_FOR, {name: where[name] for name in refused.keys() - NOT_FOR.keys()}
    assert len(where) > 35, "this test looks at nothing"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerWithUsers]:
    """A server with the users, and our commands as the producer's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with server_with_users(tmp_path) as server:
        monkeypatch.setenv("OCRFLEET_REDIS_URL", server.url("producer"))
        app._after_fork()  # the app of this process is connected to the server of another test; to ours, afterwards
        yield server
        app._after_fork()


def tell(*words: object) -> tuple[int, str]:
    """Exit code and lines of an `ocr-producer` in this process."""
    done = CliRunner().invoke(ocr_producer, [str(word) for word in words])
    return done.exit_code, done.output


def work(ledger: Ledger, job: str) -> None:
    """As a worker would: one page fails, the others are ok."""
    for index in ledger.in_flight(job):
        assert ledger.begin(job, index, redelivered=True, epoch=ANY_EPOCH).verdict == "run"
        record = replace(failed(index) if index == 1 else ok(index), job=job)
        assert ledger.finish(job, index, ok=index != 1, record=encode(record), epoch=ANY_EPOCH)


@pytest.mark.slow
def test_each_command_of_a_producer_on_a_job_that_is_done(
    hub: ServerWithUsers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: `enqueue` again, `resume` and `watch-folder` ended with exit 3; the folder's new files were never fed."""
    worker = Ledger(hub.client("worker"), ttl_s=3600)
    write_images(tmp_path / "in", 2)

    def look(_: float) -> None:
        if not looks:
            raise KeyboardInterrupt
        looks.pop()

    monkeypatch.setattr(watch_folder, "time", SimpleNamespace(monotonic=time.monotonic, sleep=look))
    monkeypatch.setattr(watch_folder, "KEEP_ALIVE_S", 0)
    watch = ("watch-folder", tmp_path / "in", "--job", "inbox", "--settle", 0)
    enqueue = ("enqueue", tmp_path / "in", "--job", "night", "--quiet")
    for pages in (2, 3):
        looks = [1, 1]
        assert tell(*watch)[0] == 130
        assert (status := worker.status("inbox")) is not None and status.total == pages
        work(worker, "inbox")
        looks = [1, 1]
        assert tell(*watch)[0] == 130, "nothing is new"
        write_images(tmp_path / "in", pages + 1)
    called = {"watch-folder"}
    for words in (
        *(enqueue, enqueue, ("resume", "night"), ("retry", "night"), ("cancel", "night"), ("resume", "night")),
        *((*enqueue, "--update", "--transfer", "redis"), ("status", "night"), ("jobs",), ("watch", "night", "--quiet")),
        *(("collect", "night", "-o", tmp_path / "out"), ("resume", "night", "--adopt", tmp_path / "out")),
        ("forget", "night", "--yes"),
    ):
        code, said = tell(*words)
        assert code in (0, 1) and "permission" not in said, (words, code, said)
        called.add(str(words[0]))
        work(worker, "night") if words[0] != "forget" else None
    assert called == COMMANDS.keys() - {"run", "serve", "export", "report"}, "those ask no broker of a fleet"
    assert hub.client("admin").acl_log() == []
