"""Films made by FFmpeg: every container, and everything that makes decoding in order hard."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECONDS = 2
RATE = 25


def ffmpeg(*arguments: str | Path) -> None:
    """Runs FFmpeg, quietly."""
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *arguments], check=True)


def encode(
    out: Path,
    *options: str,
    size: str = "176x144",
    seconds: float = SECONDS,
    rate: int = RATE,
    tones: int = 1,
) -> None:
    """Encodes FFmpeg's moving test picture, with as many audio tracks as asked for."""
    inputs = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"]
    maps = ["-map", "0:v"]
    for tone in range(tones):
        inputs += ["-f", "lavfi", "-i", f"sine=frequency={440 * (tone + 1)}:duration={seconds}"]
        maps += ["-map", f"{tone + 1}:a"]
    ffmpeg(*inputs, *maps, *options, out)


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "2", "-g", "25")
AAC = ("-c:a", "aac")


def edit_list(out: Path) -> None:
    """Starts to be shown in the middle of a group of pictures."""
    whole = out.with_suffix(".whole.mp4")
    encode(whole, *H264, *AAC, seconds=3)
    ffmpeg("-ss", "1.3", "-i", whole, "-c", "copy", out)
    whole.unlink()


def rotated(out: Path) -> None:
    """Held in portrait."""
    plain = out.with_suffix(".plain.mp4")
    encode(plain, *H264, *AAC)
    ffmpeg("-i", plain, "-c", "copy", "-metadata:s:v:0", "rotate=90", out)
    plain.unlink()


def size_change(out: Path) -> None:
    """The pictures change their size in the middle."""
    parts = []
    for number, size in enumerate(["176x144", "128x96"]):
        part = out.with_suffix(f".{number}.ts")
        encode(part, *H264, size=size, seconds=1, tones=0)
        parts.append(part)
    out.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()


def subtitled(out: Path) -> None:
    """Two languages and subtitles."""
    text = out.with_suffix(".srt")
    text.write_text("1\n00:00:00,100 --> 00:00:01,500\nHello\n")
    video = ["-f", "lavfi", "-i", f"testsrc2=size=176x144:rate={RATE}:duration={SECONDS}"]
    tones = [f"sine=frequency={hertz}:duration={SECONDS}" for hertz in (440, 880)]
    audio = [part for tone in tones for part in ("-f", "lavfi", "-i", tone)]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "2:a", "-map", "3:s"]
    languages = ["-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"]
    ffmpeg(*video, *audio, "-i", text, *maps, *H264, "-c:a", "libmp3lame", "-c:s", "srt", *languages, out)
    text.unlink()


@dataclass(frozen=True)
class Clip:
    """A film and how it is made."""

    name: str
    make: Callable[[Path], None]


def clip(name: str, *options: str, tones: int = 1) -> Clip:
    """A film that one run of FFmpeg encodes."""
    return Clip(name, lambda out: encode(out, *options, tones=tones))


ODD = ("-vf", "scale=161:91")
OPEN_GOP = "open-gop=1:keyint=20:min-keyint=20:bframes=3:scenecut=0"
VFR = ("-vf", "select=not(mod(n\\,3))+not(mod(n\\,5))", "-fps_mode", "vfr")

MATRIX = [
    clip("bframes.mp4", *H264, "-bf", "3", "-preset", "veryfast", *AAC),
    clip("open-gop.mov", *H264, "-preset", "veryfast", "-x264-params", OPEN_GOP, "-c:a", "pcm_s16le"),
    clip("hevc-10bit.mkv", "-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le",
         "-x265-params", "log-level=none:bframes=3", "-c:a", "flac"),
    clip("vp9-odd.webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus",
         *ODD),
    clip("vp8.webm", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libvorbis"),
    clip("av1.mkv", "-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-c:a", "ac3"),
    clip("mpeg2.mpg", "-c:v", "mpeg2video", "-bf", "2", "-q:v", "4", "-c:a", "mp2", "-f", "vob"),
    clip("mpeg1.mpg", "-c:v", "mpeg1video", "-bf", "2", "-q:v", "4", "-c:a", "mp2"),
    clip("h264.ts", *H264, "-c:a", "mp2"),
    clip("mpeg4.avi", "-c:v", "mpeg4", "-bf", "2", "-q:v", "4", "-c:a", "libmp3lame"),
    clip("h264.avi", *H264, "-bf", "3", "-preset", "veryfast", "-c:a", "libmp3lame"),
    clip("mjpeg-odd.avi", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "3", "-c:a", "pcm_s16le", *ODD),
    clip("prores.mov", "-c:v", "prores_ks", "-pix_fmt", "yuv422p10le", "-c:a", "pcm_s16le"),
    clip("vfr.mp4", *H264, *VFR, *AAC),
    clip("key-frames-only.mp4", *H264, "-g", "1", *AAC),
    clip("one-key-frame.mp4", *H264, "-g", "9999", "-x264-params", "scenecut=0", *AAC),
    clip("fragmented.mp4", *H264, "-movflags", "frag_keyframe+empty_moov", *AAC),
    clip("yuv444-silent.mkv", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p", *ODD, tones=0),
    Clip("edit-list.mp4", edit_list),
    Clip("rotated.mp4", rotated),
    Clip("size-change.ts", size_change),
    Clip("two-languages.mkv", subtitled),
]  # fmt: skip

FILM = "film.mp4"
FILM_SECONDS = 4
NOTES = "notes.txt"


def make_films(folder: Path) -> None:
    """Fills a folder with the matrix, a plain film, and a file that is none."""
    for each in MATRIX:
        each.make(folder / each.name)
    encode(folder / FILM, *H264, *AAC, size="320x240", seconds=FILM_SECONDS)
    (folder / NOTES).write_text("No film at all.\n" * 100)


LONG_FILM = "long.mp4"
LONG_FILM_SECONDS = 24


def make_long_film(folder: Path) -> None:
    """Some megabytes: more than twice of what is fetched ahead."""
    encode(folder / LONG_FILM, *H264, "-b:v", "3M", *AAC, size="640x360", seconds=LONG_FILM_SECONDS)
