"""How much of this machine to use: low, standard or accurate, or chosen from its cores, memory and cgroup limits.

Standard library only: the producer and the Celery main process read it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from detector.errors import ProfileError
from detector.machine import Machine, read_machine

PARENT_MB = 48
"""What Celery's main process holds for itself beside what it shares with its child (25), sockets, page tables (10)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Limits of one worker process.

    Attributes:
        name: low, standard or accurate.
        limit_side: longest side shown to the network, pixels.
        threads: of one inference. More workers use more cores better than more threads do.
        runtime: what runs the network ("auto" = what `ocr-detector tune` found, else ONNX Runtime).
        max_pixels: pages that claim more pixels are refused before decoding.
        memory_limit_mb: what one worker process may use, MiB; None = no limit.
        nice: scheduling priority, 0 (normal) to 19 (only what others leave).
        max_tasks_per_child: images after which a worker process is replaced by a fresh one.
        tiled: pages are run in overlapping tiles (`tiling.TILE`), so that a large limit_side costs time, not memory.
    """

    name: str
    limit_side: int
    threads: int
    runtime: str
    max_pixels: int
    memory_limit_mb: int | None
    nice: int
    max_tasks_per_child: int
    tiled: bool = False


PROFILES = {
    # 640: the size of the measured 80 ms and 164 MB an image; documents lose a few points of hmean at it.
    "low": Profile("low", 640, 1, "auto", 200_000_000, 256, 19, 200),
    # 960: dense documents are nearly as good as at full size, 2.25 times the work of 640.
    "standard": Profile("standard", 960, 1, "auto", 200_000_000, 512, 0, 500),
    # 1440: the size at which small print on receipts and forms is found, and 6 point print on an A4 page.
    "accurate": Profile("accurate", 1440, 1, "auto", 200_000_000, 1024, 0, 500, tiled=True),
}


def choose_profile(name: str = "auto", machine: Machine | None = None) -> tuple[Profile, str]:
    """The profile of this name, fitted to the machine, and one line that says why.

    "auto" takes low on machines with less than 2 GiB or less than 2 cores and standard elsewhere; accurate takes four
    to seven times as long as low and is only used when asked for. A profile's memory limit is lowered to what the
    machine has.

    Args:
        name: auto, low, standard or accurate.
        machine: instead of the one this process runs on.

    Raises:
        ProfileError: unknown name.
    """
    if name != "auto" and name not in PROFILES:
        raise ProfileError(f"unknown profile {name!r}; choose auto, {', '.join(PROFILES)}")
    machine = machine or read_machine()
    has = f"{machine.cores:g} cores, {machine.memory_mb} MiB ({machine.limited_by})"
    if name != "auto":
        profile, reason = PROFILES[name], f"profile {name}: asked for; {has}"
    elif machine.memory_mb < 2000 or machine.cores < 2:
        profile, reason = PROFILES["low"], f"profile low: {has}, less than 2 cores or 2 GB"
    else:
        profile, reason = PROFILES["standard"], f"profile standard: {has}"
    share = _worker_share(machine)
    if profile.memory_limit_mb is not None and share < profile.memory_limit_mb:
        profile = replace(profile, memory_limit_mb=share)
        reason += f"; memory limit lowered to {share} MiB"
    return profile, reason


def _worker_share(machine: Machine) -> int:
    """MiB for one worker process; the rest is for its parent, and without a cgroup for the system."""
    if machine.limited_by == "cgroup":
        return max(machine.memory_mb * 3 // 4, machine.memory_mb - PARENT_MB)
    return machine.memory_mb * 3 // 4


def memory_limit(settings: Mapping[str, str]) -> int | None:
    """Bytes that this process may use, from OCRFLEET_MEMORY_LIMIT_MB or the profile; None for no limit.

    Args:
        settings: usually ``os.environ``.

    Raises:
        ProfileError: a profile that is not there, or a limit that is no number.
    """
    given = settings.get("OCRFLEET_MEMORY_LIMIT_MB")
    try:
        limit_mb = int(float(given)) if given else None
    except ValueError:
        raise ProfileError(f"OCRFLEET_MEMORY_LIMIT_MB={given!r} is not a number") from None
    if limit_mb is None:
        limit_mb = choose_profile(settings.get("OCRFLEET_PROFILE") or "auto")[0].memory_limit_mb
    return limit_mb << 20 if limit_mb else None
