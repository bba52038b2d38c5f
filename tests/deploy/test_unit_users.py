"""Who the systemd units run as, what they cannot see of each other, and who restarts them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.test_files import DEPLOY, UNITS, passes


def settings_of(unit: Path) -> dict[str, str]:
    """The last value of each."""
    return dict(line.split("=", 1) for line in unit.read_text().splitlines() if re.match("[A-Z][A-Za-z]+=", line))


def test_a_worker_is_not_the_pages_user() -> None:
    """Before: who broke out of a decoder read what visitors had sent, the page's token and the producer's password."""
    units = {unit.stem.rstrip("@").removeprefix("ocrfleet-"): settings_of(unit) for unit in UNITS}
    web, others = units.pop("web"), units.values()
    assert {one["User"] for one in others} == {"ocrfleet"} and web["User"] == "ocrfleet-web"
    assert web["StateDirectoryMode"] == "0700" and web["StateDirectory"] not in {
        one.get("StateDirectory") for one in others
    }
    assert "OCRFLEET_WEB_TRANSFER=redis" in (DEPLOY / "systemd" / "ocrfleet-web.service").read_text()
    hidden = {
        f"-/etc/ocrfleet/{name}" for name in ("env", "hub.env", "producer.env", "web.env")
    }  # before: not the first
    assert all(set(one["InaccessiblePaths"].split()) == hidden for one in (web, *others))
    knows_flowers = {name for name, one in units.items() if one.get("UnsetEnvironment") != "FLOWER_BASIC_AUTH"}
    assert knows_flowers == {"flower"} and web["UnsetEnvironment"] == "FLOWER_BASIC_AUTH"
    assert not re.search("chgrp|0640", (DEPLOY / "install.sh").read_text()), "the workers' settings are root's alone"


def test_a_hubs_password_is_no_workers() -> None:
    """Before: one file for all roles, and on the one machine of a hub and workers these had it in their environment."""
    knows = {unit.stem for unit in UNITS if "EnvironmentFile=-/etc/ocrfleet/hub.env\n" in unit.read_text()}
    assert knows == {"ocrfleet-beat", "ocrfleet-flower", "ocrfleet-exporter"}


def test_installing_makes_each_units_user() -> None:
    function = re.search(r"^make_user\(\) \{.*?^\}", (DEPLOY / "install.sh").read_text(), re.DOTALL | re.MULTILINE)
    assert function
    said = "getent() { false; }; groupadd() { :; }; useradd() { echo ${@: -1}; }"
    made = passes("bash", "-c", f"{said}\n{function[0]}\nmake_user").split()
    assert set(made) == {settings_of(unit)["User"] for unit in UNITS}


@pytest.mark.parametrize("role", ["worker", "hub"])
def test_an_update_restarts_what_runs_of_each_role(role: str, tmp_path: Path) -> None:
    """Before: of its own role alone, and the page, which strangers reach, of none."""
    (tmp_path / "env").write_text("OCRFLEET_REDIS_URL=rediss://hub\n")
    text = (DEPLOY / "install.sh").read_text().replace("/etc/ocrfleet/", f"{tmp_path}/")
    end = text[text.index("# restart, not start") :]
    stubs = ["say", "make_user", "install_program", "install_font", "write_files", "refuse_another_address"]
    stubs.append("hide_addresses")
    said = "systemctl() { echo $*; }\n" + "".join(f"{stub}() {{ :; }}\n" for stub in stubs)
    said += f"set -euo pipefail; root= role={role} workers=1 files_only=\n"
    told = passes("bash", "-c", said + end)
    lines = [line.split() for line in told.splitlines()]
    restarted = {word for first, *words in lines if first in ("restart", "try-restart") for word in words}
    names = {re.sub(r"@.*", "@", word.removesuffix(".service")) for word in restarted if word.startswith("ocrfleet-")}
    assert names == {unit.stem for unit in UNITS}


def test_a_new_pod_of_the_page_finds_its_folders_closed() -> None:
    """Before: kubelet gave each to the group at each mount (its default), and what lay in `trash` was moved aside."""
    volume = (DEPLOY / "kubernetes" / "web.yaml").read_text()
    assert "fsGroupChangePolicy: OnRootMismatch" in volume
    assert "mountPath: /state}" in volume and "value: /state/web}" in volume, "the root itself is the group's"
