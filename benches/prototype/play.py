"""Plays a film once, as fast as it comes, and prints as JSON what that took.

Each frame becomes an array, height x width x 3, uint8, BGR. The clock runs from before the first request, without the
start of Python and its imports, to the last frame.

usage: play.py prototype MASTER FILM
       play.py braidcast PROFILE FILM
"""

import asyncio
import json
import sys
import time
from typing import Any

PATIENCE_SECONDS = 60.0
SAMPLE_EVERY = 25
"""One of so many pictures is sampled ..."""
SAMPLE_STEP = 40
"""... at one of so many rows and columns, to be compared with what the other player shows."""


class Tally:
    """What has come so far."""

    def __init__(self) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()
        self._frames = 0
        self._first = self._last = 0.0
        self._samples: list[bytes] = []

    def add(self, picture: Any) -> None:
        """Counts a picture."""
        self._last = time.perf_counter() - self._start
        self._first = self._first or self._last
        if self._frames % SAMPLE_EVERY == 0:
            self._samples.append(picture[::SAMPLE_STEP, ::SAMPLE_STEP].tobytes())
        self._frames += 1

    def report(self) -> str:
        """All of it, as JSON."""
        samples = [sample.hex() for sample in self._samples]
        return json.dumps({"frames": self._frames, "seconds": self._last, "first": self._first, "samples": samples})


async def play_prototype(master: str, film: str) -> Tally:
    """Plays with the prototype's client."""
    from client import Client

    tally = Tally()
    async with Client(master, film) as client:
        while (picture := await client.get_next_frame(timeout=PATIENCE_SECONDS)) is not None:
            tally.add(picture)
    return tally


async def play_braidcast(profile: str, film: str) -> Tally:
    """Plays with Braidcast's package."""
    import braidcast

    tally = Tally()
    with await asyncio.to_thread(braidcast.open, film, profile=profile) as video:
        while (frame := await video.get_next_frame(timeout=PATIENCE_SECONDS)) is not None:
            tally.add(frame.to_ndarray(format="bgr24"))
    return tally


if __name__ == "__main__":
    play = {"prototype": play_prototype, "braidcast": play_braidcast}[sys.argv[1]]
    print(asyncio.run(play(*sys.argv[2:])).report())
