"""An output folder that another user made: nothing is read from it as ours, and nothing is written there."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detector import cache
from producer import held_folder, no_links
from producer.fleet_request import remove_kept
from producer.job.collector_lock import FileLock
from producer.job.manifest import write_manifest
from producer.job.output_folder import JobRequest, OutputFolder, state_folder, write_json
from producer.job.results_file import rewrite
from producer.job.results_owner import ResultsOwner, claim
from producer.local.server import EmbeddedServer
from producer.local.server_stamp import forget_server
from producer.no_links import OthersFolderError, check_own, owner_of_new
from producer.output.collected_manifest import bring_manifest
from producer.output.formats import export_results
from producer.output.overlays import write_overlays
from producer.output.report import write_report
from producer.sources.found_page import FoundPage
from producer.whole_append import whole_append
from tests.producer.records import encode, ok, write_results
from tests.producer.two_users import acl_or_skip
from tests.tools import missing

ATTACKER = 12345


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """OUT of another user; where tests are no root's, we are who has become another."""
    out = tmp_path / "out"
    OutputFolder(out).save_request(JobRequest(job="job", sources=["/etc"], model="/tmp/his.onnx"))
    write_results(out, [ok(0)])
    if os.geteuid() == 0:
        for path in (out, out / ".ocrfleet"):
            os.chown(path, ATTACKER, ATTACKER)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: ATTACKER)
    return out


STEPS: dict[str, Callable[[Path], object]] = {
    "resume": lambda out: OutputFolder(out).request(),
    "run": lambda out: OutputFolder(out).locked().__enter__(),
    "save": lambda out: OutputFolder(out).save_request(JobRequest(job="x", sources=[])),
    "passed over": lambda out: OutputFolder(out).save_passed_over({}),
    "forget": lambda out: forget_server(OutputFolder(out)),
    "collect": lambda out: FileLock(out / "results.jsonl").take(),
    "claim": lambda out: claim(out / "results.jsonl", ResultsOwner("job", 1)),
    "report": write_report,
    "export": lambda out: export_results(out, "csv"),
}


@pytest.fixture(params=["everybody", "a group", "an ACL", "sticky"])
def open_to_others(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """OUT of this user, into which others may write."""
    out = tmp_path / "out"
    OutputFolder(out).save_request(JobRequest(job="job", sources=["/etc"]))
    write_results(out, [ok(0)])
    if request.param == "an ACL":
        acl_or_skip(out)
    elif request.param == "a group":
        if os.geteuid() != 0:
            missing("needs root, to have a group of others")
        os.chown(out, -1, ATTACKER)
    out.chmod({"everybody": 0o777, "sticky": 0o1777}.get(request.param, 0o2775))
    return out


@pytest.mark.parametrize("step", STEPS)
def test_a_folder_that_others_can_write_into_is_refused(
    open_to_others: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: by the list, by names and in between they had pictures read, and folders removed, as this user."""
    before = sorted(open_to_others.rglob("*"))
    with pytest.raises(
        OthersFolderError, match=r"others can write into .*/out, .*chmod -R go-w.*OCRFLEET_SHARED_OUT=1"
    ):
        STEPS[step](open_to_others)
    assert sorted(open_to_others.rglob("*")) == before
    monkeypatch.setenv(held_folder.SHARED_OUT, "1")
    STEPS[step](open_to_others)


def test_what_others_put_beside_a_kept_list_stays(open_to_others: Path) -> None:
    """Also where they can do so no more: of what a command of ours makes there nothing is a folder."""
    albums = [open_to_others / "album/2026", open_to_others / ".ocrfleet/album"]
    for album in albums:
        album.mkdir(parents=True)
    before = sorted(open_to_others.rglob("*"))
    assert remove_kept(open_to_others) == f"{open_to_others} is left, as others can write there"
    assert sorted(open_to_others.rglob("*")) == before
    open_to_others.chmod(0o755)
    assert remove_kept(open_to_others) == f"{open_to_others} is left (Directory not empty)"
    assert all(path.is_dir() for path in open_to_others.rglob("*")) and all(album.is_dir() for album in albums)
    for folder in (*albums, albums[0].parent):
        folder.rmdir()
    (open_to_others / "thesis.tex").write_text("mine")
    assert remove_kept(open_to_others) == f"{open_to_others} is left (Directory not empty)"
    (open_to_others / "thesis.tex").unlink()
    link = open_to_others.with_name("link")
    link.symlink_to(open_to_others)
    assert remove_kept(link) == remove_kept(link) == "" and not os.path.lexists(link), "to a larger disk"
    assert remove_kept(open_to_others) == remove_kept(open_to_others) == "" and not open_to_others.exists()


@pytest.mark.parametrize("owner", [ATTACKER, 0], ids=["another's link", "our own, or a folder of ours by that name"])
def test_forget_removes_nothing_that_no_command_of_ours_made(tmp_path: Path, owner: int) -> None:
    """Before: who may write above the state's folder had a user's originals removed, in folders called as a job."""
    if os.geteuid() != 0:
        missing("needs root, to make links of others")
    album, base = tmp_path / "scans/archive", tmp_path / "ocrfleet"
    album.mkdir(parents=True)
    kept = [album / name for name in ("letter.jpg", "manifest.jsonl")]
    for path in kept:
        path.write_bytes(b"")
    base.symlink_to(album.parent)
    os.chown(base, owner, owner, follow_symlinks=False)
    assert remove_kept(base / "archive").startswith(f"{base / 'archive'} is left")
    assert all(path.is_file() for path in kept)


def test_forget_leaves_what_others_may_have_put_in_the_kept_folders_place(open_to_others: Path) -> None:
    """Before: an OUT of `run` by the job's name, in a folder that others had renamed, or linked, to the state's."""
    kept = open_to_others / "ocrfleet" / "job"
    OutputFolder(kept).save_request(JobRequest(job="job", sources=["/in"]))
    write_results(kept, [ok(0)])
    if open_to_others.stat().st_mode & stat.S_ISVTX:
        assert remove_kept(kept) == "", "what is ours stays where it is in a sticky folder"
        return
    assert remove_kept(kept) == f"{kept} is left, as others can write into {open_to_others}"
    assert (kept / "results.jsonl").is_file()


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o2755, 0o775], ids=oct)
def test_a_folder_that_others_can_read_or_of_ones_own_group_is_taken(tmp_path: Path, mode: int) -> None:
    """775 is what `mkdir` makes under the umask 002, in the group of the user alone."""
    out = tmp_path / "out"
    out.mkdir()
    if mode & 0o020 and cache.others_write(out, os.stat_result((0o40775, *os.lstat(out)[1:]))):
        missing("a group of one's own")
    out.chmod(mode)
    OutputFolder(out).save_request(JobRequest(job="job", sources=["/etc"]))
    write_results(out, [ok(0)])
    for step in STEPS.values():
        step(out)


def test_files_in_it_are_nobody_elses_to_write(tmp_path: Path) -> None:
    """Before: under the umask 002 all but the list were the group's, who wrote results; `resume` went on with them."""
    out = OutputFolder(tmp_path / "out")
    umask = os.umask(0)
    try:
        out.save_request(JobRequest(job="job", sources=[str(tmp_path)]))
        for number in range(2):  # made, and made anew
            with open(out.results, "ab", opener=no_links.no_links_ours) as stream:
                stream.write(encode(ok(number)) + b"\n")
            rewrite(out.results, lambda number, line: True)
        assert bring_manifest(None, out.results, out.manifest, 2) is False
        assert bring_manifest(out.manifest, out.results, out.root / "list.jsonl", 2)
        write_json(out.root / "job.json", {})
        write_report(out.root)
        with whole_append(out.manifest):
            files = {path: path.stat().st_mode & 0o777 for path in out.root.rglob("*") if path.is_file()}
    finally:
        os.umask(umask)
    assert {path.name for path in files} >= {"results.jsonl", "manifest.jsonl", "job.json", "report.html"}
    assert {oct(mode) for path, mode in files.items() if path.parent == out.root} == {"0o644"}


@pytest.mark.parametrize("shared", ["", "1"])
def test_folders_in_it_are_nobody_elses_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: str) -> None:
    """Before: 2775 under the umask 002; what others moved there of the user's own, the next export removed."""
    out = OutputFolder(tmp_path / "out")
    out.save_request(JobRequest(job="job", sources=[str(tmp_path)]))
    out.root.chmod(0o2755)
    write_results(out.root, [ok(0, "a/b/c.jpg")])
    Image.new("RGB", (99, 99)).save(tmp_path / "c.jpg")
    write_manifest([FoundPage("a/b/c.jpg", (tmp_path / "c.jpg").as_uri(), 0)], out.manifest)
    monkeypatch.setenv(held_folder.SHARED_OUT, shared)
    umask = os.umask(0o002)
    try:
        for name in ("icdar", "crops"):
            export_results(out.root, name, tell=pytest.fail)
        write_overlays(out.root)
    finally:
        os.umask(umask)
    folders = [path for path in out.root.rglob("*") if path.is_dir() and ".ocrfleet" not in path.parts]
    made = {path: stat.S_IMODE(path.stat().st_mode) for path in folders}
    assert {file.name for file in made} >= {"export-icdar", "a", "b", "images", "overlays"}
    assert set(made.values()) == {0o2775 if shared else 0o2755}


def test_a_disk_without_modes_has_none_to_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There all that is made for this user alone shows 777 (vfat, and shares mounted so)."""
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    make = tempfile.TemporaryFile

    def modeless(**where: Any) -> Any:
        made = make(**where)
        os.fchmod(made.fileno(), 0o666)
        return made

    monkeypatch.setattr(tempfile, "TemporaryFile", modeless)
    OutputFolder(out).save_request(JobRequest(job="job", sources=["/etc"]))
    assert [path.name for path in out.iterdir()] == [".ocrfleet"]


@pytest.mark.parametrize("step", STEPS)
def test_another_users_folder_is_refused(others: Path, step: str) -> None:
    """Before: records went through his link into ~/.bashrc; a page called $(cmd).png then ran cmd."""
    with pytest.raises(OthersFolderError, match="another user's folder: name one of your own"):
        STEPS[step](others)


def test_a_share_that_gives_new_files_to_its_owner_is_fine(others: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS with root_squash or all_squash, CIFS with uid=: what we make there is not ours by number."""
    assert owner_of_new(others) == {(others / "results.jsonl").stat().st_uid}, "here it is"
    assert sorted(path.name for path in others.iterdir()) == [".ocrfleet", "results.jsonl"], "nothing is left"
    monkeypatch.setattr(no_links, "owner_of_new", lambda folder: {ATTACKER})
    monkeypatch.setattr(os, "geteuid", lambda: 999)
    assert OutputFolder(others).request().job == "job"


def test_it_may_be_read(others: Path, tmp_path: Path) -> None:
    assert export_results(others, "csv", tmp_path / "mine.csv").is_file()
    assert OutputFolder(others).source_roots() == ()


@pytest.mark.parametrize("step", ["run", "save", "passed over", "forget", "collect", "claim", "resume"])
def test_a_private_folder_that_is_a_link_is_refused(tmp_path: Path, step: str) -> None:
    """Before: the folder beside it was taken for a server's data, and removed with all that was in it."""
    out, mine = tmp_path / "out", tmp_path / "mine"
    (mine / "server").mkdir(parents=True)
    (mine / "server/thesis.tex").touch()
    (mine / "request.json").write_text('{"job": "job", "sources": []}')
    out.mkdir()
    (out / ".ocrfleet").symlink_to(mine)
    with pytest.raises(OthersFolderError, match="is a link, or no folder"):
        STEPS[step](out)
    assert sorted(path.name for path in mine.rglob("*")) == ["request.json", "server", "thesis.tex"]


def test_a_link_of_ones_own_is_fine(tmp_path: Path) -> None:
    (tmp_path / "large-disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large-disk")
    with OutputFolder(tmp_path / "out").locked():
        assert (tmp_path / "large-disk/.ocrfleet/lock").is_file()
    check_own(tmp_path / "none", may_be_link=True)
    check_own(Path("/usr"))  # root's
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling/.ocrfleet").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OthersFolderError):
        OutputFolder(tmp_path / "dangling").make()


def test_where_jobs_are_kept_is_nobody_elses(open_to_others: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: `enqueue` removed the results of an OUT of `run` that had been put in the kept folder's place."""
    monkeypatch.setenv("XDG_STATE_HOME", str(open_to_others))
    if open_to_others.stat().st_mode & stat.S_ISVTX:
        assert state_folder("job").root == open_to_others / "ocrfleet" / "job"
        return
    with pytest.raises(OthersFolderError, match=r"chmod go-w.*XDG_STATE_HOME.*OCRFLEET_SHARED_OUT=1"):
        state_folder("job")
    monkeypatch.setenv(held_folder.SHARED_OUT, "1")
    assert state_folder("job").root == open_to_others / "ocrfleet" / "job"


def test_a_private_server_starts_in_nobody_elses_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: after a stop its name was known, and whoever made it again could put a server of his own there."""
    server = EmbeddedServer(tmp_path / "data")
    server.stop()
    server.socket.parent.mkdir()
    try:
        if os.geteuid() == 0:
            os.chown(server.socket.parent, ATTACKER, ATTACKER)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: ATTACKER)
        with pytest.raises(OthersFolderError):
            server.start()
    finally:
        server.stop()
