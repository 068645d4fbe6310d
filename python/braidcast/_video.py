"""Films that play."""

import asyncio
import os
from fractions import Fraction
from types import TracebackType
from typing import Self

from braidcast import _native
from braidcast._native import Frame
from braidcast._records import Film, Stats, Track

BUFFER_BYTES = 32 * 1024 * 1024
"""Encoded bytes that a `Video` holds at most, unless `open` is told otherwise: 32 MiB."""


def open(
    name: str | os.PathLike[str],
    *,
    profile: str | os.PathLike[str] | None = None,
    ahead: float = 10.0,
    buffer_bytes: int = BUFFER_BYTES,
    threads: int = 0,
    max_rate: float | None = None,
    trace: str | os.PathLike[str] | None = None,
) -> "Video":
    """Opens a film to be played, and starts to fetch and decode it.

    It asks the master, which takes a few round trips, and waits up to 10 s for a server to hold the film, where it was
    published a moment ago; in an event loop call it by `asyncio.to_thread`.

    Args:
        name: The film's name, as `list_videos` gives it; a path stands for its text.
        profile: The profile to use; None is `$BRAIDCAST_PROFILE`, or the first that exists of
            `./.braidcast/profile.toml` and `~/.config/braidcast/profile.toml`.
        ahead: Seconds of film to fetch ahead of the picture that was taken last.
        buffer_bytes: Encoded bytes to hold at most; the smaller of this and `ahead` counts.
        threads: Threads that decode; 0 is one per core. Each holds a picture or two in memory.
        max_rate: Bytes of packets to take per second at most, from all servers together; None is no bound.
        trace: A file to write what was done and when into, one JSON object a line; `braidcast trace` draws it. It is
            complete once the video is closed. None writes nothing.

    Raises:
        ValueError: `ahead`, `buffer_bytes` or `max_rate` is not above 0, or `threads` not between 0 and 64.
        OutputError: The file of the trace cannot be written.
        NotAFilm: The video was published as plain bytes; `download` fetches it.
        NotFound, NoSources, ProfileError, AuthenticationError, MasterUnavailable, MasterError, ResourceError
    """
    return Video(_native.open(os.fspath(name), (profile, max_rate, trace), ahead, buffer_bytes, threads))


class Video:
    """A film that plays: its pictures in the order in which they are shown.

    Made by `open`. Pictures are fetched and decoded ahead of the consumer, within the bounds given there; a consumer
    that stops makes all else stop, too. A video is its own iterator, as a file is; it may be used from several
    threads and tasks, each of which then gets some of the pictures.

    Close it, or leave its `with` block, to end its threads; dropping the last reference does the same.
    """

    __slots__ = ("__weakref__", "_film", "_player")

    _film: Film
    _player: _native.Player

    def __init__(self, player: _native.Player) -> None:
        """Takes what plays the film. Call `open` instead."""
        self._player = player
        self._film = player.film

    @property
    def name(self) -> str:
        """The name under which the film was published."""
        return self._film.name

    @property
    def container(self) -> str:
        """FFmpeg's name of the file's format, as in "mov,mp4,m4a,3gp,3g2,mj2"."""
        return self._film.container

    @property
    def bytes(self) -> int:
        """Length of the published file."""
        return self._film.bytes

    @property
    def codec(self) -> str:
        """FFmpeg's name of the pictures' codec, as in "h264"."""
        return self._film.codec

    @property
    def width(self) -> int:
        """Width of the pictures as they are coded, in pixels. A `Frame` has its own: some films change in between."""
        return self._film.width

    @property
    def height(self) -> int:
        """Height of the pictures as they are coded, in pixels."""
        return self._film.height

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the pictures' format, as in "yuv420p"."""
        return self._film.pixel_format

    @property
    def frame_rate(self) -> Fraction | None:
        """Mean number of pictures per second; None where it is not known."""
        return self._film.frame_rate

    @property
    def fps(self) -> float:
        """Mean number of pictures per second, as near as it is known; 0.0 for a film without duration."""
        if self._film.frame_rate is not None:
            return float(self._film.frame_rate)
        return self._film.frame_count / self._film.duration if self._film.duration > 0 else 0.0

    @property
    def frame_count(self) -> int:
        """Pictures that the film shows from start to end."""
        return self._film.frame_count

    @property
    def duration(self) -> float:
        """Seconds from the start of the first picture to the end of the last."""
        return self._film.duration

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of `Frame.pts`."""
        return self._film.time_base

    @property
    def rotation(self) -> float:
        """Degrees, counter-clockwise, by which to turn the pictures for display. Frames are not turned."""
        return self._film.rotation

    @property
    def sample_aspect_ratio(self) -> Fraction | None:
        """Width of a pixel by its height; None where it is not known."""
        return self._film.sample_aspect_ratio

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks of the file, in its order. The pictures are those of the first that is video."""
        return self._film.tracks

    @property
    def stats(self) -> Stats:
        """What came from where so far. Of a closed video, how it stood at its end."""
        return self._player.stats()

    @property
    def closed(self) -> bool:
        """The video was closed."""
        return self._player.closed

    def seek(self, seconds: float) -> None:
        """Goes to the picture that is shown at a time; it is the next to come. Returns at once.

        Works after the last picture, too. Pictures that wait to be taken, and what was fetched for them, are dropped.

        Args:
            seconds: Time from the film's first picture: from 0 to before `duration`.

        Raises:
            ValueError: The film has no such time; nothing has changed then.
            ClosedError, ForkError
        """
        self._player.seek(seconds)

    async def get_next_frame(self, timeout: float | None = None) -> Frame | None:
        """The next picture, or None after the last.

        A call that times out or is cancelled takes no picture: the next call gets it.

        Args:
            timeout: Seconds to wait for it; None waits as long as it takes.

        Raises:
            TimeoutError: It was not there in time. The builtin one.
            NoSources, IntegrityError, DecodeError, ClosedError, ForkError, MasterUnavailable, MasterError
        """
        # Other tasks run even while pictures come faster than they are used.
        await asyncio.sleep(0)
        try:
            return self._player.take()
        except BlockingIOError:
            pass
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await _readable(self._player.fileno())
                    # Nothing is awaited from here on: a picture that was taken is returned.
                    try:
                        return self._player.take()
                    except BlockingIOError:
                        continue
        except TimeoutError:
            raise TimeoutError(f"{self._film.name!r}: no picture within {timeout} s") from None

    def close(self) -> None:
        """Ends the video and all of its threads. Whoever waits for a picture gets a `ClosedError`. Idempotent."""
        self._player.close()

    def __enter__(self) -> Self:
        """The video itself."""
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the video."""
        self.close()

    def __iter__(self) -> Self:
        """The video itself: it goes on from where it stands."""
        return self

    def __next__(self) -> Frame:
        """Waits for the next picture. Raises what `get_next_frame` does, but for `TimeoutError`."""
        frame = self._player.next()
        if frame is None:
            raise StopIteration
        return frame

    def __aiter__(self) -> Self:
        """The video itself: it goes on from where it stands."""
        return self

    async def __anext__(self) -> Frame:
        """As `get_next_frame` without a time-out."""
        frame = await self.get_next_frame()
        if frame is None:
            raise StopAsyncIteration
        return frame

    def __repr__(self) -> str:
        """The film's name, size, rate, length and codec."""
        film = self._film
        closed = ", closed" if self.closed else ""
        return (
            f"<braidcast.Video {film.name!r}: {film.width}x{film.height}, {self.fps:.6g} fps, "
            f"{film.duration:.3f} s, {film.codec}{closed}>"
        )


async def _readable(fd: int) -> None:
    """Waits until `fd` can be read, in the running event loop."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    # A loop takes one reader per descriptor: every task that waits brings a descriptor of its own.
    own = os.dup(fd)
    try:
        loop.add_reader(own, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(own)
    finally:
        os.close(own)


def _wake(ready: asyncio.Future[None]) -> None:
    # The loop may call this again before the task has run.
    if not ready.done():
        ready.set_result(None)
