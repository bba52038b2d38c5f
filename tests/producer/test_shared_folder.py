"""OUT in a folder of a group, as project folders are (root:staff 2775): one of it renames what others are writing into.

Two users, neither of them root: what one does while the other writes is told at the very moment, so nothing is a race.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.atomic import atomic_write
from producer import new_folder
from producer.detector_process.draw import Drawn, OverlayProcess
from producer.job.collector_lock import FileLock
from producer.job.output_folder import JobRequest, OutputFolder, write_json
from producer.local import server as server_module
from producer.local.server import EmbeddedServer, server_binary
from producer.no_links import OthersFolderError
from producer.output import formats, overlays, report
from producer.output.formats import export_results
from producer.output.overlays import write_overlays
from producer.output.report import write_report
from tests.producer.records import ok
from tests.producer.two_users import AWAY, Shared, shared_folder
from worker.messages import ImageRecord


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    with shared_folder(monkeypatch) as scene:

        def draw(process: OverlayProcess, uri: str, page: int, boxes: object, out: Path, *, max_side: int) -> Drawn:
            scene.now()
            with atomic_write(out) as part:
                part.write_text("drawn")
            return Drawn(True, ok(0).width, ok(0).height)

        monkeypatch.setattr(OverlayProcess, "draw", draw)
        for user in (overlays, report):
            monkeypatch.setattr(user, "can_draw", lambda: True)
        monkeypatch.setattr(OverlayProcess, "__init__", lambda *_, **__: None)
        monkeypatch.setattr(OverlayProcess, "__exit__", lambda *_: None)
        yield scene


@pytest.mark.parametrize("swapped", ["overlays", "overlays/sub", "page-images", "."])
def test_pictures_go_over_no_originals(shared: Shared, swapped: str) -> None:
    """Before: 8 of 9 of the user's own pictures were overwritten, whose names their overlays have."""

    def first() -> None:
        shared.begin()
        for folder in ("overlays", "overlays/sub", "page-images"):
            (shared.out / folder).mkdir()
            (shared.out / folder).chmod(0o2775)
        if swapped == "page-images":
            export_results(shared.out, "coco", page_images=True)
        elif swapped == "overlays/sub":  # not opened yet when it becomes a link
            with pytest.raises(OSError, match="overlays/sub"):
                write_overlays(shared.out)
        else:
            assert write_overlays(shared.out).written == 3

    shared.swap(swapped, "overlays")
    shared.play(first)
    drawn = sorted(path.name for path in shared.project.rglob("*.jpg") if path.read_text() == "drawn")
    assert drawn == {"page-images": ["doc_p0001.jpg"], "overlays/sub": ["a.jpg"]}.get(
        swapped, ["a.jpg", "b.jpg", "doc.pdf_p0001.jpg"]
    )


@pytest.mark.parametrize("swapped", [".export-icdar.*.part", "."])
def test_an_export_goes_where_it_began(shared: Shared, swapped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: what was still to come went through the link, over a.txt of another folder."""
    render = formats.icdar_text

    def rendered(record: ImageRecord) -> str:
        shared.now()
        return render(record)

    def first() -> None:
        shared.begin()
        if swapped == ".":
            export_results(shared.out, "icdar")
        else:
            with pytest.raises(FileNotFoundError, match="was removed while it was filled"):
                export_results(shared.out, "icdar")

    monkeypatch.setattr(formats, "icdar_text", rendered)
    shared.swap(swapped, "export-icdar")
    shared.play(first)
    assert len([*shared.project.rglob("names.csv")]) == (swapped == ".")


def test_nobody_writes_into_an_unfinished_export(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: with the umask of such projects, 002, a link to be written through could be put into it."""

    def other() -> None:
        (part,) = shared.out.glob(".export-icdar.*.part")
        with pytest.raises(PermissionError):
            (part / "sub").symlink_to(shared.album)

    def first() -> None:
        shared.begin()
        export_results(shared.out, "icdar")
        for made in ("export-icdar", "export-icdar/sub"):  # when it is done, the group may have it
            assert stat.S_IMODE((shared.out / made).stat().st_mode) == 0o2775

    monkeypatch.setattr(formats, "icdar_text", lambda record: shared.now() or "")
    shared.deed = other
    shared.play(first)


def test_a_folder_that_got_an_exports_name_is_not_removed(shared: Shared) -> None:
    """Who may rename it cannot empty it; we could: before, it was removed with all that was in it."""

    def first() -> None:
        shared.begin()
        for file in ("thesis/one.tex", "notes/two.tex"):
            (shared.out / file).parent.mkdir(mode=0o755)
            (shared.out / file).write_text("x")
        export_results(shared.out, "icdar")
        export_results(shared.out, "icdar")  # of our own it is replaced
        shutil.rmtree(shared.out / "export-icdar")
        shared.now()
        with pytest.raises(FileExistsError, match="no folder of ours"):
            export_results(shared.out, "icdar")
        assert (shared.out / "export-icdar/one.tex").read_text() == "x"
        assert (shared.out / ".export-icdar.1-0.part/two.tex").read_text() == "x", "nor as an unfinished one"

    def other() -> None:
        (shared.out / "thesis").rename(shared.out / "export-icdar")
        (shared.out / "notes").rename(shared.out / ".export-icdar.1-0.part")

    shared.deed = other
    shared.play(first)


@pytest.mark.parametrize("where", ["export-icdar", "export-icdar/sub", "."])
@pytest.mark.parametrize("closed", [0o755, 0o3775, 0o2765])
def test_what_others_cannot_empty_goes_with_no_export(shared: Shared, where: str, closed: int) -> None:
    """Before: a folder of the user's that the group may write into, moved into an export, went with all below it.

    0765: he may move it, and remove nothing in it.
    """
    deep = Path("thesis/chapters/one.tex")

    def first() -> None:
        shared.begin()
        export_results(shared.out, "icdar")
        export_results(shared.out, "icdar")  # with the umask 002 it is replaced
        (shared.out / deep).parent.mkdir(parents=True)
        (shared.out / deep).write_text("x")
        (shared.out / deep).parent.chmod(closed)
        shared.now()
        there = shared.out / ("export-icdar" if where == "." else f"{where}/thesis")
        modes = {path: path.stat().st_mode for path in (shared.out, *shared.out.rglob("*"))}
        with pytest.raises(FileExistsError, match="closed to others") as refused:
            export_results(shared.out, "icdar")
        assert refused.value.filename.endswith("/chapters")
        assert (there / "chapters/one.tex").read_text() == "x"
        assert {path: path.stat().st_mode for path in (shared.out, *shared.out.rglob("*"))} == modes

    def other() -> None:
        if where == ".":
            shutil.rmtree(shared.out / "export-icdar")
            (shared.out / "thesis").rename(shared.out / "export-icdar")
            (shared.out / "export-icdar/names.csv").touch()
        else:
            (shared.out / "thesis").rename(shared.out / where / "thesis")

    shared.deed = other
    shared.play(first)


@pytest.mark.parametrize("mode", [0o3775, 0o1777, 0o2765])
def test_a_folder_that_who_moved_it_cannot_empty_becomes_no_export(shared: Shared, mode: int) -> None:
    """Before: a drop box (sticky), or what `chmod -R g+rw` makes of 0700, was removed with what others laid, or had."""

    def first() -> None:
        shared.begin()
        thesis = shared.out / "thesis"
        thesis.mkdir()
        (thesis / "one.tex").write_text("x")
        (thesis / "names.csv").touch()  # an export of before, say
        thesis.chmod(mode)
        shared.now()
        with pytest.raises(FileExistsError, match="closed to others"):
            export_results(shared.out, "icdar")
        assert (shared.out / "export-icdar/one.tex").read_text() == "x"
        assert stat.S_IMODE((shared.out / "export-icdar").stat().st_mode) == mode

    def other() -> None:
        with pytest.raises(PermissionError):
            (shared.out / "thesis/one.tex").unlink()
        (shared.out / "thesis").rename(shared.out / "export-icdar")

    shared.deed = other
    shared.play(first)


@pytest.mark.parametrize("fails", ["is exchanged", "by itself"])
def test_an_export_that_fails_removes_what_it_made_alone(
    shared: Shared, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: what had its unfinished name by then, a folder of the user's with all in it, was removed by that name."""

    def rendered(record: ImageRecord) -> str:
        shared.now()
        if fails == "by itself":
            raise OSError("a full disk")
        return "a text"

    def first() -> None:
        shared.begin()
        (shared.out / "notes").mkdir(mode=0o755)
        (shared.out / "notes/two.tex").write_text("a year of work")
        with pytest.raises(OSError, match="was removed" if fails == "is exchanged" else "full disk"):
            export_results(shared.out, "icdar")
        (notes,) = shared.out.glob(".export-icdar.*.part")
        assert [path.read_text() for path in notes.iterdir()] == ["a year of work"]
        assert list((shared.out / AWAY).iterdir()) == [], "of ours nothing is left"

    def other() -> None:
        (part,) = shared.out.glob(".export-icdar.*.part")
        part.rename(shared.out / AWAY)
        (shared.out / "notes").rename(part)

    monkeypatch.setattr(formats, "icdar_text", rendered)
    shared.deed = other
    shared.play(first)


@pytest.mark.parametrize("whose", ["the other's", "root's"])
def test_an_export_fills_no_folder_that_was_laid_in_its_place(
    shared: Shared, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: between the making and the opening, another's; he then laid links to a ~/.bashrc at the names to come."""
    opened = new_folder.os.open

    def open_later(path: str | Path, flags: int, *rest: int, **more: int) -> int:
        if ".part" in str(path):
            shared.now()
        return opened(path, flags, *rest, **more)

    def first() -> None:
        shared.begin()
        (shared.out / "page-images").mkdir()
        monkeypatch.setattr(new_folder.os, "open", open_later)
        with pytest.raises(FileExistsError, match="is another user's folder"):
            export_results(shared.out, "yolo-obb")
        monkeypatch.undo()
        assert not list(shared.out.glob("export*"))

    def other() -> None:
        (part,) = shared.out.glob(".export-yolo*.part")
        part.rename(shared.out / AWAY)
        if whose == "root's":
            (shared.project / "empty").rename(part)
        else:
            part.mkdir()
            part.chmod(0o2777)

    if whose == "root's":  # that the group may write into: a shared project has such
        (shared.project / "empty").mkdir()
        (shared.project / "empty").chmod(0o2777)
    shared.deed = other
    shared.play(first)


def test_the_job_goes_on_in_the_folder_that_it_began_in(shared: Shared) -> None:
    """Results, report, lock and what is private of them: none goes to who puts another folder in the place of OUT."""

    def first() -> None:
        shared.begin(0o700)
        folder = OutputFolder(shared.out)
        # Errors call it by its name, as people know it.
        with pytest.raises(OSError, match=r"project/out/\.ocrfleet/none"), folder.locked():
            shared.now()
            write_json(folder.job_json, {"job": "j"})
            folder.save_request(JobRequest(job="j2", sources=["/in"]))
            FileLock(folder.results).take()
            assert write_overlays(folder.place).written == 3
            write_report(folder.place)
            (folder.private / "none").read_bytes()
        assert folder.results == shared.out / "results.jsonl"

    shared.swap(".", "overlays")
    shared.play(first)
    assert sorted(path.name for path in shared.out.iterdir()) == ["overlays"]
    left = {path.name for path in (shared.project / AWAY).iterdir()}
    assert left == {".ocrfleet", "job.json", "manifest.jsonl", "overlays", "report.html", "results.jsonl"}
    assert b"j2" in (shared.project / AWAY / ".ocrfleet/request.json").read_bytes()


def test_a_private_server_logs_into_its_own_folder(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: Valkey, which opens its log by name for each line, appended seven lines to ~/.bashrc at its end."""
    program = shared.project.parent / "server"
    shutil.copy(server_binary(), program)
    program.chmod(0o755)
    monkeypatch.setattr(server_module, "server_binary", lambda: program)
    bashrc = shared.project.parent / "home/.bashrc"

    def first() -> None:
        bashrc.write_text("mine")
        shared.begin()
        folder = OutputFolder(shared.out)
        with folder.locked():
            server = EmbeddedServer(folder.server_data)
            server.start()
            try:
                shared.now()
            finally:
                server.stop()
        with pytest.raises(OthersFolderError, match="another user's"):
            OutputFolder(shared.out).request()

    def other() -> None:
        (shared.out / ".ocrfleet").rename(shared.out / AWAY)
        (shared.out / ".ocrfleet/server").mkdir(parents=True)
        (shared.out / ".ocrfleet/server/server.log").symlink_to(bashrc)

    shared.deed = other
    shared.play(first)
    assert bashrc.read_text() == "mine"
    assert "SIGTERM" in (shared.out / AWAY / "server/server.log").read_text()


def test_a_request_that_another_put_there_is_not_obeyed(shared: Shared) -> None:
    """In a private folder that was group-writable, as `chmod -R g+w` makes it; it is no more."""

    def first() -> None:
        shared.begin()
        private = shared.out / ".ocrfleet"
        private.chmod(0o2775)
        shared.now()
        with pytest.raises(OthersFolderError, match=r"request\.json is another user's"):
            OutputFolder(shared.out).request()
        assert stat.S_IMODE(private.stat().st_mode) & 0o022 == 0

    def other() -> None:
        (shared.out / ".ocrfleet/request.json").unlink()
        (shared.out / ".ocrfleet/request.json").write_text('{"job": "j", "sources": ["/etc"]}')

    shared.deed = other
    shared.play(first)
