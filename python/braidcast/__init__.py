"""Frames and files of Braidcast, streamed from several media servers at once.

    import braidcast

    with braidcast.open("film.mp4") as video:
        for frame in video:
            picture = frame.to_ndarray(format="rgb24")  # height x width x 3, uint8

`open` finds the master as the `braidcast` command does: in `profile`, in `$BRAIDCAST_PROFILE`, in
`./.braidcast/profile.toml`, then in `~/.config/braidcast/profile.toml`. Every error of this package is a
`BraidcastError`; its message names the culprit and the remedy. Waiting, decoding and conversion release the GIL, and
Ctrl-C ends every call that waits.

Neither a `Video` nor its frames survive `os.fork`: a forked child opens videos of its own.
"""

from braidcast._catalogue import list_videos
from braidcast._download import download
from braidcast._errors import (
    AuthenticationError,
    BraidcastError,
    ClosedError,
    DecodeError,
    ForkError,
    IntegrityError,
    MasterError,
    MasterUnavailable,
    NoSources,
    NotAFilm,
    NotFound,
    OutputError,
    ProfileError,
    ResourceError,
)
from braidcast._native import Frame, __version__
from braidcast._records import CatalogueEntry, DownloadReport, DownloadSource, Source, Stats, Track
from braidcast._video import BUFFER_BYTES, Video, open

__all__ = [
    "BUFFER_BYTES",
    "AuthenticationError",
    "BraidcastError",
    "CatalogueEntry",
    "ClosedError",
    "DecodeError",
    "DownloadReport",
    "DownloadSource",
    "ForkError",
    "Frame",
    "IntegrityError",
    "MasterError",
    "MasterUnavailable",
    "NoSources",
    "NotAFilm",
    "NotFound",
    "OutputError",
    "ProfileError",
    "ResourceError",
    "Source",
    "Stats",
    "Track",
    "Video",
    "__version__",
    "download",
    "list_videos",
    "open",
]
