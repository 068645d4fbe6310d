"""The event loop's way to the pictures."""

import asyncio
import random

import braidcast
import pytest
from support.clips import FILM, FILM_SECONDS, LONG_FILM, RATE
from support.cluster import Cluster
from support.process import held, more_than

PICTURES = FILM_SECONDS * RATE


def test_every_picture_and_then_none(cluster: Cluster) -> None:
    async def play() -> list[int]:
        indices = []
        with cluster.open(FILM) as video:
            while (frame := await video.get_next_frame(timeout=30)) is not None:
                indices.append(frame.index)
            assert await video.get_next_frame(timeout=30) is None
        return indices

    assert asyncio.run(play()) == list(range(PICTURES))


def test_async_for_gives_the_same(cluster: Cluster) -> None:
    async def play() -> list[int]:
        with cluster.open(FILM) as video:
            return [frame.index async for frame in video]

    assert asyncio.run(play()) == list(range(PICTURES))


def test_other_tasks_run_while_pictures_come_fast(cluster: Cluster) -> None:
    async def play() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        with cluster.open(FILM) as video:
            async for _ in video:
                pass
        counting.cancel()
        return turns

    assert asyncio.run(play()) >= PICTURES


def test_a_timeout_is_the_builtin_one_and_loses_no_picture(frail: Cluster) -> None:
    async def play() -> None:
        with frail.open(LONG_FILM) as video:
            with frail.stopped():
                video.seek(20)
                # A picture or two may have been on their way.
                with pytest.raises(TimeoutError, match=r"no picture within 0\.05 s"):
                    for _ in range(100):
                        last = await video.get_next_frame(timeout=0.05)
                        assert last is not None
            following = await video.get_next_frame(timeout=30)
            assert following is not None
            rest = [following.index] + [frame.index async for frame in video]
            assert rest == list(range(rest[0], rest[0] + len(rest)))

    asyncio.run(play())


def test_impatient_calls_get_every_picture_once(cluster: Cluster) -> None:
    """Time-outs of no time at all, and cancellations at every moment, among the calls."""

    async def play() -> list[int]:
        draw = random.Random(1)
        indices: list[int] = []
        with cluster.open(FILM) as video:
            while True:
                call = asyncio.create_task(video.get_next_frame(timeout=draw.choice([0, 0.0005, 0.005, None])))
                if draw.random() < 0.5:
                    await asyncio.sleep(draw.choice([0, 0, 0.0005, 0.002]))
                    # A task that is done cannot be cancelled: its picture is there to be had.
                    call.cancel()
                try:
                    frame = await call
                except (TimeoutError, asyncio.CancelledError):
                    continue
                if frame is None:
                    return indices
                indices.append(frame.index)

    assert asyncio.run(play()) == list(range(PICTURES))


def test_several_tasks_wait_on_one_video(frail: Cluster) -> None:
    async def play() -> list[int]:
        with frail.open(LONG_FILM) as video:
            with frail.stopped():
                video.seek(12)
                calls = [asyncio.create_task(video.get_next_frame()) for _ in range(40)]
                await asyncio.sleep(0.3)
            frames = await asyncio.wait_for(asyncio.gather(*calls), 60)
            return [frame.index for frame in frames if frame is not None]

    indices = asyncio.run(play())
    assert sorted(indices) == list(range(12 * RATE, 12 * RATE + 40))


def events() -> int:
    """How many events this process has that may be waited for."""
    return sum("eventfd" in descriptor for descriptor in held().descriptors)


def test_cancelling_a_call_that_waits_leaves_nothing_behind(frail: Cluster) -> None:
    async def play() -> None:
        with frail.open(LONG_FILM) as video, frail.stopped():
            video.seek(23)
            calls = [asyncio.create_task(video.get_next_frame()) for _ in range(100)]
            await asyncio.sleep(0.3)
            before = events()
            waiting = [call for call in calls if not call.done()]
            assert len(waiting) >= 50
            for call in waiting:
                call.cancel()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
            # Their events alone: the client itself may just be trying another way to servers that are silent.
            assert events() <= before - len(waiting)

    with frail.open(LONG_FILM) as video:
        next(video)
    before = held()
    asyncio.run(play())
    assert more_than(before) == ""


def test_closing_wakes_those_who_wait(frail: Cluster) -> None:
    async def play() -> None:
        video = frail.open(LONG_FILM)
        with frail.stopped():
            video.seek(23)
            calls = [asyncio.create_task(video.get_next_frame()) for _ in range(30)]
            await asyncio.sleep(0.3)
            video.close()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        closed = [outcome for outcome in outcomes if isinstance(outcome, braidcast.ClosedError)]
        frames = [outcome for outcome in outcomes if isinstance(outcome, braidcast.Frame)]
        assert closed
        assert len(closed) + len(frames) == len(outcomes)

    asyncio.run(play())
