"""Whole files."""

from pathlib import Path

import braidcast
import pytest
from support.clips import FILM, LONG_FILM
from support.cluster import Cluster


def test_the_report_tells_what_came_from_where(cluster: Cluster, films: Path, tmp_path: Path) -> None:
    report = braidcast.download(FILM, tmp_path / "copy.mp4", profile=cluster.profile)
    size = (films / FILM).stat().st_size
    assert report.name == FILM
    assert report.path == tmp_path / "copy.mp4"
    assert report.path.read_bytes() == (films / FILM).read_bytes()
    assert report.bytes == size
    assert report.resumed_bytes == 0
    assert report.verified
    assert report.seconds > 0
    assert sum(source.bytes for source in report.sources) >= size
    assert {source.address for source in report.sources} == {address for _, address in cluster.servers.values()}


def test_a_path_names_a_video(cluster: Cluster, films: Path, tmp_path: Path) -> None:
    report = braidcast.download(Path(FILM), tmp_path / "copy.mp4", profile=cluster.profile)
    assert report.name == FILM
    assert report.path.read_bytes() == (films / FILM).read_bytes()


def test_without_a_path_it_goes_into_the_working_directory(
    profile: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert profile.exists()
    monkeypatch.chdir(tmp_path)
    report = braidcast.download(FILM)
    assert report.path == Path(FILM)
    assert (tmp_path / FILM).read_bytes() == (films / FILM).read_bytes()


def test_progress_is_told_and_ends_at_the_whole(frail: Cluster, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = braidcast.download(
        LONG_FILM, tmp_path / "film", profile=frail.profile, progress=lambda done, total: told.append((done, total))
    )
    assert told[-1] == (report.bytes, report.bytes)
    assert all(total == report.bytes for _, total in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_an_exception_of_progress_ends_the_download(frail: Cluster, tmp_path: Path) -> None:
    def refuse(done: int, total: int) -> None:
        raise RuntimeError(f"enough at {done} of {total}")

    with pytest.raises(RuntimeError, match="enough at"):
        braidcast.download(LONG_FILM, tmp_path / "film", profile=frail.profile, progress=refuse)


def test_a_folder_that_is_not_there_is_told(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(braidcast.OutputError, match="no-folder"):
        braidcast.download(FILM, tmp_path / "no-folder" / "film", profile=cluster.profile)


def test_a_name_that_is_not_there(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(braidcast.NotFound, match="no-such"):
        braidcast.download("no-such", tmp_path / "film", profile=cluster.profile)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", ".."])
def test_a_name_never_chooses_a_folder(cluster: Cluster, name: str, tmp_path: Path) -> None:
    for path in (None, tmp_path):
        with pytest.raises(ValueError, match="say where to put it"):
            braidcast.download(name, path, profile=cluster.profile)
