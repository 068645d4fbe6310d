"""The prototype's client: six fetchers fill a window of frames, which come out in order."""

import asyncio
import json
import pickle
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
import numpy.typing as npt

protos, services = grpc.protos_and_services("distribution.proto")

FETCHERS = 6
WINDOW_FRAMES = 2_000
BATCH_FRAMES = 20
"""Frames that one TCP connection brings."""

Picture = npt.NDArray[np.uint8]


class Client:
    """A film that plays from its start, within an `async with` block."""

    def __init__(self, master: str, name: str) -> None:
        """Takes the master's address and the film's name."""
        self._master = master
        self._name = name
        self._ranges: asyncio.Queue[Any] = asyncio.Queue()
        self._window: dict[int, Picture] = {}
        self._next = 0
        self._end: int | None = None
        self._changed = asyncio.Condition()
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Starts to fetch."""
        await self._group.__aenter__()
        work = [self._ask(), *(self._fetch() for _ in range(FETCHERS))]
        self._tasks = [self._group.create_task(each) for each in work]
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends all tasks; raises what one of them has failed with."""
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(exception_type, exception, traceback)

    async def get_next_frame(self, timeout: float | None = None) -> Picture | None:
        """The next picture, or None after the last. Raises `TimeoutError` if it was not there in time."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: self._next in self._window or self._next == self._end)
            if self._next == self._end:
                return None
            picture = self._window.pop(self._next)
            self._next += 1
            self._changed.notify_all()
            return picture

    async def _ask(self) -> None:
        """Asks the master for a window, and for the next one when half of it was taken."""
        begin = 0
        async with grpc.aio.insecure_channel(self._master) as channel:
            master = services.MasterStub(channel)
            while self._end is None:
                async with self._changed:
                    await self._changed.wait_for(lambda: begin <= self._next + WINDOW_FRAMES // 2)  # noqa: B023
                end = self._next + WINDOW_FRAMES
                request = protos.DistributionRequest(filename=self._name, beginFrame=begin, endFrame=end)
                reply = await master.GetDistribution(request)
                for each in reply.distribution:
                    self._ranges.put_nowait(each)
                    begin = each.endFrame
                if reply.endOfFile:
                    async with self._changed:
                        self._end = begin
                        self._changed.notify_all()

    async def _fetch(self) -> None:
        """Takes one range after another, and brings it batch by batch."""
        while True:
            each = await self._ranges.get()
            for begin in range(each.beginFrame, each.endFrame, BATCH_FRAMES):
                end = min(begin + BATCH_FRAMES, each.endFrame)
                pictures = await self._batch(each.endpoint, begin, end)
                async with self._changed:
                    self._window.update(enumerate(pictures, begin))
                    self._changed.notify_all()

    async def _batch(self, endpoint: str, begin: int, end: int) -> list[Picture]:
        host, port = endpoint.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(json.dumps([self._name, begin, end]).encode() + b"\n")
            # Pickles run what they are told to: this was never fit for a server that one does not own.
            pictures: list[Picture] = pickle.loads(await reader.read())
        finally:
            writer.close()
        if len(pictures) != end - begin:
            raise RuntimeError(f"{endpoint} sent {len(pictures)} frames from {begin} on, not {end - begin}")
        return pictures
