"""This process, as the kernel sees it."""

import time
from dataclasses import dataclass
from pathlib import Path

SETTLE_SECONDS = 15
"""Longer than an idle connection or thread of the runtime takes to end."""


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    threads: list[str]
    """Names of its threads."""
    descriptors: list[str]
    """What its open files and sockets are."""


def held() -> Held:
    """What this process holds now."""
    return Held(
        sorted(name for task in Path("/proc/self/task").iterdir() if (name := comm(task))),
        sorted(name for descriptor in Path("/proc/self/fd").iterdir() if (name := target(descriptor))),
    )


def comm(task: Path) -> str | None:
    try:
        return (task / "comm").read_text().strip()
    except OSError:
        # It has just ended.
        return None


def target(descriptor: Path) -> str | None:
    try:
        return str(descriptor.readlink())
    except OSError:
        # The listing's own descriptor is closed by now.
        return None


def more_than(before: Held, seconds: float = SETTLE_SECONDS) -> str:
    """What is held beyond what was held before, once it does not get less any more; empty if nothing is."""
    end = time.monotonic() + seconds
    while True:
        now = held()
        threads = len(now.threads) - len(before.threads)
        descriptors = len(now.descriptors) - len(before.descriptors)
        if threads <= 0 and descriptors <= 0:
            return ""
        if time.monotonic() > end:
            return f"{before} before, {now} after"
        time.sleep(0.05)


def memory_bytes(what: str = "VmRSS") -> int:
    """Memory of this process: resident now, or with `VmHWM` at most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    raise KeyError(what)
