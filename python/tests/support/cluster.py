"""`braidcast dev`: a master and media servers on loopback, as the wheel carries them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import braidcast

BRAIDCAST = (sys.executable, "-m", "braidcast")
READY_SECONDS = 120
END_SECONDS = 10


class Cluster:
    """Runs until it is closed; ends only what it started."""

    def __init__(self, films: Path, state: Path, servers: int = 3) -> None:
        self.films = films
        self.state = state
        self.servers: dict[int, tuple[int, str]] = {}
        self._ready = threading.Event()
        self._log = (state.parent / f"{state.name}.log").open("wb")
        command = [*BRAIDCAST, "dev", str(films), "--servers", str(servers), "--state", str(state)]
        self._dev = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        if not self._ready.wait(READY_SECONDS) or self._dev.poll() is not None:
            self.close()
            log = Path(self._log.name).read_text()
            raise RuntimeError(f"braidcast dev is not ready after {READY_SECONDS} s:\n{log}")

    @property
    def profile(self) -> Path:
        return self.state / "profile.toml"

    def _read(self) -> None:
        """Takes `server N PID ADDRESS` and `ready ...`, now and after restarts."""
        assert self._dev.stdout is not None
        for line in self._dev.stdout:
            words = line.decode().split()
            if words[:1] == ["server"]:
                self.servers[int(words[1])] = (int(words[2]), words[3])
            if line.startswith(b"ready"):
                self._ready.set()
        self._ready.set()

    def pid(self, server: int) -> int:
        return self.servers[server][0]

    def address(self, server: int) -> str:
        return self.servers[server][1]

    def kill(self, server: int) -> None:
        os.kill(self.pid(server), signal.SIGKILL)

    def restart(self, server: int) -> None:
        """Brings a server back, and waits until it is listed."""
        command = [*BRAIDCAST, "dev", "--restart", str(server), "--state", str(self.state)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=READY_SECONDS)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """All media servers hold their breath: nothing comes, and nobody is dead."""
        pids = [pid for pid, _ in self.servers.values()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            self.wait_listed()

    def wait_listed(self) -> None:
        """Waits until every server is listed to clients."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            listing = subprocess.run(
                [*BRAIDCAST, "servers", "--profile", self.profile],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
            )
            rows = listing.stdout.splitlines()[1:]
            if all(any(address in row and "  listed" in row for row in rows) for _, address in self.servers.values()):
                return
            time.sleep(0.1)
        raise RuntimeError(f"not all servers are listed after {READY_SECONDS} s")

    def wait_held(self, name: str) -> None:
        """Waits until every server holds a video that was published just now."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            held = {video.name: video.replicas_held for video in braidcast.list_videos(profile=self.profile)}
            if held[name] == len(self.servers):
                return
            time.sleep(0.05)
        raise RuntimeError(f"not all servers hold {name} after {READY_SECONDS} s")

    def open(self, name: str, **options: float) -> braidcast.Video:
        return braidcast.open(name, profile=self.profile, **options)  # type: ignore[arg-type]

    def close(self) -> None:
        if self._dev.poll() is None:
            self._dev.terminate()
            try:
                self._dev.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._dev.kill()
                self._dev.wait()
        self._reader.join()
        if self._dev.stdout is not None:
            self._dev.stdout.close()
        self._log.close()
