"""A screen that nobody sees: Xvfb, and what stands on it."""

import contextlib
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 800, 600
HEADER_WORDS = 25
END_SECONDS = 10


@dataclass(frozen=True)
class Screen:
    """An X server without a screen of glass."""

    display: str
    file: Path

    def shot(self) -> npt.NDArray[np.uint8]:
        """What stands on the screen now, height x width x 3, in OpenCV's order."""
        # The format of xwd(1): a header of big-endian words, a colour map, then the pixels, blue first.
        data = self.file.read_bytes()
        header = struct.unpack_from(f">{HEADER_WORDS}I", data)
        start = header[0] + header[19] * 12
        width, height, row_bytes = header[4], header[5], header[12]
        assert (width, height, header[11]) == (WIDTH, HEIGHT, 32)
        rows = np.frombuffer(data, np.uint8, height * row_bytes, start).reshape(height, row_bytes)
        return rows[:, : width * 4].reshape(height, width, 4)[..., :3]


@contextlib.contextmanager
def screen(folder: Path) -> Iterator[Screen]:
    """Runs Xvfb with its picture in a file."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-fbdir", str(folder)]
    server = subprocess.Popen(
        [*command, "-nolisten", "tcp", "-noreset"],
        pass_fds=[writing],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as numbers:
            number = numbers.readline().strip()
        assert number, "Xvfb did not start"
        yield Screen(f":{number}", folder / "Xvfb_screen0")
    finally:
        server.terminate()
        try:
            server.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
