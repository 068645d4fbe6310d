"""Ctrl-C ends every call that waits, and what waits in a forked child is told so."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from support.clips import FILM, LONG_FILM
from support.cluster import Cluster

# A call that is not interrupted ends by itself, and in another way, long before this.
END_SECONDS = 60

# Each says that it is ready, and calls when it is told to.
NEXT = """
import sys, braidcast
video = braidcast.open(sys.argv[1], profile=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
video.seek(20)
next(video)
"""

DOWNLOAD = """
import sys, braidcast
print("ready", flush=True)
sys.stdin.readline()
braidcast.download(sys.argv[1], sys.argv[3], profile=sys.argv[2])
"""

OPEN = """
import sys, braidcast
print("ready", flush=True)
sys.stdin.readline()
braidcast.open(sys.argv[1], profile=sys.argv[2])
"""

HANDLER = """
import signal, sys, braidcast
class Mine(Exception): pass
def handler(*_): raise Mine
signal.signal(signal.SIGINT, handler)
video = braidcast.open(sys.argv[1], profile=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
video.seek(20)
try:
    next(video)
except Mine:
    video.close()
    raise KeyboardInterrupt
"""


def take_interrupts() -> None:
    """What a shell runs in the background ignores Ctrl-C, and hands that on to all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(meanwhile: AbstractContextManager[object], program: str, *arguments: str | Path) -> None:
    """Runs a program, and interrupts it in its call. Whatever makes the call wait begins when the program is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=take_interrupts,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with meanwhile:
            process.stdin.write(b"\n")
            process.stdin.flush()
            time.sleep(0.5)
            assert process.poll() is None, "it did not wait"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=END_SECONDS)
    finally:
        process.kill()
        process.communicate()
    assert b"KeyboardInterrupt" in errors
    # Python ends itself by the signal that it did not handle.
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("program", [NEXT, HANDLER], ids=["next", "next with a handler"])
def test_waiting_for_a_picture_is_interrupted(frail: Cluster, program: str) -> None:
    interrupt(frail.stopped(), program, LONG_FILM, frail.profile)


def test_a_download_is_interrupted(frail: Cluster, tmp_path: Path) -> None:
    interrupt(frail.stopped(), DOWNLOAD, LONG_FILM, frail.profile, tmp_path / "film")


def test_opening_is_interrupted(frail: Cluster, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        lines = frail.profile.read_text().splitlines()
        moved = [f"master = '{host}:{port}'" if line.startswith("master") else line for line in lines]
        profile = tmp_path / "profile.toml"
        profile.write_text("\n".join(moved))
        profile.chmod(0o600)
        interrupt(nullcontext(), OPEN, LONG_FILM, profile)


FORK = """
import os, sys, braidcast
video = braidcast.open(sys.argv[1], profile=sys.argv[2])
frame = next(video)
child = os.fork()
if child == 0:
    for call in (lambda: next(video), lambda: video.seek(1), lambda: video.stats):
        try:
            call()
        except braidcast.ForkError as error:
            assert sys.argv[1] in str(error)
        else:
            os._exit(1)
    video.close()
    del video
    frame.to_ndarray()
    with braidcast.open(sys.argv[1], profile=sys.argv[2]) as own:
        assert [next(own).index for _ in range(3)] == [0, 1, 2]
    os._exit(0)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert next(video).index == 1
video.close()
"""


def test_a_forked_child_is_told_and_opens_its_own(cluster: Cluster) -> None:
    subprocess.run(
        [sys.executable, "-c", FORK, FILM, cluster.profile], check=True, stdin=subprocess.DEVNULL, timeout=60
    )


EXIT = """
import sys, braidcast
video = braidcast.open(sys.argv[1], profile=sys.argv[2])
next(video)
"""


def test_a_program_may_end_with_a_video_open(cluster: Cluster) -> None:
    for _ in range(3):
        run = subprocess.run(
            [sys.executable, "-c", EXIT, FILM, cluster.profile],
            check=True,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONDEVMODE": "1"},
            timeout=60,
        )
        assert run.stderr == b""
