"""What there is to watch."""

import os

from braidcast import _native
from braidcast._records import CatalogueEntry


def list_videos(*, profile: str | os.PathLike[str] | None = None) -> list[CatalogueEntry]:
    """Every video that the master has, by name.

    Args:
        profile: The profile to use; None finds it as `open` does.

    Raises:
        ProfileError, AuthenticationError, MasterUnavailable, MasterError
    """
    return _native.list_videos(profile)
