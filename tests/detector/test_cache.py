"""Who else could put something in the place of a folder: asked before what lies in the cache is believed."""

from __future__ import annotations

import grp
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from detector.cache import cache_folder, others_above, others_reach
from producer.errors import ProducerError
from producer.user_secret import state_base
from producer.web.settings import WebSettingsError, read_web_settings
from tests.producer.two_users import acl_or_skip
from tests.tools import missing

ATTACKER = 12345


@pytest.mark.parametrize(
    ("mode", "owner", "says"),
    [(0o755, 0, False), (0o1777, 0, False), (0o777, 0, True), (0o2775, 0, True), (0o755, ATTACKER, True)],
)
def test_who_may_put_another_in_its_place(tmp_path: Path, mode: int, owner: int, says: bool) -> None:
    """The web service says so: its workers open uploads by their names."""
    if os.geteuid() != 0:
        missing("needs root, to make folders of others")
    above = tmp_path / "project"
    (above / "web").mkdir(parents=True)
    os.chown(above, owner, 4242)
    above.chmod(mode)
    assert others_above(above / "web/jobs") == (above if says else None)
    (tmp_path / "link").symlink_to(above / "web")  # before: only above the link itself was looked
    assert others_above(tmp_path / "link") == (above if says else None)


@pytest.mark.parametrize(
    ("above", "folder", "socket", "reached"),
    [
        (0o700, 0o755, 0o777, False),
        (0o755, 0o700, 0o777, False),
        (0o755, 0o755, 0o700, False),
        (0o755, 0o755, 0o777, True),
        (0o755, 0o711, 0o755, False),  # who may not write to it cannot connect
        (0o711, 0o711, 0o702, True),
        (0o777, 0o700, 0o700, True),  # theirs may be put in its place
    ],
)
def test_who_may_reach_a_socket(above: int, folder: int, socket: int, reached: bool) -> None:
    # Folders of tests are below one that is closed to all.
    with tempfile.TemporaryDirectory() as made:
        place = Path(made, "inner", "s")
        place.parent.mkdir()
        place.touch()
        for path, mode in ((place, socket), (place.parent, folder), (Path(made), above)):
            path.chmod(mode)
        assert others_reach(place) is reached
        assert others_reach(place.parent / "none"), "it is made when somebody wants to"


@pytest.mark.parametrize("made_by", [0, ATTACKER])
def test_links_on_the_way_are_looked_at_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_by: int
) -> None:
    """Before, only the name's own folders and those of the last target: who could replace a link between was missed."""
    if os.geteuid() != 0:
        missing("needs root, to make links of others")
    team, scratch = tmp_path / "team", tmp_path / "scratch"
    team.mkdir()
    scratch.mkdir()
    (team / "mine").symlink_to(scratch)
    (tmp_path / "cache").symlink_to("team/../team/mine")
    assert others_above(tmp_path / "cache" / "models") is None
    os.chown(team / "mine", made_by, made_by, follow_symlinks=False)
    if made_by == 0:
        team.chmod(0o2775)
        os.chown(team, 0, ATTACKER)
    assert others_above(tmp_path / "cache" / "models") == (team if made_by == 0 else team / "mine")
    if made_by == ATTACKER:
        monkeypatch.setenv("SUDO_UID", str(ATTACKER))
        assert others_above(tmp_path / "cache" / "models") is None, "who called sudo for it is no other"
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    assert others_above(circle / "models") is not None, "not believed"


@pytest.mark.parametrize("who", ["nobody", "by ACL", "primary group", "listed", "root's"])
def test_a_group_of_ones_own_is_no_reason_to_warn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    """Before: nor was an ACL, whose mask its bits are, nor who has it as his primary one: /etc/group lists him not."""
    above = tmp_path / "project"
    above.mkdir()
    own = [pwd.struct_passwd((name, "x", uid, above.stat().st_gid, "", "/", "")) for name, uid in (("a", 1), ("b", 2))]
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: own[0])
    monkeypatch.setattr(pwd, "getpwall", lambda: own if who == "primary group" else own[:1])
    members = ["b"] if who == "listed" else []
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("a", "x", gid, members)))
    if who == "root's":
        if above.stat().st_gid != 0:
            missing("needs root, to have a group of root's")
        own[:] = [pwd.struct_passwd((*user[:3], 4242, *user[4:])) for user in own]
    above.chmod(0o775)
    if who == "by ACL":
        acl_or_skip(above)
    assert others_above(above / "web") == (None if who == "nobody" else above)


def test_without_a_home_nothing_lies_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: `serve` obeyed a folder named `~` of a stranger's archive, and a relative XDG_STATE_HOME was there."""
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/ocrfleet"
    assert state_base() == tmp_path / ".local/state/ocrfleet"
    assert read_web_settings(os.environ).folder == tmp_path / ".local/state/ocrfleet-web"
    monkeypatch.setenv("HOME", "~")
    assert cache_folder() == Path("/nonexistent/ocrfleet")
    with pytest.raises(ProducerError, match="no home folder"):
        state_base()
    with pytest.raises(WebSettingsError, match=r"no home folder to keep jobs in: set HOME.*OCRFLEET_WEB_FOLDER"):
        read_web_settings(os.environ)
    assert read_web_settings({**os.environ, "OCRFLEET_WEB_FOLDER": "here"}).folder == Path("here").absolute()
