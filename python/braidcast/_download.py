"""Whole files."""

import os
from collections.abc import Callable

from braidcast import _native
from braidcast._records import DownloadReport


def download(
    name: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    profile: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
    max_rate: float | None = None,
    background: bool = False,
    trace: str | os.PathLike[str] | None = None,
) -> DownloadReport:
    """Fetches a whole video, byte for byte what was published, from all servers that hold it.

    While it is fetched the file is named `path` with `.part` at the end. A download that was interrupted goes on from
    there, in this or another process. A video that was published a moment ago is waited for, up to 10 s, until a server
    holds it.

    Args:
        name: The video's name, as `list_videos` gives it; a path stands for its text.
        path: The file to write, or a folder to write it into; None is the video's name in the working directory.
        profile: The profile to use; None finds it as `open` does.
        progress: Called about ten times a second, in this thread, with the bytes that are there and verified and the
            bytes of the file. An exception that it raises ends the download.
        max_rate: Bytes of packets to take per second at most, from all servers together; None is no bound.
        background: Take what other traffic leaves of the network, and give way to it.
        trace: A file to write what was done and when into, one JSON object a line; `braidcast trace` draws it. None
            writes nothing.

    Returns:
        What came from where.

    Raises:
        ValueError: `path` is None and the video's name cannot be a file's, or `max_rate` is not above 0.
        OutputError: The file, or that of the trace, cannot be written.
        NotFound, NoSources, IntegrityError, ProfileError, AuthenticationError, MasterUnavailable, MasterError
    """
    return _native.download(os.fspath(name), path, (profile, max_rate, trace), progress, background)
