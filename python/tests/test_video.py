"""A video: what it tells of itself, and how it ends."""

import gc
import pickle
from fractions import Fraction
from pathlib import Path

import braidcast
import pytest
from support.clips import FILM, FILM_SECONDS, NOTES, RATE
from support.cluster import Cluster


def test_a_film_is_known_before_its_first_picture(cluster: Cluster, films: Path) -> None:
    with cluster.open(FILM) as video:
        assert video.name == FILM
        assert (video.width, video.height) == (320, 240)
        assert video.codec == "h264"
        assert video.pixel_format == "yuv420p"
        assert video.frame_rate == Fraction(RATE)
        assert video.fps == RATE
        assert video.frame_count == FILM_SECONDS * RATE
        assert video.duration == pytest.approx(FILM_SECONDS, abs=0.001)
        assert video.rotation == 0
        assert "mp4" in video.container
        assert video.bytes == (films / FILM).stat().st_size
        assert [track.kind for track in video.tracks] == ["video", "audio"]
        assert repr(video) == "<braidcast.Video 'film.mp4': 320x240, 25 fps, 4.000 s, h264>"


def test_a_path_names_a_film(cluster: Cluster) -> None:
    with braidcast.open(Path(FILM), profile=cluster.profile) as video:
        assert video.name == FILM
        assert next(video).index == 0


def test_tracks_tell_their_language(cluster: Cluster) -> None:
    with cluster.open("two-languages.mkv") as video:
        assert [(track.kind, track.language) for track in video.tracks] == [
            ("video", None),
            ("audio", "eng"),
            ("audio", "deu"),
            ("subtitle", None),
        ]


def test_rotation_is_told_and_not_applied(cluster: Cluster) -> None:
    with cluster.open("rotated.mp4") as video:
        assert abs(video.rotation) == 90
        assert next(video).to_ndarray().shape == (144, 176, 3)


def test_a_video_is_its_own_iterator_and_goes_on_where_it_stands(cluster: Cluster) -> None:
    with cluster.open(FILM) as video:
        assert iter(video) is video
        taken = [frame.index for frame, _ in zip(video, range(10), strict=False)]
        rest = [frame.index for frame in video]
        # `zip` takes one frame more than it gives.
        assert [*taken, 10, *rest] == list(range(FILM_SECONDS * RATE))
        assert list(video) == []


def test_stats_add_up(cluster: Cluster) -> None:
    with cluster.open(FILM) as video:
        pictures = sum(1 for _ in video)
        stats = video.stats
    assert stats.pictures == pictures
    assert stats.packets >= pictures
    assert stats.lists >= 1
    assert stats.redistributions == 0
    assert stats.decode_errors == 0
    assert stats.pictures_waiting == 0
    assert len(stats.sources) == 3
    assert {source.address for source in stats.sources} == {address for _, address in cluster.servers.values()}
    assert sum(source.bytes for source in stats.sources) == stats.bytes
    assert not any(source.failed for source in stats.sources)
    assert stats.bytes > 0


def test_a_closed_video_gives_no_more_pictures(cluster: Cluster) -> None:
    video = cluster.open(FILM)
    assert not video.closed
    next(video)
    video.close()
    video.close()
    assert video.closed
    assert video.width == 320
    assert repr(video).endswith(", closed>")
    assert video.stats.pictures >= 1
    with pytest.raises(braidcast.ClosedError):
        next(video)
    with pytest.raises(braidcast.ClosedError):
        video.seek(1)


def test_leaving_the_block_closes_even_after_an_exception(cluster: Cluster) -> None:
    with pytest.raises(RuntimeError, match="mine"), cluster.open(FILM) as video:
        raise RuntimeError("mine")
    assert video.closed


def test_a_name_that_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(braidcast.NotFound, match=r"no-such\.mp4"):
        cluster.open("no-such.mp4")


def test_plain_bytes_are_no_film_and_can_be_downloaded(cluster: Cluster, films: Path, tmp_path: Path) -> None:
    with pytest.raises(braidcast.NotAFilm, match=NOTES):
        cluster.open(NOTES)
    braidcast.download(NOTES, tmp_path, profile=cluster.profile)
    assert (tmp_path / NOTES).read_bytes() == (films / NOTES).read_bytes()


@pytest.mark.parametrize("options", [
    {"ahead": 0.0}, {"ahead": -1.0}, {"ahead": float("nan")}, {"ahead": float("inf")},
    {"buffer_bytes": 0}, {"buffer_bytes": -5}, {"threads": -1}, {"threads": 65},
])  # fmt: skip
def test_options_out_of_range_are_told_with_their_value(cluster: Cluster, options: dict[str, float]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=rf"(?i){name} is {value:g}.*, and must be"):
        cluster.open(FILM, **options)


def test_a_small_window_gives_the_same_pictures(cluster: Cluster) -> None:
    with cluster.open(FILM, ahead=0.5, buffer_bytes=400_000, threads=1) as video:
        assert [frame.index for frame in video] == list(range(FILM_SECONDS * RATE))


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "profile.toml"
    with pytest.raises(braidcast.ProfileError, match=str(missing)):
        braidcast.open(FILM, profile=missing)


def test_a_master_that_is_not_there(cluster: Cluster, tmp_path: Path) -> None:
    text = cluster.profile.read_text().splitlines()
    lines = ["master = '127.0.0.1:9'" if line.startswith("master") else line for line in text]
    other = tmp_path / "profile.toml"
    other.write_text("\n".join(lines))
    other.chmod(0o600)
    with pytest.raises(braidcast.MasterUnavailable, match=r"127\.0\.0\.1:9"):
        braidcast.open(FILM, profile=other)


def test_a_wrong_password(cluster: Cluster, tmp_path: Path) -> None:
    text = cluster.profile.read_text().splitlines()
    lines = ["password = 'nonesuch'" if line.startswith("password") else line for line in text]
    other = tmp_path / "profile.toml"
    other.write_text("\n".join(lines))
    other.chmod(0o600)
    with pytest.raises(braidcast.AuthenticationError, match="refused the login") as caught:
        braidcast.open(FILM, profile=other)
    assert "nonesuch" not in str(caught.value)


def test_every_error_is_of_one_tree() -> None:
    errors = [value for name in braidcast.__all__ if isinstance(value := getattr(braidcast, name), type)]
    exceptions = [error for error in errors if issubclass(error, Exception)]
    assert len(exceptions) > 10
    assert all(issubclass(error, braidcast.BraidcastError) for error in exceptions)


def test_no_sources_keeps_its_servers_in_another_process() -> None:
    error = braidcast.NoSources("nothing comes", [("127.0.0.1:1", "silent")])
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "nothing comes"
    assert copy.sources == (("127.0.0.1:1", "silent"),)


def test_the_catalogue_tells_films_from_files(cluster: Cluster, films: Path) -> None:
    entries = {entry.name: entry for entry in braidcast.list_videos(profile=cluster.profile)}
    assert set(entries) == {path.name for path in films.iterdir()}
    assert list(entries) == sorted(entries)
    assert entries[FILM].film
    assert not entries[NOTES].film
    assert entries[FILM].bytes == (films / FILM).stat().st_size
    assert entries[FILM].replicas_held == 3
    assert (entries[FILM].condition, entries[FILM].condition_reason) == ("sound", "")


def test_frames_outlive_their_video(cluster: Cluster) -> None:
    video = cluster.open(FILM)
    frame = next(video)
    del video
    gc.collect()
    assert frame.to_ndarray().any()
