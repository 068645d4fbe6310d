"""A frame and its arrays."""

from collections.abc import Iterator
from pathlib import Path

import braidcast
import numpy as np
import pytest
from support.clips import FILM
from support.cluster import Cluster
from support.reference import converted


@pytest.fixture(scope="module")
def frame(cluster: Cluster) -> Iterator[braidcast.Frame]:
    with cluster.open(FILM) as video:
        yield next(video)


@pytest.mark.parametrize(
    ("format", "shape"), [("rgb24", (240, 320, 3)), ("bgr24", (240, 320, 3)), ("gray8", (240, 320))]
)
def test_packed_formats_have_the_pictures_shape(frame: braidcast.Frame, format: str, shape: tuple[int, ...]) -> None:
    array = frame.to_ndarray(format=format)
    assert isinstance(array, np.ndarray)
    assert array.shape == shape
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_rgb_is_the_default_and_bgr_its_mirror(frame: braidcast.Frame) -> None:
    assert np.array_equal(frame.to_ndarray(), frame.to_ndarray("rgb24"))
    assert np.array_equal(frame.to_ndarray("bgr24")[..., ::-1], frame.to_ndarray("rgb24"))


def test_gray_is_what_ffmpegs_scaler_makes(frame: braidcast.Frame, films: Path) -> None:
    wanted = converted(films / FILM, "gray", (320, 240), 1)[0, ..., 0]
    assert np.abs(frame.to_ndarray("gray8").astype(np.int16) - wanted.astype(np.int16)).max() <= 2


def test_yuv_planes_of_a_yuv_film_are_its_own(frame: braidcast.Frame) -> None:
    planes = frame.to_ndarray(format="yuv420p")
    assert [plane.shape for plane in planes] == [(240, 320), (120, 160), (120, 160)]
    own = frame.planes()
    assert len(own) == 3
    for plane, mine in zip(planes, own, strict=True):
        assert np.array_equal(plane, mine)


def test_yuv_planes_of_odd_pictures_are_rounded_up(cluster: Cluster) -> None:
    with cluster.open("yuv444-silent.mkv") as video:
        frame = next(video)
    assert [plane.shape for plane in frame.planes()] == [(91, 161)] * 3
    assert [plane.shape for plane in frame.to_ndarray(format="yuv420p")] == [(91, 161), (46, 81), (46, 81)]


def test_samples_of_more_than_eight_bits_are_words(cluster: Cluster) -> None:
    with cluster.open("hevc-10bit.mkv") as video:
        frame = next(video)
    planes = frame.planes()
    assert all(plane.dtype == np.uint16 for plane in planes)
    assert 255 < max(int(plane.max()) for plane in planes) < 1024
    assert frame.to_ndarray().dtype == np.uint8


def test_an_array_is_the_callers_own_and_outlives_the_video(cluster: Cluster) -> None:
    with cluster.open(FILM) as video:
        frame = next(video)
        one, other = frame.to_ndarray(), frame.to_ndarray()
    kept = one.copy()
    other.fill(7)
    assert np.array_equal(one, kept)
    assert np.array_equal(frame.to_ndarray(), kept)


def test_numpy_takes_a_frame_for_an_array(frame: braidcast.Frame) -> None:
    assert np.array_equal(np.asarray(frame), frame.to_ndarray())
    assert np.asarray(frame, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy"):
        np.asarray(frame, copy=False)


def test_an_unknown_format_is_told_with_those_that_are_known(frame: braidcast.Frame) -> None:
    with pytest.raises(ValueError, match=r"'yuv444p'.*'rgb24', 'bgr24', 'gray8' or 'yuv420p'"):
        frame.to_ndarray(format="yuv444p")


def test_a_frame_shows_itself(frame: braidcast.Frame) -> None:
    assert repr(frame) == "<braidcast.Frame 0 at 0.000 s: 320x240 yuv420p, key>"


def test_frames_are_not_made_or_changed_by_hand(frame: braidcast.Frame) -> None:
    with pytest.raises(TypeError):
        braidcast.Frame()
    with pytest.raises(AttributeError):
        frame.index = 3  # type: ignore[misc]
