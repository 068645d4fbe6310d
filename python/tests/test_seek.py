"""Seeking: the next picture is the one that is shown at that time."""

import random
from pathlib import Path

import pytest
from support.clips import FILM, FILM_SECONDS, RATE
from support.cluster import Cluster
from support.reference import Reference, digest, reference

# Of every kind of key frames, orders and containers.
NAMES = [
    "bframes.mp4",
    "open-gop.mov",
    "edit-list.mp4",
    "vfr.mp4",
    "one-key-frame.mp4",
    "key-frames-only.mp4",
    "h264.ts",
    "mpeg2.mpg",
    "mpeg4.avi",
    "h264.avi",
    "hevc-10bit.mkv",
    "vp9-odd.webm",
]


def times(expected: Reference) -> dict[int, float]:
    """Seconds from the first picture, of every picture of which FFmpeg knows the time."""
    pts = {number: shown.pts for number, shown in enumerate(expected.pictures) if shown.pts is not None}
    return {number: float((time - pts[0]) * expected.time_base) for number, time in pts.items()}


@pytest.mark.parametrize("name", NAMES)
def test_any_picture_is_reached_from_any_other(cluster: Cluster, films: Path, name: str) -> None:
    expected = reference(films / name)
    starts = times(expected)
    order = list(starts)
    random.Random(name).shuffle(order)
    with cluster.open(name) as video:
        for target in order[:12]:
            # Just after the picture begins to be shown: times are given in binary fractions.
            video.seek(starts[target] + 1e-4)
            for number in range(target, min(target + 3, len(expected.pictures))):
                frame = next(video)
                assert frame.index == number, f"after a seek to picture {target}"
                assert frame.pts == expected.pictures[number].pts
                assert digest(frame) == expected.pictures[number].digest, f"picture {number} after a seek to {target}"


def test_between_two_pictures_the_earlier_one_is_shown(cluster: Cluster) -> None:
    with cluster.open(FILM) as video:
        video.seek(1.0 + 0.6 / RATE)
        assert next(video).time == pytest.approx(1.0)


def test_back_to_the_start_and_on_to_the_end(cluster: Cluster) -> None:
    with cluster.open(FILM) as video:
        first = digest(next(video))
        video.seek(0)
        frame = next(video)
        assert (frame.index, frame.time) == (0, 0.0)
        assert digest(frame) == first
        video.seek(FILM_SECONDS - 0.5 / RATE)
        assert [frame.index for frame in video] == [FILM_SECONDS * RATE - 1]


def test_a_film_that_ended_plays_again_after_a_seek(cluster: Cluster) -> None:
    with cluster.open(FILM) as video:
        for _ in range(2):
            assert sum(1 for _ in video) == FILM_SECONDS * RATE
            video.seek(0)


def test_many_seeks_in_a_row_end_at_the_last(cluster: Cluster) -> None:
    with cluster.open(FILM) as video:
        for hundredth in range(0, FILM_SECONDS * 100, 7):
            video.seek(hundredth / 100)
        video.seek(2.0)
        assert [next(video).index for _ in range(5)] == list(range(2 * RATE, 2 * RATE + 5))


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf"), FILM_SECONDS, FILM_SECONDS + 1])
def test_a_time_that_the_film_does_not_have_is_refused_and_changes_nothing(cluster: Cluster, seconds: float) -> None:
    with cluster.open(FILM) as video:
        next(video)
        with pytest.raises(ValueError, match=r"cannot seek to .* from 0 to before 4 s"):
            video.seek(seconds)
        assert next(video).index == 1
