"""A 256 MB worker and a 512 MB all-in-one machine, limits set by the kernel: giants pass, nobody is killed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.cgroup import MemoryCgroup, NoCgroup
from tests.bench.confined import Outcome, run_all_in_one, run_worker
from tests.bench.giants import PROGRESSIVE, write_giants_apart
from tests.pictures import write_images
from tests.tools import missing

pytestmark = pytest.mark.chaos

PAGES = 24
PDF_PAGES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pages, giants first and last: what they leave behind must not hurt the others, nor the other way round."""
    try:
        with MemoryCgroup(64):
            pass
    except NoCgroup as error:
        missing(str(error))
    folder = tmp_path_factory.mktemp("small") / "in"
    giants = write_giants_apart(folder, [], PDF_PAGES)
    (folder / "panorama-a.jpg").rename(folder / "z-panorama-a.jpg")
    (folder / "giant-80mp.png").rename(folder / "z-giant-80mp.png")
    write_images(folder, PAGES - giants, width=1280, height=960)
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("run", "limit_mb"), [(run_worker, 256), (run_all_in_one, 512)])
def test_giants_on_a_small_machine(
    folder: Path, tmp_path: Path, run: Callable[[Path, int, Path], Outcome], limit_mb: int
) -> None:
    outcome = run(folder, limit_mb, tmp_path)
    print(outcome.usage, outcome.log[-4000:])  # pytest shows it when the test failed
    assert outcome.usage.oom_kills == 0
    assert outcome.lost_children == 0
    assert outcome.retried == []
    assert len(outcome.records) == PAGES
    assert {record["peak_rss_mb"] > 0 for record in outcome.records} == {True}
    refused = {record["image"]: record["error"]["type"] for record in outcome.records if record["error"]}
    assert refused == {PROGRESSIVE: "TooLarge"}, "everything else must be opened in that memory"
    assert "profile low" in outcome.log or limit_mb > 256, "the worker chooses it from the cgroup's limit"


def test_an_oom_kill_costs_the_page_not_the_worker(folder: Path, tmp_path: Path) -> None:
    """Somebody promised memory that is not there: the kernel kills, and the record says so."""
    few = tmp_path / "in"
    few.mkdir()
    for path in (folder / PROGRESSIVE, *sorted(folder.glob("image-*"))[:3]):
        (few / path.name).hardlink_to(path)
    more = {"OCRFLEET_MEMORY_LIMIT_MB": "2000", "OCRFLEET_MAX_ATTEMPTS": "2", "OCRFLEET_TASK_TIMEOUT_S": "10"}
    outcome = run_worker(few, 256, tmp_path, **more)
    print(outcome.usage, outcome.log[-4000:])
    refused = {record["image"]: record["error"]["type"] for record in outcome.records if record["error"]}
    # Where the libraries' pages are the cgroup's own (after a boot), the kernel may reclaim and read them for minutes
    # instead of killing (28 million reclaims in 146 s), and the time limit comes first.
    assert refused in ({PROGRESSIVE: "OutOfMemory"}, {PROGRESSIVE: "TimedOut"})
    assert len(outcome.ok) == 3
    assert outcome.usage.oom_kills <= outcome.lost_children == 2
    assert outcome.log.count("ready.") == 1, "the child must die, not the main process"


def test_the_kernel_really_kills_at_this_limit() -> None:
    """The limit above is real: a program that takes more dies of it."""
    try:
        with MemoryCgroup(64) as cgroup:
            greedy = [sys.executable, "-c", "x = bytearray(200 << 20); print(len(x))"]
            ended = cgroup.run(greedy, {})
    except NoCgroup as error:
        missing(str(error))
    assert (ended.returncode, ended.oom_kills, ended.output) == (-9, 1, "")
