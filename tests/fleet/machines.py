"""Machines made of the kernel's parts: a network namespace with an address, a memory limit, a share of a core, a disk.

They hang on a bridge in a namespace of its own, so that nothing of the host's network is touched. Needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.tools import missing

CGROUPS = Path("/sys/fs/cgroup")
SUBNET = "10.77.0"


def impossible() -> str:
    """Why machines cannot be made here; empty if they can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces and cgroups (CI runs it)"
    for program in ("ip", "unshare"):
        if shutil.which(program) is None:
            return f"needs {program}: apt-get install iproute2 util-linux"
    return ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Limits:
    """A cgroup (v1 or v2) with a memory limit and a share of a core."""

    def __init__(self, name: str, memory_mb: int, cores: float) -> None:
        self.v2 = (CGROUPS / "cgroup.controllers").exists()
        quota = str(int(cores * 100_000))
        if self.v2:
            self.folders = [CGROUPS / name]
            (CGROUPS / "cgroup.subtree_control").write_text("+memory +cpu")
            settings = {"memory.max": str(memory_mb << 20), "memory.swap.max": "0", "cpu.max": f"{quota} 100000"}
        else:
            self.folders = [CGROUPS / "memory" / name, CGROUPS / "cpu" / name]
            settings = {"memory.limit_in_bytes": str(memory_mb << 20), "cpu.cfs_quota_us": quota}
        for folder in self.folders:
            folder.mkdir()
        for file, value in settings.items():
            for folder in self.folders:
                if (folder / file).exists():
                    (folder / file).write_text(value)

    @property
    def joining(self) -> list[Path]:
        """Files a process writes its id to."""
        return [folder / "cgroup.procs" for folder in self.folders]

    @property
    def peak_mb(self) -> float:
        """Most memory ever used, file cache included, MB."""
        file = self.folders[0] / ("memory.peak" if self.v2 else "memory.max_usage_in_bytes")
        return int(file.read_text()) / 2**20 if file.exists() else 0.0

    @property
    def oom_kills(self) -> int:
        """How often the kernel killed a process for want of memory."""
        text = (self.folders[0] / ("memory.events" if self.v2 else "memory.oom_control")).read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))

    def remove(self) -> None:
        """End what is left inside, then the cgroup."""
        for folder in self.folders:
            for _ in range(100):
                pids = (folder / "cgroup.procs").read_text().split()
                if not pids:
                    break
                for pid in pids:
                    try:
                        os.kill(int(pid), 9)
                    except ProcessLookupError:
                        continue
                time.sleep(0.05)
            folder.rmdir()


@dataclass
class Machine:
    """One machine. ``disk``, if given, is a folder that this machine sees empty: its own disk, not the others'."""

    name: str
    address: str
    namespace: str
    switch: str
    limits: Limits
    disk: Path | None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, command: Sequence[str | Path], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Run a program there."""
        # The cgroup first: `ip netns exec` mounts a /sys without cgroups.
        joins = "".join(f"echo $$ > {file}; " for file in self.limits.joining)
        hide = f"mount -t tmpfs none '{self.disk}'; " if self.disk else ""
        inside = f'set -e; hostname {self.name}; {hide}exec "$@"'
        whole = ["sh", "-c", f'set -e; {joins}exec "$@"', "sh"]
        whole += ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "--mount", "sh", "-c", inside, "sh"]
        whole += map(os.fspath, command)
        with log.open("ab") as output:
            process = subprocess.Popen(
                whole,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def cut(self) -> None:
        """Pull the plug at the switch: packets vanish, no connection is closed."""
        _ip("-n", self.switch, "link", "set", f"to-{self.name}", "down")

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        for pid in self.limits.joining[0].read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)

    def stop(self) -> None:
        """End its processes in order, then with force."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)  # the one whose cable was pulled waits for its broker
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Lab:
    """A switch, and the machines that hang on it."""

    def __init__(self) -> None:
        self._tag = f"ocrf{os.getpid()}"
        self._switch = f"{self._tag}-switch"
        self.machines: list[Machine] = []
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")

    def add(self, name: str, *, memory_mb: int, cores: float, disk: Path | None = None) -> Machine:
        """A new machine with the next address."""
        address = f"{SUBNET}.{len(self.machines) + 1}"
        namespace = f"{self._tag}-{name}"
        _ip("netns", "add", namespace)
        machine = Machine(name, address, namespace, self._switch, Limits(namespace, memory_mb, cores), disk)
        self.machines.append(machine)
        far = f"to-{name}"
        _ip("-n", self._switch, "link", "add", far, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("-n", self._switch, "link", "set", far, "master", "bridge", "up")
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        return machine

    def close(self) -> None:
        """Take everything down."""
        for machine in self.machines:
            machine.stop()
        for machine in self.machines:
            machine.limits.remove()
            _ip("netns", "delete", machine.namespace)
        _ip("netns", "delete", self._switch)


@contextmanager
def lab() -> Iterator[Lab]:
    """A lab for one test."""
    if reason := impossible():
        missing(f"MACHINES NOT TESTED: {reason}")
    made = Lab()
    try:
        yield made
    finally:
        made.close()
