"""Every picture of every kind of film is the one that FFmpeg decodes from the local file."""

import hashlib
from pathlib import Path

import braidcast
import numpy as np
import pytest
from support.clips import MATRIX
from support.cluster import Cluster
from support.reference import converted, digest, reference

NAMES = [clip.name for clip in MATRIX]
# Of 256: swscale's fast paths round differently on other strides and widths.
LEVELS = 2


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_ffmpegs_in_number_order_time_and_every_bit(cluster: Cluster, films: Path, name: str) -> None:
    expected = reference(films / name)
    with cluster.open(name) as video:
        assert video.time_base == expected.time_base
        assert video.frame_count == len(expected.pictures)
        first: int | None = None
        for number, shown in enumerate(expected.pictures):
            frame = next(video)
            assert frame.index == number
            assert (frame.width, frame.height) == (shown.width, shown.height), f"size of picture {number}"
            assert frame.format == shown.pixel_format
            assert frame.pts == shown.pts, f"time of picture {number}"
            assert frame.key_frame == shown.key_frame, f"key flag of picture {number}"
            assert digest(frame) == shown.digest, f"planes of picture {number}"
            if frame.pts is not None:
                first = frame.pts if first is None else first
                assert frame.time == pytest.approx(float((frame.pts - first) * video.time_base), abs=1e-6)
        assert next(video, None) is None
        assert video.stats.decode_errors == 0
        assert video.stats.pictures == len(expected.pictures)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "size-change.ts"])
def test_rgb_is_what_ffmpegs_scaler_makes(cluster: Cluster, films: Path, name: str) -> None:
    with cluster.open(name) as video:
        frames = list(video)
    size = frames[0].width, frames[0].height
    expected = converted(films / name, "rgb24", size, 3)
    assert len(frames) == len(expected)
    for frame, wanted in zip(frames, expected, strict=True):
        array = frame.to_ndarray(format="rgb24")
        assert array.shape == wanted.shape
        difference = np.abs(array.astype(np.int16) - wanted.astype(np.int16)).max()
        assert difference <= LEVELS, f"{frame!r} is off by {difference}"


def test_a_film_that_changes_its_size_gives_frames_of_either_size(cluster: Cluster) -> None:
    with cluster.open("size-change.ts") as video:
        shapes = [frame.to_ndarray().shape for frame in video]
    assert shapes[0] == (144, 176, 3)
    assert shapes[-1] == (96, 128, 3)
    assert set(shapes) == {shapes[0], shapes[-1]}


@pytest.mark.parametrize("name", NAMES)
def test_a_download_is_byte_for_byte_what_was_published(
    cluster: Cluster, films: Path, tmp_path: Path, name: str
) -> None:
    report = braidcast.download(name, tmp_path / name, profile=cluster.profile)
    published = hashlib.sha256((films / name).read_bytes()).hexdigest()
    assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == published
    assert report.verified
