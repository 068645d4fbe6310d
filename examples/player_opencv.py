"""A player: a window that shows a film at its pace.

    pip install '.[player]'
    python examples/player_opencv.py film.mp4

Space pauses, the arrows (or a and d) go back and on by ten seconds, q or Esc ends it.
"""

import argparse
import asyncio
import contextlib
import time
from pathlib import Path

import braidcast
import cv2
import numpy as np
import numpy.typing as npt

SEEK_SECONDS = 10.0
"""How far an arrow goes."""
PATIENCE_SECONDS = 0.2
"""How long to wait for a picture before looking at the keys again."""

QUIT = {ord("q"), 27}
PAUSE = {ord(" ")}
# The arrows as Qt, GTK and Windows number them.
BACK = {ord("a"), 81, 65361, 2424832}
FORTH = {ord("d"), 83, 65363, 2555904}

TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


class Pace:
    """When to show which time of the film."""

    def __init__(self) -> None:
        """Starts with the first picture that it is asked about."""
        self._start: float | None = None

    def wait_seconds(self, film_time: float) -> float:
        """How long until that time of the film is to be shown."""
        now = time.monotonic()
        if self._start is None:
            self._start = now - film_time
        return max(0.0, self._start + film_time - now)

    def restart(self) -> None:
        """After a pause, a seek or a stall: the next picture is shown at once."""
        self._start = None


class Player:
    """A film in a window."""

    def __init__(self, video: braidcast.Video, fullscreen: bool) -> None:
        """Opens the window, in the film's size."""
        self._video = video
        self._window = video.name
        self._pace = Pace()
        self._time = 0.0
        self._paused = False
        self._ended = False
        shape = cv2.WINDOW_NORMAL if fullscreen else cv2.WINDOW_AUTOSIZE
        cv2.namedWindow(self._window, shape | cv2.WINDOW_GUI_NORMAL)
        if fullscreen:
            cv2.setWindowProperty(self._window, cv2.WND_PROP_FULLSCREEN, cv2.WINDOW_FULLSCREEN)

    async def play(self, frames_max: int | None) -> None:
        """Shows pictures until the film has ended, or the viewer wants no more, or so many were shown."""
        shown = 0
        while not self._ended and (frames_max is None or shown < frames_max):
            try:
                frame = await self._video.get_next_frame(timeout=PATIENCE_SECONDS)
            except TimeoutError:
                # No server delivers at the moment, or a seek is under way.
                self._pace.restart()
                self._take_key(0.001)
                continue
            if frame is None:
                return
            self._time = frame.time
            wait = self._pace.wait_seconds(frame.time)
            cv2.imshow(self._window, self._upright(frame))
            shown += 1
            self._take_key(wait)
            while self._paused and not self._ended:
                self._take_key(PATIENCE_SECONDS)

    def _upright(self, frame: braidcast.Frame) -> npt.NDArray[np.uint8]:
        picture = frame.to_ndarray(format="bgr24")
        turn = TURNS.get(round(self._video.rotation) % 360)
        return picture if turn is None else np.asarray(cv2.rotate(picture, turn), np.uint8)

    def _take_key(self, wait_seconds: float) -> None:
        """Lets the window draw, and waits for a key until the picture has been seen."""
        key = cv2.waitKeyEx(max(1, round(wait_seconds * 1000)))
        closed = cv2.getWindowProperty(self._window, cv2.WND_PROP_VISIBLE) < 1
        if key in QUIT or closed:
            self._ended = True
        elif key in PAUSE:
            self._paused = not self._paused
            self._pace.restart()
        elif key in BACK:
            self._seek(self._time - SEEK_SECONDS)
        elif key in FORTH:
            self._seek(self._time + SEEK_SECONDS)

    def _seek(self, seconds: float) -> None:
        # There is nothing to see past the end.
        with contextlib.suppress(ValueError):
            self._video.seek(max(0.0, seconds))
            self._paused = False
            self._pace.restart()


def main() -> None:
    """Plays the film that the arguments name."""
    parser = argparse.ArgumentParser(description="Shows a film of Braidcast in a window, at its pace.")
    parser.add_argument("name", help="the film's name, as `braidcast ls` shows it")
    parser.add_argument("--profile", type=Path, help="the profile to use")
    parser.add_argument("--frames", type=int, metavar="N", help="end after N pictures")
    parser.add_argument("--fullscreen", action="store_true", help="fill the screen")
    arguments = parser.parse_args()
    try:
        with braidcast.open(arguments.name, profile=arguments.profile) as video:
            asyncio.run(Player(video, arguments.fullscreen).play(arguments.frames))
    except braidcast.BraidcastError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    finally:
        cv2.destroyAllWindows()


if __name__ == "__main__":
    main()
