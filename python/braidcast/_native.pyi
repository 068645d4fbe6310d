"""The part of the package that is written in Rust (`bindings/`)."""

import os
from collections.abc import Callable, Sequence
from typing import Literal, final, overload

import numpy as np
import numpy.typing as npt

from braidcast._records import CatalogueEntry, DownloadReport, Film, Stats

__all__ = ["Frame", "Player", "__version__", "cli", "download", "list_videos", "open", "probe"]

__version__: str

@final
class Frame:
    """A decoded picture of a film."""

    @property
    def index(self) -> int:
        """Number of the picture in the order in which pictures are shown, from 0."""
    @property
    def pts(self) -> int | None:
        """Presentation time as it stands in the file, in units of `Video.time_base`; None where it has none."""
    @property
    def time(self) -> float:
        """Seconds from the film's first picture."""
    @property
    def key_frame(self) -> bool:
        """The picture was coded without reference to others."""
    @property
    def width(self) -> int:
        """Width in pixels."""
    @property
    def height(self) -> int:
        """Height in pixels."""
    @property
    def format(self) -> str:
        """FFmpeg's name of the format in which the picture was coded, as in "yuv420p"."""
    @overload
    def to_ndarray(self, format: Literal["rgb24", "bgr24", "gray8"] = "rgb24") -> npt.NDArray[np.uint8]: ...
    @overload
    def to_ndarray(
        self, format: Literal["yuv420p"]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]: ...
    @overload
    def to_ndarray(
        self, format: str
    ) -> npt.NDArray[np.uint8] | tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """The picture as an array of its own, converted with FFmpeg's default scaler.

        Args:
            format: "rgb24" or "bgr24": height x width x 3. "gray8": height x width. "yuv420p": a tuple of Y, height x
                width, and U and V, half of each, rounded up. All are uint8.

        Raises:
            ValueError: `format` is none of these.
            DecodeError: FFmpeg cannot convert this picture.
        """
    def planes(self) -> tuple[npt.NDArray[np.uint8] | npt.NDArray[np.uint16], ...]:
        """The planes of the picture as it was coded, each an array of its own: bit for bit what FFmpeg decodes.

        A plane is height x width, or height x width x samples where samples are interleaved (NV12, packed RGB); planes
        of colour may be smaller. uint8, or uint16 where a sample has more than 8 bits.

        Raises:
            DecodeError: The format packs samples in a way that arrays cannot show, as v210 does; use `to_ndarray`.
        """
    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[np.generic]:
        """What `to_ndarray("rgb24")` gives, for `numpy.asarray`. It is always a copy: `copy=False` is a ValueError."""

@final
class Player:
    """What plays a film. `Video` is the face that it shows."""

    @property
    def film(self) -> Film:
        """What the film is."""
    @property
    def closed(self) -> bool:
        """It was closed."""
    def take(self) -> Frame | None:
        """The next picture, or None after the last. Never waits: raises `BlockingIOError` if it would have to."""
    def next(self) -> Frame | None:
        """The next picture, or None after the last. Waits, with the GIL released, and lets Ctrl-C through."""
    def fileno(self) -> int:
        """A descriptor that is readable while `take` would not raise `BlockingIOError`. It is the player's own."""
    def seek(self, seconds: float) -> None:
        """As `Video.seek`."""
    def stats(self) -> Stats:
        """As `Video.stats`."""
    def close(self) -> None:
        """As `Video.close`."""

_Fetching = tuple[str | os.PathLike[str] | None, float | None, str | os.PathLike[str] | None]
"""Profile, `max_rate` and `trace`."""

def open(name: str, fetching: _Fetching, ahead: float, buffer_bytes: int, threads: int) -> Player:
    """As `braidcast.open`."""

def download(
    name: str,
    path: str | os.PathLike[str] | None,
    fetching: _Fetching,
    progress: Callable[[int, int], object] | None,
    background: bool,
) -> DownloadReport:
    """As `braidcast.download`."""

def list_videos(profile: str | os.PathLike[str] | None) -> list[CatalogueEntry]:
    """As `braidcast.list_videos`."""

def cli(arguments: Sequence[str], relaunch: Sequence[str], probe: Sequence[str]) -> int:
    """Runs the `braidcast` command and gives its exit code.

    Args:
        arguments: The program's name, then its arguments.
        relaunch: Program and first arguments by which the command starts itself.
        probe: Program and first arguments by which it starts `probe`.
    """

def probe(arguments: Sequence[str]) -> int:
    """Runs `braidcast-probe` with these arguments, and gives its exit code."""
