"""Whatever becomes of a video: no thread, descriptor or memory is left of it."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable

import braidcast
import pytest
from support.clips import FILM, LONG_FILM
from support.cluster import Cluster
from support.process import held, memory_bytes, more_than

OPENED_AT_ONCE = 20
PATIENCE_SECONDS = 60
MIB = 1024 * 1024


def stop_in_the_middle(cluster: Cluster) -> None:
    with cluster.open(FILM) as video:
        for _ in range(30):
            next(video)


def drop_in_the_middle(cluster: Cluster) -> None:
    video = cluster.open(FILM)
    next(video)
    gone = weakref.ref(video)
    del video
    gc.collect()
    assert gone() is None


def drop_unused(cluster: Cluster) -> None:
    cluster.open(FILM)
    gc.collect()


def drop_in_a_cycle(cluster: Cluster) -> None:
    loop: list[object] = [cluster.open(FILM)]
    loop.append(loop)
    del loop
    gc.collect()


def raise_in_the_loop(cluster: Cluster) -> None:
    def use() -> None:
        with cluster.open(FILM) as video:
            for frame in video:
                assert frame.index < 10, "stop"

    with pytest.raises(AssertionError, match="stop"):
        use()


def raise_in_the_loop_without_a_block(cluster: Cluster) -> None:
    def use() -> None:
        for frame in cluster.open(FILM):
            if frame.index == 10:
                raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        use()
    gc.collect()


def fail_to_open(cluster: Cluster) -> None:
    with pytest.raises(braidcast.NotFound):
        cluster.open("no-such.mp4")


def cancel(cluster: Cluster) -> None:
    async def play() -> None:
        with cluster.open(FILM) as video:
            async for _ in video:
                await asyncio.sleep(0.01)

    async def play_a_little() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(play(), 0.05)

    asyncio.run(play_a_little())


def open_many(cluster: Cluster) -> None:
    videos = [cluster.open(FILM, threads=1) for _ in range(OPENED_AT_ONCE)]
    try:
        for _ in range(10):
            indices = {next(video).index for video in videos}
            assert len(indices) == 1
    finally:
        for video in videos:
            video.close()


USES = [
    stop_in_the_middle,
    drop_in_the_middle,
    drop_unused,
    drop_in_a_cycle,
    raise_in_the_loop,
    raise_in_the_loop_without_a_block,
    fail_to_open,
    cancel,
    open_many,
]


@pytest.mark.parametrize("use", USES)
def test_no_thread_or_descriptor_is_left(cluster: Cluster, use: Callable[[Cluster], None]) -> None:
    # The runtime's own threads stay; they are made by the first call.
    stop_in_the_middle(cluster)
    before = held()
    for _ in range(3):
        use(cluster)
    assert more_than(before) == ""


def test_close_ends_the_videos_threads_before_it_returns(cluster: Cluster) -> None:
    stop_in_the_middle(cluster)
    assert more_than(held()) == ""
    before = len(held().threads)
    video = cluster.open(FILM)
    next(video)
    assert len(held().threads) > before
    video.close()
    assert len(held().threads) <= before


def test_no_memory_is_left(cluster: Cluster) -> None:
    for _ in range(10):
        stop_in_the_middle(cluster)
    gc.collect()
    before = memory_bytes()
    for _ in range(40):
        stop_in_the_middle(cluster)
    gc.collect()
    # One video's pictures and packets are a few MiB: forty that stayed would be far above this.
    assert memory_bytes() - before < 48 * MIB


def test_frames_that_were_converted_leave_no_memory(cluster: Cluster) -> None:
    def convert(times: int) -> None:
        with cluster.open(FILM) as video:
            for frame in video:
                for _ in range(times):
                    frame.to_ndarray()
                    frame.planes()

    convert(5)
    before = memory_bytes()
    convert(50)
    assert memory_bytes() - before < 48 * MIB


def test_closing_wakes_a_thread_that_waits(frail: Cluster) -> None:
    outcomes: list[type[BaseException] | None] = []

    def wait(video: braidcast.Video) -> None:
        try:
            for _ in video:
                pass
            outcomes.append(None)
        except braidcast.BraidcastError as error:
            # Not the error itself: its traceback holds the video.
            outcomes.append(type(error))

    before = held()
    with frail.stopped():
        video = frail.open(LONG_FILM)
        video.seek(20)
        waiting = threading.Thread(target=wait, args=(video,))
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()
        video.close()
        waiting.join(PATIENCE_SECONDS)
        assert not waiting.is_alive()
    assert outcomes == [braidcast.ClosedError]
    del video
    assert more_than(before) == ""


def test_other_threads_run_while_one_waits(frail: Cluster) -> None:
    """The GIL is free: another thread gets on while one still waits, however long that takes."""
    with frail.stopped(), frail.open(LONG_FILM) as video:
        video.seek(20)
        done = threading.Event()

        def wait() -> None:
            with pytest.raises(braidcast.ClosedError):
                next(video)
            done.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.3)
        assert sum(1 for _ in range(10_000)) == 10_000
        assert not done.is_set()
        video.close()
        assert done.wait(PATIENCE_SECONDS)
        waiting.join()
