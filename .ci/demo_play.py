"""Plays a film through the Python package while a server dies, and compares its pictures with FFmpeg's own.

usage: demo_play.py FILM NAME PID-TO-KILL CHART
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
PICTURES_MAX = 250
COLOURS = ["#3b6ea5", "#c8553d", "#588157", "#8d6a9f", "#d9a441"]


def ffmpeg_hashes(film: Path) -> list[str]:
    """MD5 of each picture's samples, as the ffmpeg program decodes the local file."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-noautorotate", "-i", film, "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-frames:v", str(PICTURES_MAX), "-f", "framemd5", "-"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]


def play(name: str) -> None:
    """Tells how fast pictures come, as arrays of rgb24."""
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


def compare(film: Path, name: str, victim: int) -> braidcast.Stats:
    """Compares every picture with FFmpeg's, and kills a server in the middle."""
    expected = ffmpeg_hashes(film)
    with braidcast.open(name, ahead=2.0) as video:
        for number, hash_of_picture in enumerate(expected):
            if number == len(expected) // 3:
                os.kill(victim, signal.SIGKILL)
            frame = next(video)
            found = hashlib.md5(b"".join(plane.tobytes() for plane in frame.planes()), usedforsecurity=False)
            if frame.index != number or found.hexdigest() != hash_of_picture:
                sys.exit(f"demo: picture {number} differs from FFmpeg's")
        print(f"{len(expected)} pictures, each sample the same as FFmpeg's own decode of the local file")
        return video.stats


def chart(stats: braidcast.Stats, path: Path) -> None:
    """Draws who gave how much."""
    total = sum(source.bytes for source in stats.sources) or 1
    bars = []
    for number, source in enumerate(stats.sources):
        share, top = source.bytes / total, 20 + 40 * number
        state = ", killed in the middle" if source.failed else ""
        print(f"  {source.address:<22} {'#' * round(40 * share):<40} {share:6.1%}{state}")
        label = f"{source.address}: {share:.1%}{state}"
        bars.append(
            f'<rect x="20" y="{top}" width="{max(1, round(560 * share))}" height="16" fill="{COLOURS[number % 5]}"/>'
            f'<text x="20" y="{top + 30}" font-family="sans-serif" font-size="12">{label}</text>'
        )
    height = 30 + 40 * len(stats.sources)
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="600" height="{height}">{"".join(bars)}</svg>\n')
    print(f"  drawn in {path}")


def main() -> None:
    """Plays, compares and draws."""
    film, name, victim, picture = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    try:
        play(name)
    except braidcast.NotAFilm as error:
        print(f"Not played: {error}")
        return
    chart(compare(film, name, victim), picture)


if __name__ == "__main__":
    main()
