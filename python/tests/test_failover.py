"""Servers die while a film plays."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import braidcast
import pytest
from support.clips import LONG_FILM, LONG_FILM_SECONDS, RATE
from support.cluster import Cluster
from support.reference import Reference, digest, reference

# How long any picture is waited for: generous, since other work may share the machine. Whether a film stands still is
# judged by the simulator ("a film survives the death of its best source") and the lab (`film-30-dies`).
PATIENCE_SECONDS = 60.0
# Stats are renewed ten times a second.
STATS_SECONDS = 0.5
# The master's minute, and some to spare.
FORGIVEN_SECONDS = 120.0


@pytest.fixture(scope="module")
def expected(long_films: Path) -> Reference:
    return reference(long_films / LONG_FILM)


@pytest.fixture
def mortal(frail: Cluster) -> Iterator[Cluster]:
    """Servers that are brought back after the test if they were killed."""
    before = dict(frail.servers)
    killed: list[int] = []

    def kill(server: int) -> None:
        killed.append(server)
        type(frail).kill(frail, server)

    frail.kill = kill  # type: ignore[method-assign]
    yield frail
    del frail.kill
    for server in killed:
        if frail.servers[server] == before[server]:
            frail.restart(server)
    frail.wait_listed()


async def play(video: braidcast.Video, expected: Reference, events: dict[float, Callable[[], None]]) -> None:
    """Plays at the film's pace; at some of its times something happens. No picture is lost or wrong."""
    pending = sorted(events.items())
    start: float | None = None
    for number, shown in enumerate(expected.pictures):
        if start is not None:
            await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
        frame = await video.get_next_frame(timeout=PATIENCE_SECONDS)
        assert frame is not None, f"the film ended before picture {number}"
        start = start if start is not None else time.monotonic()
        assert frame.index == number
        assert digest(frame) == shown.digest, f"planes of picture {number}"
        while pending and frame.time >= pending[0][0]:
            pending.pop(0)[1]()
    assert await video.get_next_frame() is None
    assert not pending


@pytest.mark.parametrize("victims", [[2], [1, 3]], ids=["one", "two"])
def test_not_a_picture_is_lost_or_wrong_when_servers_die_while_a_film_is_watched(
    mortal: Cluster, expected: Reference, victims: list[int]
) -> None:
    def killer(server: int) -> Callable[[], None]:
        return lambda: mortal.kill(server)

    events = {2.0 + 4.0 * number: killer(server) for number, server in enumerate(victims)}
    with mortal.open(LONG_FILM, ahead=10.0) as video:
        asyncio.run(play(video, expected, events))
        stats = video.stats
    assert stats.pictures == LONG_FILM_SECONDS * RATE
    assert stats.decode_errors == 0


@pytest.mark.parametrize("victims", [[2], [1, 3]], ids=["one", "two"])
def test_not_a_picture_is_lost_or_wrong_when_servers_die_while_they_send(
    mortal: Cluster, expected: Reference, victims: list[int]
) -> None:
    addresses = {mortal.address(server) for server in victims}
    with mortal.open(LONG_FILM, ahead=1.0) as video:
        for number, shown in enumerate(expected.pictures):
            if number == 100:
                for server in victims:
                    mortal.kill(server)
            assert digest(next(video)) == shown.digest, f"planes of picture {number}"
        assert next(video, None) is None
        sources = {source.address: source for source in video.stats.sources}
    # The dead gave something at most until they died; the rest came from those who live.
    assert sum(sources[address].bytes for address in addresses) < video.bytes / 2
    assert all(sources[address].state != "up" for address in addresses if sources[address].failed)
    assert not any(source.failed for address, source in sources.items() if address not in addresses)


def open_from_all(cluster: Cluster) -> braidcast.Video:
    """Opens the film once the master names all servers for it: for a minute it leaves out those that failed before."""
    end = time.monotonic() + FORGIVEN_SECONDS
    while True:
        video = cluster.open(LONG_FILM, ahead=2.0)
        time.sleep(STATS_SECONDS)
        if len(video.stats.sources) == len(cluster.servers):
            return video
        video.close()
        assert time.monotonic() < end, "a server that was reported is never named again"
        time.sleep(1)


def test_when_all_servers_die_they_are_named_and_a_new_open_works_after_a_restart(
    mortal: Cluster, expected: Reference
) -> None:
    addresses = {mortal.address(server) for server in mortal.servers}
    with open_from_all(mortal) as video:
        count = 1
        next(video)
        for server in list(mortal.servers):
            mortal.kill(server)
        with pytest.raises(braidcast.NoSources) as caught:
            for frame in video:
                assert digest(frame) == expected.pictures[count].digest
                count += 1
        assert count < LONG_FILM_SECONDS * RATE
    assert {address for address, _ in caught.value.sources} == addresses
    assert all(address in str(caught.value) for address in addresses)

    for server in list(mortal.servers):
        mortal.restart(server)
    with mortal.open(LONG_FILM) as video:
        assert digest(next(video)) == expected.pictures[0].digest
