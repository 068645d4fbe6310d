"""Whole files."""

import os
from collections.abc import Callable

from braidcast import _native
from braidcast._records import DownloadReport


def download(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    profile: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> DownloadReport:
    """Fetches a whole video, byte for byte what was published, from all servers that hold it.

    While it is fetched the file is named `path` with `.part` at the end. A download that was interrupted goes on from
    there, in this or another process.

    Args:
        name: The video's name, as `list_videos` gives it.
        path: The file to write, or a folder to write it into; None is the video's name in the working directory.
        profile: The profile to use; None finds it as `open` does.
        progress: Called about ten times a second, in this thread, with the bytes that are there and verified and the
            bytes of the file. An exception that it raises ends the download.

    Returns:
        What came from where.

    Raises:
        ValueError: `path` is None and the video's name cannot be a file's.
        OutputError: The file cannot be written.
        NotFound, NoSources, IntegrityError, ProfileError, AuthenticationError, MasterUnavailable, MasterError
    """
    return _native.download(name, path, profile, progress)
