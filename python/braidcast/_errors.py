"""The one tree of exceptions. `bindings/src/errors.rs` decides which is raised for what."""

from collections.abc import Sequence


class BraidcastError(Exception):
    """Something went wrong. The message names the culprit and what to do about it."""


class ProfileError(BraidcastError):
    """The profile cannot be found or read, or says something that makes no sense."""


class AuthenticationError(BraidcastError):
    """The master refused the login, the account may not do this, or the master's certificate is not to be trusted."""


class NotFound(BraidcastError):
    """There is no such video."""


class NotAFilm(BraidcastError):
    """The video was published as plain bytes: it can be downloaded, and has no frames."""


class MasterUnavailable(BraidcastError):
    """The master cannot be reached, or does not answer in time."""


class MasterError(BraidcastError):
    """The master was reached, and refused the request or failed."""


class NoSources(BraidcastError):
    """No media server sends anything.

    Attributes:
        sources: Address of each server that was tried, and what is wrong with it; empty if the master names none.
    """

    sources: tuple[tuple[str, str], ...]

    def __init__(self, message: str, sources: Sequence[tuple[str, str]] = ()) -> None:
        """Takes the message, and the servers with what is wrong with them."""
        super().__init__(message)
        self.sources = tuple(sources)

    def __reduce__(self) -> tuple[type["NoSources"], tuple[str, tuple[tuple[str, str], ...]]]:
        """Keeps the servers when the exception goes to another process."""
        return type(self), (str(self), self.sources)


class IntegrityError(BraidcastError):
    """What arrived is not what was published: no server has a right copy, or pictures shown early are wrong."""


class DecodeError(BraidcastError):
    """The film's frames cannot be decoded."""


class OutputError(BraidcastError):
    """The file of a download cannot be written."""


class ResourceError(BraidcastError):
    """The system gives no thread, socket or memory."""


class ClosedError(BraidcastError):
    """The video was closed."""


class ForkError(BraidcastError):
    """The video was opened by the process that this one was forked from; open it here."""
