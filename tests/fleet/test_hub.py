"""deploy/hub.sh: with the lines it prints a worker and a producer find each other over TLS."""

from __future__ import annotations

import grp
import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.pictures import write_images
from tests.ports import free_port
from tests.processes import WorkerProcess, command, wait_until
from tests.tools import tool

DEPLOY = Path(__file__).parents[2] / "deploy"


COMPOSE = ": docker compose --env-file {at}/compose.env -f docker-compose.yml -f {at}/compose.yaml restart redis"
RESTART = "Redis goes by the old ones until you restart it"


def hub(folder: Path, port: int, *names: str, says: str = "") -> str:
    told = subprocess.run(
        [DEPLOY / "hub.sh", "--dir", folder, "--port", str(port), *names], capture_output=True, text=True
    )
    assert told.returncode == 0 and says in told.stderr and told.stderr.count("\n") == bool(says), told.stderr
    return told.stdout


def line_after(printed: str, heading: str) -> str:
    lines = printed.splitlines()
    [place] = [number for number, line in enumerate(lines) if line.startswith(heading)]
    return lines[place + 1].strip()


def run_with_a_sudo_that_tells(line: str, tmp_path: Path, **environment: str) -> str:
    """Run a printed line. Returns sudo's arguments, which all users of a machine can read, and which are in its log."""
    programs, told = tmp_path / "programs", tmp_path / "sudo.arguments"
    programs.mkdir(exist_ok=True)
    (programs / "sudo").write_text(f'#!/bin/sh\necho "$@" >{told}\nshift\nexec "$@"\n')
    (programs / "sudo").chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(
        ["bash", "-c", line],
        cwd=DEPLOY.parent, check=True, capture_output=True, env={**os.environ, **path, **environment},
    )  # fmt: skip
    return told.read_text()


@pytest.mark.parametrize("arguments", [(), ("--compose",)])
def test_passwords_are_told_nobody(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Before: in users.acl, for the host's first user to read, whose group is 1000; in sudo's arguments; in sed's."""
    folder = tmp_path / "hub"
    traced = subprocess.run(
        ["bash", "-x", DEPLOY / "hub.sh", "--dir", folder, *arguments, "hub.example.org"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    acl = (folder / "users.acl").read_text()
    for user in ("worker", "producer", "hub"):
        password = (folder / f"{user}.password").read_text().strip()
        assert f"user {user} on #{hashlib.sha256(password.encode()).hexdigest()} " in acl
        assert password not in acl and password not in (folder / "redis.conf").read_text()
        ran = [line for line in traced.stderr.splitlines() if password in line]  # a builtin has no arguments to read
        assert not [line for line in ran if re.match(r"\++ (?!echo|printf|cat)", line) and "=" not in line.split()[1]]
    if arguments:
        [user_of] = re.findall(r'^    user: "999:(\d+)"$', (folder / "compose.yaml").read_text(), re.MULTILINE)
        with pytest.raises(KeyError):
            grp.getgrgid(int(user_of))
        if os.geteuid() == 0:
            status = (folder / "users.acl").stat()
            assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, int(user_of), 0o640)
    told = traced.stdout.splitlines()
    lines = [line for line in told if line.strip().startswith(("OCRFLEET_CA=", "sudo"))]
    assert len(lines) == (1 if arguments else 2)
    for line in lines:
        seen = run_with_a_sudo_that_tells(line, tmp_path, DESTDIR=str(tmp_path / "machine"))
        assert "rediss://" not in seen


def test_the_printed_lines_join_up(environment: dict[str, str], tmp_path: Path) -> None:
    binary, port, folder = tool("redis-server", "apt-get install redis-server"), free_port(), tmp_path / "hub"
    printed = hub(folder, port, "127.0.0.1", "localhost")
    assert hub(folder, port, "127.0.0.1", "localhost") == printed, "a second run changes nothing"
    assert {file.stat().st_mode & 0o007 for file in folder.iterdir()} == {0}, "nobody else may read the keys"

    machine = tmp_path / "machine"
    seen = run_with_a_sudo_that_tells(line_after(printed, "Worker"), tmp_path, DESTDIR=str(machine))
    assert seen.split() == ["--preserve-env=OCRFLEET_CA,OCRFLEET_REDIS_URL", "deploy/install.sh"]
    settings = (machine / "etc/ocrfleet/env").read_text()
    [url] = re.findall(r"^OCRFLEET_REDIS_URL=(.*)$", settings, re.MULTILINE)
    assert url.startswith("rediss://worker:") and url.endswith("?ssl_ca_certs=/etc/ocrfleet/ca.pem")
    ours = url.replace("/etc/ocrfleet", f"{machine}/etc/ocrfleet")

    home = tmp_path / "home"
    home.mkdir()
    script = f'{line_after(printed, "Producer")} && printf %s "$OCRFLEET_REDIS_URL"'
    told = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "HOME": str(home)}, check=True, capture_output=True, text=True
    )
    producer = environment | {"OCRFLEET_REDIS_URL": told.stdout}
    write_images(tmp_path / "in", 2)
    with (tmp_path / "redis.log").open("wb") as log:
        server = subprocess.Popen([binary, folder / "redis.conf", "--bind", "127.0.0.1"], stdout=log, stderr=log)
    worker = None
    try:
        wait_until(lambda: command(producer, "ocr-producer", "jobs").returncode == 0, seconds=30, what="redis-server")
        worker = WorkerProcess(
            environment | {"OCRFLEET_REDIS_URL": ours, "OCRFLEET_ROOTS": "/nonexistent"}, tmp_path / "worker.log"
        )
        enqueue = ("ocr-producer", "enqueue", tmp_path / "in", "--job", "far", "--transfer", "redis", "--watch", "-q")
        told_job = command(producer, *enqueue)
        assert told_job.returncode == 0 and "2 done, 0 failed" in told_job.stderr, told_job.stderr
        assert command(producer, "ocr-producer", "collect", "far", "-o", tmp_path / "out", "-q").returncode == 0
        assert (tmp_path / "out" / "report.html").exists()
        plain = producer | {"OCRFLEET_REDIS_URL": told.stdout.split("?", 1)[0]}
        assert command(plain, "ocr-producer", "jobs").returncode == 3, "without our CA there is no trust"
    finally:
        if worker:
            worker.stop()
        server.terminate()
        server.wait()


def test_another_name_gets_another_certificate_of_the_same_authority(tmp_path: Path) -> None:
    hub(tmp_path, 6380, "hub.example.org")
    before = {name: (tmp_path / name).read_bytes() for name in ("ca.pem", "server.pem", "worker.password")}
    hub(tmp_path, 6380, "hub.example.org", "2001:db8::7", says=RESTART)
    assert (tmp_path / "ca.pem").read_bytes() == before["ca.pem"]
    assert (tmp_path / "worker.password").read_bytes() == before["worker.password"]
    assert (tmp_path / "server.pem").read_bytes() != before["server.pem"]
    shown = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "server.pem", "-noout", "-ext", "subjectAltName"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "DNS:hub.example.org" in shown and "IP Address:2001:DB8:0:0:0:0:0:7" in shown


@pytest.mark.parametrize(("arguments", "how"), [((), ""), (("--compose",), COMPOSE)])
def test_a_certificate_that_ends_soon_is_made_anew(arguments: tuple[str, ...], how: str, tmp_path: Path) -> None:
    """Before: never. "Run this again after two years" did nothing, and after 825 days nobody trusted the hub. Then:
    made without a word, and Redis went on with the old one."""

    def openssl(*words: str) -> str:
        told = subprocess.run(["openssl", *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return told.stdout

    hub(tmp_path, 6380, *arguments, "hub.example.org")
    authority = (tmp_path / "ca.pem").read_bytes()
    openssl("req", "-new", "-key", "server.key", "-subj", "/CN=x", "-out", "csr")
    openssl("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "30", "-out", "server.pem")
    hub(tmp_path, 6380, *arguments, "hub.example.org", says=f"{RESTART}{how.format(at=tmp_path)}\n")
    openssl("x509", "-in", "server.pem", "-noout", "-checkend", str(800 * 86400))
    openssl("verify", "-CAfile", "ca.pem", "server.pem")
    assert openssl("x509", "-in", "server.pem", "-noout", "-pubkey") == openssl("pkey", "-in", "server.key", "-pubout")
    made = (tmp_path / "server.pem").read_bytes()
    hub(tmp_path, 6380, *arguments, "hub.example.org")
    assert ((tmp_path / "ca.pem").read_bytes(), (tmp_path / "server.pem").read_bytes()) == (authority, made)


PARTLY = """#!/bin/sh
if [ -f /dev/stdout ]; then
  echo >>{told}
  [ "$(wc -l <{told})" != $NUMBER ] || { {real} "$@" | head -c 20; kill -9 $PPID; exit; }
fi
exec {real} "$@"
"""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--compose",)])
def test_a_run_that_is_killed_leaves_all_files_as_they_were(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Before: in the middle of users.acl it left none of them, and everybody was let in, without a password."""
    at, programs = tmp_path / "hub", tmp_path / "programs"
    hub(at, 6380, *arguments, "hub.example.org")
    before = {path.name: path.read_bytes() for path in at.iterdir() if path.is_file()}
    programs.mkdir()
    for name in ("sed", "cat"):
        text = PARTLY.replace("{told}", str(tmp_path / "told")).replace("{real}", str(tool(name, "coreutils, sed")))
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    path, killed = f"{programs}:{os.environ['PATH']}", 0
    for number in range(1, 6):
        (tmp_path / "told").write_text("")
        done = subprocess.run(
            [DEPLOY / "hub.sh", "--dir", at, *arguments, "hub.example.org"],
            capture_output=True, env={**os.environ, "PATH": path, "NUMBER": str(number)},
        )  # fmt: skip
        killed += done.returncode != 0
        after = {path.name: path.read_bytes() for path in at.iterdir() if path.is_file() and path.suffix != ".part"}
        assert after == before, number
    assert killed == (4 if arguments else 2)


class _Loader(yaml.SafeLoader):
    """Compose's own tags: a list that takes the place of another one."""


_Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def test_compose_gets_tls_and_users(tmp_path: Path) -> None:
    folder, port = tmp_path / "hub", free_port()
    told = hub(folder, port, "--compose", "hub.example.org")
    assert f"--env-file {folder}/compose.env -f docker-compose.yml -f {folder}/compose.yaml up -d" in told
    assert "install.sh --role hub" not in told and "rediss://worker:" in line_after(told, "Worker")
    made = yaml.load((folder / "compose.yaml").read_text(), _Loader)
    ours = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]
    assert set(made["services"]) <= set(ours)
    needs = {name for name, one in ours.items() if "OCRFLEET_REDIS_URL" in one.get("environment", {})}
    users = {
        name: re.findall(r"rediss://(\w+):[0-9a-f]{48}@redis:", one["environment"]["OCRFLEET_REDIS_URL"])
        for name, one in made["services"].items()
        if name != "redis"
    }
    assert set(users) == needs, "every service that talks to Redis"
    assert users["worker"] == ["worker"] and users["web"] == users["producer"] == ["producer"]
    assert users["beat"] == users["flower"] == ["hub"]
    names = set(re.findall(r"^(\w+)=\S", (folder / "compose.env").read_text(), re.MULTILINE))
    wanted = set(re.findall(r"\$\{(\w+):\?", (DEPLOY.parent / "docker-compose.yml").read_text()))
    assert wanted <= names and "OCRFLEET_WEB_TOKEN" in names
    checked = tmp_path / "compose.yaml"
    checked.write_text((folder / "compose.yaml").read_text().replace("!override ", ""))
    checker = tool("check-jsonschema", "pip install check-jsonschema")
    subprocess.run([checker, "--builtin-schema", "vendor.compose-spec", checked], check=True, capture_output=True)

    # Its Redis, with its health check: the name `redis` is on the certificate, and the user may ping.
    configuration = (folder / "redis.conf").read_text()
    assert "\ndir /data\n" in configuration
    (tmp_path / "data").mkdir()
    (folder / "here.conf").write_text(configuration.replace("dir /data", f"dir {tmp_path}/data"))
    binary = tool("redis-server", "apt-get install redis-server")
    with (tmp_path / "redis.log").open("wb") as log:
        server = subprocess.Popen([binary, folder / "here.conf", "--bind", "127.0.0.1"], stdout=log, stderr=log)
    try:
        check = made["services"]["redis"]["healthcheck"]["test"][2:]
        environment = {**os.environ, **made["services"]["redis"]["environment"]}
        cli = tool("redis-cli", "apt-get install redis-server")

        def is_well() -> bool:
            told = subprocess.run([cli, "--sni", "redis", *check], env=environment, capture_output=True, text=True)
            return told.stdout == "PONG\n"

        wait_until(is_well, seconds=20, what="the health check")
    finally:
        server.terminate()
        server.wait()
    shown = subprocess.run(
        ["openssl", "x509", "-in", folder / "server.pem", "-noout", "-ext", "subjectAltName"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "DNS:redis" in shown


@pytest.mark.parametrize(
    "arguments", [(), ("--port", "x", "hub"), ("--nonsense",), ("--systemd", "--compose", "hub.example.org")]
)
def test_mistakes(arguments: tuple[str, ...], tmp_path: Path) -> None:
    told = subprocess.run([DEPLOY / "hub.sh", "--dir", tmp_path, *arguments], capture_output=True, text=True)
    assert told.returncode == 2 and list(tmp_path.iterdir()) == []
