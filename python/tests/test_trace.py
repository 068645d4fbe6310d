"""Rates that are bounded, and traces of what was done."""

import json
import subprocess
from pathlib import Path
from typing import Any

import braidcast
import pytest
from support.clips import FILM, LONG_FILM
from support.cluster import BRAIDCAST, Cluster


def read(trace: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in trace.read_text().splitlines()]


def of_type(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [record for record in records if record["type"] == name]


def test_a_download_is_traced(cluster: Cluster, films: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    report = braidcast.download(FILM, tmp_path / "film", profile=cluster.profile, trace=trace)
    records = read(trace)
    assert (records[0]["type"], records[0]["version"]) == ("trace", 1)
    assert records[0]["stream_bytes"] == report.bytes == (films / FILM).stat().st_size
    assert records[-1]["type"] == "end"
    met = {record["source"]: record["address"] for record in of_type(records, "source")}
    assert set(met.values()) == {address for _, address in cluster.servers.values()}
    extents = [record for record in of_type(records, "extent") if record["stream"] == records[0]["stream"]]
    assert sum(extent["bytes"] for extent in extents) == report.bytes
    assert all(source in met for extent in extents for source, _ in extent["origins"])
    last = {sample["source"]: sample["bytes"] for sample in of_type(records, "sample")}
    assert sum(last.values()) == sum(source.bytes for source in report.sources)
    assert of_type(records, "window_sample")[-1]["written_bytes"] == report.bytes


def test_a_film_is_traced_until_it_is_closed_and_can_be_drawn(cluster: Cluster, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    with braidcast.open(FILM, profile=cluster.profile, trace=trace) as video:
        assert sum(1 for _ in video) == video.frame_count
        video.seek(1.0)
        next(video)
    records = read(trace)
    assert records[0]["type"] == "trace"
    assert records[-1]["type"] == "end"
    assert len(of_type(records, "seek")) == 1
    assert of_type(records, "extent")
    subprocess.run([*BRAIDCAST, "trace", trace], check=True, stdin=subprocess.DEVNULL)
    assert trace.with_suffix(".svg").read_text().startswith("<svg")


def test_a_trace_that_cannot_be_written_is_told_before_anything_is_fetched(cluster: Cluster, tmp_path: Path) -> None:
    missing = tmp_path / "none" / "trace.jsonl"
    with pytest.raises(braidcast.OutputError, match=r"trace\.jsonl"):
        braidcast.download(FILM, tmp_path / "film", profile=cluster.profile, trace=missing)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(braidcast.OutputError, match=r"trace\.jsonl"):
        braidcast.open(FILM, profile=cluster.profile, trace=missing)


def test_a_download_takes_no_more_than_its_rate(frail: Cluster, tmp_path: Path) -> None:
    size = next(video.bytes for video in braidcast.list_videos(profile=frail.profile) if video.name == LONG_FILM)
    rate = size / 3
    report = braidcast.download(LONG_FILM, tmp_path / "film", profile=frail.profile, max_rate=rate)
    assert report.seconds > size / rate - 1


def test_a_film_with_a_bounded_rate_gives_the_same_pictures(cluster: Cluster) -> None:
    with braidcast.open(FILM, profile=cluster.profile, max_rate=4e6) as video:
        assert sum(1 for _ in video) == video.frame_count


def test_a_download_in_the_background_gives_the_same_bytes(cluster: Cluster, films: Path, tmp_path: Path) -> None:
    braidcast.download(FILM, tmp_path / "film", profile=cluster.profile, background=True)
    assert (tmp_path / "film").read_bytes() == (films / FILM).read_bytes()


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_told_with_its_value(cluster: Cluster, tmp_path: Path, rate: float) -> None:
    with pytest.raises(ValueError, match=rf"(?i)max_rate is {rate:g}, and must be"):
        braidcast.download(FILM, tmp_path / "film", profile=cluster.profile, max_rate=rate)
    with pytest.raises(ValueError, match=rf"(?i)max_rate is {rate:g}, and must be"):
        braidcast.open(FILM, profile=cluster.profile, max_rate=rate)
