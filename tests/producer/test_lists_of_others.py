"""A list of pages in OUT that others may have written: what pictures are opened by it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer import no_links
from producer.growing.new_pages import append_pages
from producer.held_folder import hold
from producer.job import output_folder
from producer.job.manifest import write_manifest
from producer.job.output_folder import JobRequest, OutputFolder, write_json
from producer.local.job import run_local_job
from producer.no_links import OthersFolderError
from producer.output.report import write_report
from producer.picture_list import check_list, picture_list
from producer.sources.found_page import FoundPage
from tests.producer.records import ok, write_results
from tests.producer.two_users import Shared, shared_folder

SAID = "others can write to"
Opened = tuple[tuple[Path, ...] | None, bool]


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    with shared_folder(monkeypatch) as scene:
        yield scene


def opened(out: Path) -> Opened:
    """Where pictures are opened, and whether addresses are asked for."""
    with hold(out) as place, picture_list(place.path) as (_, roots, may_fetch):
        return roots, may_fetch


@pytest.mark.parametrize("writes", [write_manifest, lambda pages, path: append_pages(path, pages)])
def test_nobody_else_writes_into_a_new_list(tmp_path: Path, writes: object) -> None:
    """With the umask 002 it was its group's; one that pages are put behind stays as it is."""
    assert callable(writes)
    path = tmp_path / "manifest.jsonl"
    before = os.umask(0o002)
    try:
        writes([FoundPage("a.png", "file:///in/a.png", 0)], path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    append_pages(path, [FoundPage("b.png", "file:///in/b.png", 0)])
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("bound", [True, False])
def test_a_list_that_is_open_to_others(tmp_path: Path, bound: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Before: `ls | run -` in a group's folder, and any file of the user's was in his report."""
    (tmp_path / "in").mkdir()
    out = OutputFolder(tmp_path / "out")
    out.save_request(JobRequest(job="j", sources=[str(tmp_path / "in") if bound else "-"]))
    write_json(out.job_json, {"job": "j"})
    write_manifest([FoundPage("a", "https://127.0.0.1:9/a", 0)], out.manifest)
    write_results(out.root, [ok(0, "a")])
    roots = (tmp_path / "in",) if bound else ()
    out.root.chmod(0o2775)
    assert opened(out.root) == (roots, True)
    out.manifest.chmod(0o664)
    out.root.chmod(0o700)  # the umask 002, where nobody can reach it
    assert opened(out.root) == (roots, True) and SAID not in caplog.text
    out.root.chmod(0o2775)
    assert opened(out.root) == (roots or None, False)
    assert bound or (f"{SAID} {out.manifest}" in caplog.text and "chmod go-w" in caplog.text)
    if bound:
        check_list(out, out.request())
    else:
        with pytest.raises(OthersFolderError, match=rf"{SAID} {out.manifest}.*chmod go-w"):
            run_local_job(out, out.request(), quiet=True)
    shown = write_report(out.root).read_text()
    assert "<img" not in shown and ("is not asked for: others can write" if bound else "no request of yours") in shown
    out.manifest.chmod(0o644)  # he has looked at it
    assert opened(out.root) == (roots, True)
    check_list(out, out.request())


def test_a_disk_that_knows_no_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All has 777 there, and nothing changes."""
    out = OutputFolder(tmp_path / "out")
    out.save_request(JobRequest(job="j", sources=["-"]))
    write_manifest([FoundPage("a", "file:///in/a", 0)], out.manifest)
    monkeypatch.setattr(output_folder, "keep_from_others", lambda folder: False)
    monkeypatch.setattr(no_links, "_knows_modes", lambda folder: False)
    for path in (out.root, out.private, out.manifest):
        path.chmod(0o777)
    assert opened(out.root) == ((), True)
    check_list(out, out.request())


@pytest.mark.parametrize("replaced", [True, False])
def test_a_list_that_another_wrote(shared: Shared, replaced: bool, caplog: pytest.LogCaptureFixture) -> None:
    manifest = shared.out / "manifest.jsonl"

    def first() -> None:
        shared.begin()
        folder = OutputFolder(shared.out)
        folder.save_request(JobRequest(job="j", sources=["-"]))
        write_manifest([FoundPage("a.jpg", "file:///in/a.jpg", 0)], manifest)
        assert opened(shared.out) == ((), True)
        shared.now()
        with caplog.at_level(logging.WARNING):
            assert opened(shared.out) == ((None, False) if replaced else ((), True))
        assert (SAID in caplog.text) == replaced
        assert (b"home/album" in manifest.read_bytes()) == replaced

    def other() -> None:
        if replaced:
            manifest.unlink()
            manifest.write_text('{"index":0,"image":"a.jpg","uri":"file:///home/album/a.jpg","page":0}\n')
        else:
            with pytest.raises(PermissionError):
                manifest.open("ab")

    shared.deed = other
    shared.play(first)
