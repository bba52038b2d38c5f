"""Which profile which machine gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detector.errors import ProfileError
from detector.machine import Machine, available_mb, read_machine
from detector.profile import choose_profile


@pytest.mark.parametrize(
    ("cores", "memory_mb", "name"),
    [(2, 24_000, "standard"), (1, 24_000, "low"), (1.5, 8_000, "low"), (2, 1_900, "low"), (64, 500_000, "standard")],
)
def test_auto(cores: float, memory_mb: int, name: str) -> None:
    profile, reason = choose_profile("auto", Machine(cores, memory_mb, "RAM"))
    assert profile.name == name
    assert f"{cores:g} cores" in reason
    assert "\n" not in reason


def test_by_name_and_fitted_to_small_machines() -> None:
    profile, reason = choose_profile("accurate", Machine(4, 400, "RAM"))
    assert (profile.name, profile.memory_limit_mb) == ("accurate", 300)
    assert "asked for" in reason
    assert "lowered to 300 MiB" in reason
    assert choose_profile("low", Machine(4, 4000, "RAM"))[0].memory_limit_mb == 256
    # In a container there is no system beside us, only Celery's main process.
    assert choose_profile("low", Machine(1, 256, "cgroup"))[0].memory_limit_mb == 208
    assert choose_profile("low", Machine(1, 128, "cgroup"))[0].memory_limit_mb == 96
    with pytest.raises(ProfileError, match="unknown profile 'fast'; choose auto, low, standard, accurate"):
        choose_profile("fast")


def machine(tmp_path: Path, cgroup: str, files: dict[str, str]) -> Machine:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:       16384000 kB\nMemFree: 1 kB\n")
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_machine(tmp_path / "proc", tmp_path / "cgroup")


def test_no_limits(tmp_path: Path) -> None:
    found = machine(tmp_path, "0::/\n", {"memory.max": "max\n", "cpu.max": "max 100000\n"})
    assert (found.memory_mb, found.limited_by) == (16000, "RAM")
    assert found.cores >= 1


def test_version_2_takes_the_tightest_limit_on_the_way_up(tmp_path: Path) -> None:
    found = machine(
        tmp_path,
        "0::/pod/worker\n",
        {
            "pod/worker/memory.max": "max",
            "pod/memory.max": str(512 * 2**20),
            "pod/worker/cpu.max": "50000 100000",
        },
    )
    assert found == Machine(0.5, 512, "cgroup")


def test_version_2_throttles_before_it_kills(tmp_path: Path) -> None:
    """A systemd unit with MemoryHigh: above that the worker would only swap and stall."""
    limits = {"unit/memory.max": str(480 * 2**20), "unit/memory.high": str(380 * 2**20)}
    assert machine(tmp_path, "0::/unit\n", limits).memory_mb == 380


def test_version_2_inside_a_container_that_cannot_see_its_own_path(tmp_path: Path) -> None:
    found = machine(tmp_path, "0::/kubepods/abc\n", {"memory.max": str(256 * 2**20)})
    assert (found.memory_mb, found.limited_by) == (256, "cgroup")


def test_version_1(tmp_path: Path) -> None:
    found = machine(
        tmp_path,
        "5:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n",
        {
            "memory/docker/x/memory.limit_in_bytes": str(300 * 2**20),
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "75000",
            "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
        },
    )
    assert found == Machine(0.75, 300, "cgroup")


def test_version_1_without_a_quota(tmp_path: Path) -> None:
    found = machine(tmp_path, "3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"})
    assert found.cores >= 1


def test_nothing_to_read(tmp_path: Path) -> None:
    found = read_machine(tmp_path, tmp_path)
    assert found.memory_mb > 0


def test_standard_library_only() -> None:
    program = (
        "import sys; before = set(sys.modules); import detector.profile as p; p.choose_profile()\n"
        "new = {m.split('.')[0] for m, it in sys.modules.items() if it and m not in before} - {'detector'}\n"
        "assert new <= set(sys.stdlib_module_names), new"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_others_hold_is_not_available(tmp_path: Path) -> None:
    machine = Machine(2, 1500, "RAM")
    assert available_mb(machine, tmp_path) == 1500, "not Linux"
    (tmp_path / "meminfo").write_text("MemTotal: 1536000 kB\nMemAvailable: 409600 kB\nSwapFree: 102400 kB\n")
    assert available_mb(machine, tmp_path) == 500
    assert available_mb(Machine(2, 300, "cgroup"), tmp_path) == 300
