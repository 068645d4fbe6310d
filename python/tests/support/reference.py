"""What the `ffmpeg` program itself decodes from a local file."""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import braidcast
import numpy as np
import numpy.typing as npt

# Nothing is turned, scaled, dropped or repeated.
DECODE = ("-map", "0:v:0", "-autoscale", "0", "-fps_mode", "passthrough")


@dataclass(frozen=True)
class Shown:
    """A picture as FFmpeg gives it."""

    digest: str
    pts: int | None
    width: int
    height: int
    pixel_format: str
    key_frame: bool


@dataclass(frozen=True)
class Reference:
    """A film as FFmpeg gives it."""

    pictures: list[Shown]
    time_base: Fraction


def run(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout


def reference(path: Path) -> Reference:
    """Decodes a film: the MD5 of the planes of every picture, and what FFmpeg says of it."""
    decoded = run("ffmpeg", "-loglevel", "error", "-noautorotate", "-i", path, *DECODE, "-f", "framemd5", "-").decode()
    digests = [line.split(",")[-1].strip() for line in decoded.splitlines() if not line.startswith("#")]
    entries = "stream=time_base:frame=pts,best_effort_timestamp,key_frame,width,height,pix_fmt"
    shown = run(
        "ffprobe", "-loglevel", "error", "-select_streams", "v:0", "-show_entries", entries, "-of", "json", path
    )
    probed: dict[str, Any] = json.loads(shown)
    frames = probed["frames"]
    assert len(frames) == len(digests), f"{path}: FFmpeg's programs disagree about the number of pictures"
    pictures = [
        Shown(
            digest=digest,
            pts=frame.get("pts", frame.get("best_effort_timestamp")),
            width=frame["width"],
            height=frame["height"],
            pixel_format=frame["pix_fmt"],
            key_frame=frame["key_frame"] == 1,
        )
        for digest, frame in zip(digests, frames, strict=True)
    ]
    return Reference(pictures, Fraction(probed["streams"][0]["time_base"]))


def converted(path: Path, pixel_format: str, size: tuple[int, int], samples: int) -> npt.NDArray[np.uint8]:
    """All pictures in another format: pictures x height x width x samples."""
    width, height = size
    decode = ("ffmpeg", "-loglevel", "error", "-noautorotate", "-i", path, *DECODE)
    raw = run(*decode, "-pix_fmt", pixel_format, "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape((-1, height, width, samples))


def digest(frame: braidcast.Frame) -> str:
    """The MD5 of a picture's planes, as FFmpeg computes it."""
    md5 = hashlib.md5(usedforsecurity=False)
    for plane in frame.planes():
        md5.update(np.ascontiguousarray(plane).data)
    return md5.hexdigest()
