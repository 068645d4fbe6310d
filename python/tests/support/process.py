"""This process, as the kernel sees it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

SETTLE_SECONDS = 15
"""Longer than an idle connection or thread of the runtime takes to end."""


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    threads: int
    descriptors: int


def held() -> Held:
    """Threads, and open files and sockets, of this process."""
    descriptors = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  the listing's own descriptor is one of them
    return Held(len(list(Path("/proc/self/task").iterdir())), descriptors)


def settles_at(most: Held) -> bool:
    """Whether no more than this is held, now or soon."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        now = held()
        if now.threads <= most.threads and now.descriptors <= most.descriptors:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.05)


def memory_bytes(what: str = "VmRSS") -> int:
    """Memory of this process: resident now, or with `VmHWM` at most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    raise KeyError(what)
