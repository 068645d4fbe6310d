"""What is known about films, servers and downloads: plain data, made by `_native`."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One track of a film's file.

    Attributes:
        kind: "video", "audio" or "subtitle".
        codec: FFmpeg's name of the codec, as in "h264".
        language: ISO 639-2, as in "eng"; None where the file does not say.
    """

    kind: str
    codec: str
    language: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What a film is, known before its first picture. `Video` has the same attributes, and explains them."""

    name: str
    container: str
    bytes: int
    codec: str
    width: int
    height: int
    pixel_format: str
    frame_rate: Fraction | None
    frame_count: int
    duration: float
    time_base: Fraction
    rotation: float
    sample_aspect_ratio: Fraction | None
    tracks: tuple[Track, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A media server's part in a video that plays.

    Attributes:
        address: Where it serves, "ip:port".
        bytes: Payload bytes taken from it.
        lost: Chunks asked for that did not come.
        rejected: Packets that did not open: not sealed for this video, or damaged.
        failed: It failed at some time.
        state: How it stands now: "greeting", "up", "down" or "banned".
    """

    address: str
    bytes: int
    lost: int
    rejected: int
    failed: bool
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How a video plays, since it was opened.

    Attributes:
        bytes: Payload bytes taken from all servers.
        redundant_bytes: Of these, bytes that were there already or that a seek made useless.
        lists: Lists of servers that the master gave.
        redistributions: Of these, lists that it gave because a server failed.
        packets_early: Encoded frames that came before the hashes of their data were checked, where pictures were waited
            for; a wrong one raises `IntegrityError` later.
        packets: Encoded frames handed to the decoder.
        pictures: Pictures decoded.
        decode_errors: Encoded frames that the decoder found damaged.
        pictures_waiting: Pictures that are decoded and not taken yet.
        sources: The servers, in the order in which they were first named.
    """

    bytes: int
    redundant_bytes: int
    lists: int
    redistributions: int
    packets_early: int
    packets: int
    pictures: int
    decode_errors: int
    pictures_waiting: int
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadSource:
    """A media server's part in a download.

    Attributes:
        address: Where it serves, "ip:port".
        bytes: Payload bytes taken from it.
        lost: Chunks asked for that did not come.
        rejected: Packets that did not open.
        failed: It failed at some time.
    """

    address: str
    bytes: int
    lost: int
    rejected: int
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadReport:
    """How a download went.

    Attributes:
        name: The name under which the video was published.
        path: Where it stands.
        bytes: Length of the file.
        resumed_bytes: Of these, bytes that an earlier attempt had fetched.
        seconds: From the call to the last byte written.
        verified: Every extent's hash was checked.
        redundant_bytes: Payload received beyond the file's and its hash list's own.
        redistributions: New lists of servers that the master gave because one failed.
        sources: The servers, in the order in which they were first named.
    """

    name: str
    path: Path
    bytes: int
    resumed_bytes: int
    seconds: float
    verified: bool
    redundant_bytes: int
    redistributions: int
    sources: tuple[DownloadSource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A video that the master has.

    Attributes:
        name: The name to open or download it by.
        bytes: Length of the file.
        published_at: Unix time of its publication, in seconds.
        film: It has frames; else it was published as plain bytes.
        replicas_held: Media servers that hold all of it.
        replicas_wanted: Media servers that should.
        condition: State of the master's own copy: ``"sound"``, ``"damaged"`` or ``"lost"``. Media servers that hold the
            video serve it in any case.
        condition_reason: What was found and what is being done about it; empty while the copy is sound.
    """

    name: str
    bytes: int
    published_at: int
    film: bool
    replicas_held: int
    replicas_wanted: int
    condition: str
    condition_reason: str
