"""The example player shows the film, on a screen that nobody sees."""

import os
import subprocess
import sys
import time
from pathlib import Path

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


def best_match(shot: npt.NDArray[np.uint8], pictures: list[npt.NDArray[np.uint8]]) -> int | None:
    """Which picture stands on the screen, if one does."""
    if not shot.any():
        return None
    # The window is the one thing on a black screen.
    rows, columns = np.nonzero(shot.any(axis=2))
    window = shot[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(np.int16)
    if window.shape != pictures[0].shape:
        return None
    distances = [float(np.abs(window - picture).mean()) for picture in pictures]
    best = int(np.argmin(distances))
    return best if distances[best] <= LEVELS else None


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
                time.sleep(0.1)
            assert player.wait(SHOW_SECONDS) == 0
        finally:
            player.kill()
            player.wait()
    shown = [match for shot in shots if (match := best_match(shot, pictures)) is not None]
    assert len(set(shown)) >= 3, f"of {len(shots)} shots only {shown} show the film"
    # The film goes forward on the screen.
    assert shown == sorted(shown)


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
