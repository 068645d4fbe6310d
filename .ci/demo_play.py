"""Plays a film through the Python package while a server dies, and compares its pictures with FFmpeg's own.

usage: demo_play.py FILM NAME PID-TO-KILL TRACE
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import braidcast

# Enough to see a server die in the middle, and not too many to decode twice.
PICTURES_MAX = 150
# Seconds of film to fetch ahead, and how much faster than it is played: so little that the film is still being fetched
# when the server dies.
AHEAD_SECONDS = 1.0
RATE_OF_PLAYING = 2.5


def ffmpeg_hashes(film: Path) -> list[str]:
    """MD5 of each picture's samples, as the ffmpeg program decodes the local file."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-noautorotate", "-i", film, "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-frames:v", str(PICTURES_MAX), "-f", "framemd5", "-"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]


def play(name: str) -> float:
    """Tells how fast pictures come, as arrays of rgb24, and gives the film's own rate in bytes per second."""
    started = time.perf_counter()
    with braidcast.open(name) as video:
        first, pictures = 0.0, 0
        for frame in video:
            frame.to_ndarray(format="rgb24")
            first = first or time.perf_counter() - started
            pictures += 1
            if pictures == PICTURES_MAX:
                break
        seconds = time.perf_counter() - started
        print(f"{video.width} x {video.height}, {video.codec}: first picture after {first * 1000:.0f} ms, ", end="")
        print(f"{pictures} pictures as rgb24 arrays in {seconds:.2f} s: {pictures / seconds:.0f} pictures/s")
        return video.bytes / max(video.duration, 1.0)


def compare(film: Path, name: str, rate: float, victim: int, trace: Path) -> braidcast.Stats:
    """Plays at the film's own pace, compares every picture with FFmpeg's, and kills a server in the middle."""
    expected = ffmpeg_hashes(film)
    with braidcast.open(name, ahead=AHEAD_SECONDS, max_rate=RATE_OF_PLAYING * rate, trace=trace) as video:
        started = time.perf_counter()
        for number, hash_of_picture in enumerate(expected):
            if number == len(expected) // 3:
                os.kill(victim, signal.SIGKILL)
            frame = next(video)
            found = hashlib.md5(b"".join(plane.tobytes() for plane in frame.planes()), usedforsecurity=False)
            if frame.index != number or found.hexdigest() != hash_of_picture:
                sys.exit(f"demo: picture {number} differs from FFmpeg's")
            time.sleep(max(0.0, started + frame.time - time.perf_counter()))
        print(f"{len(expected)} pictures, each sample the same as FFmpeg's own decode of the local file")
        return video.stats


def tell_shares(stats: braidcast.Stats) -> None:
    """Tells who gave how much."""
    total = sum(source.bytes for source in stats.sources) or 1
    for source in stats.sources:
        share = source.bytes / total
        state = "killed, found out and left behind" if source.failed else "ok"
        print(f"  {source.address:<22} {'#' * round(40 * share):<40} {share:6.1%}  {state}")


def main() -> None:
    """Plays and compares."""
    film, name, victim, trace = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    try:
        rate = play(name)
    except braidcast.NotAFilm as error:
        print(f"Not played: {error}")
        return
    tell_shares(compare(film, name, rate, victim, trace))


if __name__ == "__main__":
    main()
