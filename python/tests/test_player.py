"""The example player shows the film, on a screen that nobody sees."""

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from support.clips import FILM, FILM_SECONDS, RATE
from support.cluster import Cluster
from support.screen import screen

PLAYER = Path(__file__).parents[2] / "examples" / "player_opencv.py"
SHOW_SECONDS = 60
# Of 256, on the average: nothing is scaled or recoded on the way to the screen.
LEVELS = 2.0


def command(cluster: Cluster, *arguments: str) -> list[str | Path]:
    return [sys.executable, PLAYER, FILM, "--profile", cluster.profile, *arguments]


def found(shot: npt.NDArray[np.uint8], picture: npt.NDArray[np.uint8]) -> float:
    """How far, at the place where it fits best, the screen is from the picture."""
    scores = cv2.matchTemplate(shot, picture, cv2.TM_SQDIFF)
    _, _, (left, top), _ = cv2.minMaxLoc(scores)
    here = shot[top : top + picture.shape[0], left : left + picture.shape[1]]
    return float(np.abs(here.astype(np.int16) - picture.astype(np.int16)).mean())


def test_the_window_shows_the_films_pictures(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.open(FILM) as video:
        pictures = [frame.to_ndarray(format="bgr24") for frame in video]
    with screen(tmp_path) as seen:
        environment = os.environ | {"DISPLAY": seen.display, "QT_QPA_PLATFORM": "xcb"}
        player = subprocess.Popen(command(cluster), env=environment, stdin=subprocess.DEVNULL)
        shots: list[npt.NDArray[np.uint8]] = []
        end = time.monotonic() + SHOW_SECONDS
        try:
            while player.poll() is None and time.monotonic() < end:
                shots.append(seen.shot().copy())
                time.sleep(0.4)
            assert player.wait(SHOW_SECONDS) == 0
        finally:
            player.kill()
            player.wait()
    shown = {}
    for number, shot in enumerate(shots):
        if not shot.any():
            continue
        scores = [found(shot, picture) for picture in pictures[::1]]
        best = int(np.argmin(scores))
        if scores[best] <= LEVELS:
            shown[number] = best
    assert len(set(shown.values())) >= 3, f"of {len(shots)} shots only {shown} show the film"
    # The film goes forward on the screen.
    assert list(shown.values()) == sorted(shown.values())


@pytest.mark.parametrize("frames", [1, 30])
def test_it_ends_after_as_many_pictures_as_asked_for_at_the_films_pace(
    cluster: Cluster, tmp_path: Path, frames: int
) -> None:
    with screen(tmp_path) as seen:
        started = time.monotonic()
        subprocess.run(
            command(cluster, "--frames", str(frames)),
            check=True,
            env=os.environ | {"DISPLAY": seen.display},
            stdin=subprocess.DEVNULL,
            timeout=SHOW_SECONDS,
        )
        assert time.monotonic() - started > (frames - 1) / RATE
    assert frames < FILM_SECONDS * RATE


def test_a_name_that_is_not_there_is_told_without_a_traceback(cluster: Cluster) -> None:
    run = subprocess.run(
        [sys.executable, PLAYER, "no-such.mp4", "--profile", cluster.profile],
        check=False,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SHOW_SECONDS,
    )
    assert run.returncode == 1
    assert "no-such.mp4" in run.stderr
    assert "Traceback" not in run.stderr
