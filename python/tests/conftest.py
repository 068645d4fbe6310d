"""A Braidcast on loopback, with the films of `support.clips`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clips import make_films, make_long_film
from support.cluster import Cluster


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of films."""
    folder = tmp_path_factory.mktemp("films")
    make_films(folder)
    return folder


@pytest.fixture(scope="session")
def cluster(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three media servers that hold all films. Nobody harms them."""
    cluster = Cluster(films, tmp_path_factory.mktemp("cluster") / "state")
    yield cluster
    cluster.close()


@pytest.fixture
def profile(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The profile of the cluster, which is then the one that is found."""
    monkeypatch.setenv("BRAIDCAST_PROFILE", str(cluster.profile))
    return cluster.profile


@pytest.fixture(scope="session")
def long_films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the long film."""
    folder = tmp_path_factory.mktemp("long-films")
    make_long_film(folder)
    return folder


@pytest.fixture(scope="session")
def frail(long_films: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three media servers that hold the long film, to be killed and stopped; a test restores what it harmed."""
    cluster = Cluster(long_films, tmp_path_factory.mktemp("frail") / "state")
    yield cluster
    cluster.close()
