"""Memory is bounded by the window, however long the film."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clips import AAC, H264, encode, ffmpeg
from support.cluster import Cluster

HOURS = "two-hours.mp4"
LAP_SECONDS = 60
LAPS = 120
MEMORY_BYTES_MAX = 200 * 1024 * 1024

CONSUMER = """
import json, sys, time
import braidcast
from support.process import memory_bytes

video = braidcast.open(sys.argv[1], profile=sys.argv[2])
for _ in range(50):
    next(video)
time.sleep(3)
stopped = memory_bytes()
for _ in range(2000):
    next(video)
video.seek(5400)
frame = next(video)
time.sleep(3)
print(json.dumps({
    "duration": video.duration, "pictures": video.frame_count, "time": frame.time,
    "stopped": stopped, "most": memory_bytes("VmHWM"), "fetched": video.stats.bytes,
}))
"""


@pytest.fixture
def hours(tmp_path: Path) -> Iterator[Cluster]:
    """A film of two hours, by stream copy of one minute."""
    lap, films = tmp_path / "lap.mp4", tmp_path / "films"
    films.mkdir()
    encode(lap, *H264, *AAC, size="320x240", seconds=LAP_SECONDS)
    ffmpeg("-stream_loop", str(LAPS - 1), "-i", lap, "-c", "copy", films / HOURS)
    cluster = Cluster(films, tmp_path / "state")
    yield cluster
    cluster.close()


def test_a_stopped_consumer_of_a_two_hour_film_stays_small(hours: Cluster) -> None:
    here = str(Path(__file__).parent)
    run = subprocess.run(
        [sys.executable, "-c", CONSUMER, HOURS, hours.profile],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=here,
        env={"PYTHONPATH": here, "PATH": ""},
        timeout=200,
    )
    told = json.loads(run.stdout)
    assert told["duration"] == pytest.approx(LAPS * LAP_SECONDS, rel=0.01)
    assert told["pictures"] > 175_000
    assert told["time"] == pytest.approx(5400, abs=0.1)
    assert told["stopped"] < MEMORY_BYTES_MAX
    assert told["most"] < MEMORY_BYTES_MAX
    # The window bounds what is fetched, too: the whole film is some hundreds of megabytes.
    assert told["fetched"] < (hours.films / HOURS).stat().st_size / 4
