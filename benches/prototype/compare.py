"""Plays clips with the prototype and with Braidcast's Python package, in turns, and judges the ratios.

Both play the same clip on loopback: Braidcast from three servers, the prototype from three of its five. Exits with 1 if
a goal is missed.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "target"
PYTHONS = {"prototype": TARGET / "prototype-venv/bin/python", "braidcast": TARGET / "venv/bin/python"}
"""Each player's interpreter; `make bench-prototype` installs both."""

SERVERS = {"prototype": 5, "braidcast": 3}
ROUNDS = 3
ROUNDS_SHORT = 1
READY_SECONDS = 120
END_SECONDS = 10
PLAY_SECONDS = 600
DIFFERENCE_MAX = 1.0
"""Mean difference of samples, of 255; two neighbouring pictures of a clip differ by 3 or more."""

EXPLANATION = """\
Medians; ratios are of pairs of one round. Frames are arrays of BGR, taken by `await get_next_frame()`.
The time is from before the first request to the last frame."""


@dataclass(frozen=True)
class Clip:
    """What is played, and how much faster Braidcast is to be."""

    size: str
    width: int
    height: int
    seconds: int
    goal: float

    @property
    def name(self) -> str:
        """Its file's name."""
        return f"{self.size}.mp4"

    def make(self, folder: Path) -> None:
        """Encodes FFmpeg's moving test picture as FFmpeg does by default: three B-frames, 250 frames to a key frame."""
        source = f"testsrc2=size={self.width}x{self.height}:rate=30:duration={self.seconds}"
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", source]
        command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", str(folder / self.name)]
        subprocess.run(command, check=True, start_new_session=True)


CLIPS = [Clip("720p", 1280, 720, 20, 15.0), Clip("1080p", 1920, 1080, 10, 8.0)]


@dataclass(frozen=True)
class Run:
    """A clip, played once."""

    frames: int
    seconds: float
    first: float
    samples: list[str]

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.frames / self.seconds


def environment() -> dict[str, str]:
    """This one, without a user's settings and caches."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BRAIDCAST_", "XDG_"))}
    return kept | {"HOME": "/dev/null"}


@contextlib.contextmanager
def running(command: Sequence[str | Path], log: Path, beginning: str) -> Iterator[str]:
    """A process that has printed a line which begins so, and the rest of that line; it ends with the block."""
    with log.open("wb") as out:
        # Ctrl-C at the terminal is for this process alone, which then ends all others.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment(), start_new_session=True
        )
    try:
        yield awaited(process, log, beginning)
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def awaited(process: subprocess.Popen[bytes], log: Path, beginning: str) -> str:
    """The rest of the first whole line that begins so."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines(keepends=True):
            if line.startswith(beginning) and line.endswith("\n"):
                return line.removeprefix(beginning).strip()
        time.sleep(0.05)
    sys.exit(f"prototype: {process.args!r} has ended or is not ready after {READY_SECONDS} s:\n{log.read_text()}")


@contextlib.contextmanager
def both(films: Path, work: Path, reach: str) -> Iterator[dict[str, str]]:
    """Where each player finds its master, while all servers run."""
    with contextlib.ExitStack() as stack:
        state = work / "state"
        command: list[str | Path] = [PYTHONS["braidcast"], "-m", "braidcast", "dev", films]
        command += ["--servers", str(SERVERS["braidcast"]), "--state", state]
        stack.enter_context(running(command, work / "dev.log", "ready"))
        python, endpoints = PYTHONS["prototype"], []
        for number in range(SERVERS["prototype"]):
            server = running([python, HERE / "server.py", films, reach], work / f"server-{number}.log", "listening ")
            endpoints.append(stack.enter_context(server))
        master = running([python, HERE / "master.py", films, *endpoints], work / "master.log", "listening ")
        yield {"braidcast": str(state / "profile.toml"), "prototype": stack.enter_context(master)}


def play(player: str, master: str, clip: Clip) -> Run:
    """Plays a clip in a process of its own."""
    command: list[str | Path] = [PYTHONS[player], HERE / "play.py", player, master, clip.name]
    done = subprocess.run(
        command,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
        timeout=PLAY_SECONDS,
        start_new_session=True,
    )
    return Run(**json.loads(done.stdout))


def check(ours: Run, theirs: Run) -> None:
    """Fails unless both have shown the same pictures."""
    if ours.frames != theirs.frames:
        sys.exit(f"prototype: Braidcast has shown {ours.frames} frames, the prototype {theirs.frames}")
    for number, (one, other) in enumerate(zip(ours.samples, theirs.samples, strict=True)):
        pairs = zip(bytes.fromhex(one), bytes.fromhex(other), strict=True)
        difference = statistics.fmean(abs(a - b) for a, b in pairs)
        if difference > DIFFERENCE_MAX:
            sys.exit(f"prototype: sample {number} differs by {difference:.1f} of 255 between the two players")


def measure(masters: dict[str, str], clip: Clip, rounds: int) -> dict[str, list[Run]]:
    """Plays a clip with both, in turns."""
    runs: dict[str, list[Run]] = {player: [] for player in PYTHONS}
    for number in range(1, rounds + 1):
        for player in sorted(runs, reverse=number % 2 == 1):
            run = play(player, masters[player], clip)
            runs[player].append(run)
            print(f"prototype: {clip.size}, round {number} of {rounds}: {player}: {run.rate:.0f}/s", file=sys.stderr)
        check(runs["braidcast"][-1], runs["prototype"][-1])
    return runs


def align(lines: list[list[str]]) -> str:
    """Lines of cells, with their columns in line."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"{row.rstrip()}\n" for row in rows)


def report(results: dict[Clip, dict[str, list[Run]]], reach: str) -> int:
    """Prints what was measured and how it was judged. Gives the number of goals that were missed."""
    figures = [["clip", "program", "servers", "frames", "frames/s", "first frame ms"]]
    goals = [["goal", "median", "rounds", "wanted", ""]]
    missed = 0
    for clip, runs in results.items():
        for player, each in runs.items():
            rate = statistics.median(run.rate for run in each)
            first = statistics.median(run.first for run in each) * 1000
            program, servers = (f"{player} ({reach})", "3 of 5") if player == "prototype" else (player, "3")
            figures.append([clip.size, program, servers, str(each[0].frames), f"{rate:.0f}", f"{first:.0f}"])
        pairs = zip(runs["braidcast"], runs["prototype"], strict=True)
        ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        is_met = median >= clip.goal
        missed += not is_met
        spread, wanted = f"{low:.2f} to {high:.2f}", f">= {clip.goal:.2f}"
        name = f"{clip.size}: frames/s, of the prototype"
        goals.append([name, f"{median:.2f}", spread, wanted, "ok" if is_met else "MISS"])
    print(f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}\n")
    print(f"{align(figures)}\n{align(goals)}\n{EXPLANATION}")
    print(f"{len(results) - missed} goals met, {missed} missed")
    return missed


def main() -> int:
    """Makes the clips, starts both, measures and judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"{ROUNDS_SHORT} round instead of {ROUNDS}")
    parser.add_argument(
        "--skip", action="store_true", help="the prototype decodes all frames before a batch, instead of a seek"
    )
    arguments = parser.parse_args()
    rounds, reach = ROUNDS_SHORT if arguments.short else ROUNDS, "skip" if arguments.skip else "seek"
    # What was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="braidcast-prototype.") as folder:
        films = Path(folder) / "films"
        films.mkdir()
        for clip in CLIPS:
            clip.make(films)
        with both(films, Path(folder), reach) as masters:
            results = {clip: measure(masters, clip, rounds) for clip in CLIPS}
    return 1 if report(results, reach) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
