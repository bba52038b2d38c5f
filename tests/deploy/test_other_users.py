"""What other users of a machine made first, or may write, is believed by nothing that installs there."""

from __future__ import annotations

import base64
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.test_files import COMPOSE, DEPLOY, ROOT
from tests.tools import missing

OTHER = 12345


def given(path: Path, group: int = OTHER) -> Path:
    """To another user, the link itself."""
    if os.geteuid() != 0:
        missing("needs root, to give a file to another user")
    os.lchown(path, OTHER, group)
    return path


def opened(path: Path, mode: int, group: int = -1) -> Path:
    if group >= 0:
        given(path, group)
        os.chown(path, 0, group)
    path.chmod(mode)
    return path


def file(path: Path) -> Path:
    path.write_text("known to him")
    return path


def folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True)
    return path


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def fill(mode: int) -> Callable[[Path], object]:
    return lambda at: (file(folder(at) / "ca.key"), opened(at, mode))


WAYS: dict[str, Callable[[Path], object]] = {
    "another's folder": lambda at: given(folder(at)),
    "for all to write": lambda at: opened(folder(at), 0o777),
    "for all to write, sticky": lambda at: opened(folder(at), 0o1777),
    "for a group to write": lambda at: opened(folder(at), 0o770, OTHER),
    "another's file": lambda at: given(file(folder(at) / "worker.password")),
    "another's link": lambda at: given(link(folder(at) / "producer.password", at.parent / "victim")),
    "a link that was moved there": lambda at: link(folder(at) / "names", at.parent / "victim"),
    "a file for all to write": lambda at: opened(file(folder(at) / "ca.key"), 0o606),
    "another's data": lambda at: given(folder(at / "data")),
    "a folder of another's above": lambda at: (folder(at), given(at.parent)),
    "a new one in it": lambda at: given(folder(at.parent)),
    "a folder for all to write above": lambda at: (folder(at), opened(at.parent, 0o777)),
    "a link of another's to one's own": lambda at: (
        opened(at.parent.parent, 0o1777),
        given(link(at.parent, folder(at.parent.parent / "ours"))),
    ),
    "a link to another's": lambda at: (given(folder(at.parent / "his")), link(at, at.parent / "his")),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_hub_is_made_in_no_folder_of_others(way: str, tmp_path: Path) -> None:
    """Before: his CA's key and his passwords were taken for the hub's own, and root wrote through his links."""
    at = tmp_path / "above" / "hub"
    if not way.endswith("in it") and "of another's to" not in way:
        at.parent.mkdir()
    WAYS[way](at)
    before = sorted(tmp_path.rglob("*"))
    told = subprocess.run([DEPLOY / "hub.sh", "--dir", at, "hub.example.org"], capture_output=True, text=True)
    assert told.returncode == 2 and told.stdout == "" and told.stderr.count("\n") == 1, told
    assert str(tmp_path) in told.stderr and "name a new folder" in told.stderr
    assert sorted(tmp_path.rglob("*")) == before


def asked(function: str, path: Path, **environment: str) -> str:
    script = f'set -euo pipefail; . "$1/own_folder.sh"; {function} "$2"'
    done = subprocess.run(
        ["bash", "-c", script, "-", DEPLOY, path],
        capture_output=True, text=True, check=True, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.strip()


def test_an_honest_folder_is_taken(tmp_path: Path) -> None:
    """In one like /tmp; below a link of one's own, or one in a circle; with Redis' data; of who calls sudo."""
    at = folder(opened(folder(tmp_path / "all"), 0o1777) / "hub" / "sub")
    for mode in (0o700, 0o750, 0o751, 0o755):
        opened(at, mode)
        assert asked("others_above", at) == asked("others_in", at) == ""
    for name, mode in (("ca.key", 0o600), ("users.acl", 0o640), ("ca.pem", 0o644)):
        opened(file(at / name), mode)
    own = link(tmp_path / "own", tmp_path / "all" / "hub")
    link(tmp_path / "circle", tmp_path / "circle")
    for path in (own / "sub", own / "new" / "er", own / ".." / "hub" / "sub", tmp_path / "circle"):
        assert asked("others_above", path) == ""
    given(file(folder(at / "data" / "appendonlydir") / "appendonly.aof.manifest"))
    assert asked("others_in", at) == ""
    given(tmp_path / "all" / "hub")
    assert asked("others_above", at) == str(tmp_path / "all" / "hub")
    assert asked("others_above", at, SUDO_UID=str(OTHER)) == ""


def installed(tmp_path: Path, umask: int) -> subprocess.CompletedProcess[str]:
    """install.sh's own part for the program, with a Python whose `venv` and `pip` write a file each."""
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\n[ "$1" != -m ] || case $2 in\n'
        f'venv) mkdir -p "$3/bin" && cp "{python}" "$3/bin/python";;\n'
        f'pip) for last; do :; done; [ ! -d "$last" ] || ls "$last" >{tmp_path}/given\n'
        'mkdir -p "${0%/bin/*}/lib" && echo code >"${0%/bin/*}/lib/code.py";;\nesac\n'
    )
    python.chmod(0o755)
    text = (DEPLOY / "install.sh").read_text().replace("prefix=/opt/ocrfleet", f"prefix={tmp_path}/opt/ocrfleet")
    beginning = text.replace("${BASH_SOURCE[0]}", str(DEPLOY / "install.sh")).partition("\n# restart, not start")[0]
    environment = {**os.environ, "PYTHON": str(python), "DESTDIR": str(tmp_path / "image")}
    return subprocess.run(
        ["bash", "-c", beginning + "\ninstall_program"], umask=umask, capture_output=True, text=True, env=environment
    )


def test_the_program_is_as_others_may_read_it_and_not_write(tmp_path: Path) -> None:
    """Before: by the caller's umask. Under 000 every user wrote it, under 077 the services could not read it."""
    program = tmp_path / "opt" / "ocrfleet"
    for umask in (0o000, 0o077, 0o002, 0o027):
        done = installed(tmp_path, umask)
        assert done.returncode == 0, done.stderr
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (program, *program.rglob("*"))}
        assert modes <= {0o755, 0o644}, f"{umask:o}"
        opened(program / "lib", 0o700)  # as a version before left it
    opened(program / "lib", 0o777)
    done = installed(tmp_path, 0o022)
    assert done.returncode == 2 and f"{program}/lib: others may" in done.stderr and done.stderr.count("\n") == 1


def test_of_the_checkout_only_our_packages_are_built(tmp_path: Path) -> None:
    """Before: in the checkout, as root: its setup.py was run, and what an update had removed stayed in build/lib."""
    assert installed(tmp_path, 0o022).returncode == 0
    ours = {"LICENSE", "README.md", "detector", "producer", "pyproject.toml", "worker"}
    assert set((tmp_path / "given").read_text().split()) == ours
    assert not (tmp_path / "opt/ocrfleet/source").exists()


@pytest.mark.parametrize("script", ["hub.sh", "install.sh", "pin_images.sh"])
def test_cdpath_leads_to_no_others_scripts(script: str, tmp_path: Path) -> None:
    """Before: `cd deploy` went there, and root ran what lay in it."""
    (folder(tmp_path / "deploy") / "own_folder.sh").write_text("echo others' code")
    environment = {**os.environ, "CDPATH": str(tmp_path)}
    words = ["deploy/" + script, "--check" if script.startswith("pin") else "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert str(tmp_path) not in done.stdout + done.stderr and "others' code" not in done.stdout + done.stderr


def test_what_is_redis_users_redis_user_runs() -> None:
    """Before: root, by the line that hub.sh printed: a link in `data` had any file of root's emptied."""
    if os.geteuid() != 0 or "redis" not in {user.pw_name for user in pwd.getpwall()}:
        missing("needs root, and apt-get install redis-server")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's are root's alone
        at, programs, told = Path(name) / "a hub", folder(Path(name) / "programs"), file(Path(name) / "told")
        for path, mode in ((at.parent, 0o755), (programs, 0o755), (told, 0o666)):
            path.chmod(mode)
        for program in ("redis-server", "redis-check-aof"):
            (programs / program).write_text(f"#!/bin/sh\necho {program} $(id -un) >>{told}\n")
            (programs / program).chmod(0o755)
        words = [DEPLOY / "hub.sh", "--dir", at, "hub.example.org"]
        printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert "may not enter" not in printed
        for name in ("server.key", "users.acl"):  # before: for all in the group redis, where others' programs may be
            status = (at / name).stat()
            assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (pwd.getpwnam("redis")[2], 0, 0o400)
        manifest = folder(at / "data/appendonlydir") / "appendonly.aof.manifest"
        manifest.write_text("file a seq 1 type i\n")
        for path in (manifest, manifest.parent):
            os.chown(path, *pwd.getpwnam("redis")[2:4])
        [line] = [line for line in printed.splitlines() if "redis.conf" in line]
        told.write_text("")
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        subprocess.run(["bash", "-c", line], check=True, env=environment, cwd="/")
        assert told.read_text() == "redis-check-aof redis\nredis-server redis\n"
        for name in ("server.key.part", "users.acl.part"):  # of a run that was killed; before: later ones were refused
            os.chown(file(at / name), pwd.getpwnam("redis")[2], 0)
        at.parent.chmod(0o700)  # before: a line without a word, which ended with "can't open"
        assert "may not enter" in subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("at", ["/root/hub", "hub"])
def test_no_unit_is_made_for_a_folder_that_it_does_not_see(at: str) -> None:
    """It has ProtectHome; before, it failed each two seconds."""
    if os.geteuid() != 0 or not shutil.which("redis-server"):
        missing("needs root, and apt-get install redis-server")
    words = [DEPLOY / "hub.sh", "--systemd", "--dir", at, "hub.example.org"]
    done = subprocess.run(words, cwd="/root", capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "no home folders" in done.stderr
    assert not Path("/root/hub").exists()


def test_a_line_that_was_cut_off_leaves_the_authority_that_is_there(tmp_path: Path) -> None:
    """Before: half a certificate took its place, and each service of the machine refused its hub."""
    certificate = (
        b"-----BEGIN CERTIFICATE-----\r\nMIIB\r\n-----END CERTIFICATE-----\r\n\r\n"  # a company's own, from Windows
    )
    whole = base64.b64encode(certificate).decode()
    for given, code in ((whole, 0), (whole[:41], 2), (whole[:40], 2), ("aGVsbG8K", 2)):
        environment = {**os.environ, "DESTDIR": str(tmp_path), "OCRFLEET_CA": given}
        done = subprocess.run([DEPLOY / "install.sh"], capture_output=True, text=True, env=environment)
        assert done.returncode == code and done.stderr.count("install.sh: OCRFLEET_CA is no certificate") == bool(code)
        assert (tmp_path / "etc/ocrfleet/ca.pem").read_bytes() == certificate
    assert {path.name for path in (tmp_path / "etc/ocrfleet").iterdir()} == {"ca.pem", "env"}


@pytest.mark.parametrize("place", ["", "etc/ocrfleet", "etc/ocrfleet/env"])
def test_no_image_is_written_through_what_is_anothers(place: str, tmp_path: Path) -> None:
    image = folder(tmp_path / "image" / "etc" / "ocrfleet").parents[1]
    given(link(image / place, tmp_path / "victim") if place.endswith("env") else image / place)
    environment = {**os.environ, "DESTDIR": str(image), "OCRFLEET_REDIS_URL": "rediss://a:secret@hub"}
    done = subprocess.run([DEPLOY / "install.sh"], capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "name another DESTDIR" in done.stderr and done.stderr.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_composes_settings_are_made_for_ones_eyes_alone(tmp_path: Path) -> None:
    """Before: `cp`, and under the umask 022 every user of the machine read all passwords."""
    for path in (COMPOSE, ROOT / ".env.example", DEPLOY / "README.md"):
        text = path.read_text()
        [line] = set(re.findall(r"(?:install|cp)\b[^`#\n]*\.env\.example \.env", text))
        made = line.replace(".env.example", str(ROOT / ".env.example")).removesuffix(" .env") + f" {tmp_path}/.env"
        subprocess.run(made.split(), check=True, umask=0)
        assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600, path.name
