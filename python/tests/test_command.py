"""The `braidcast` command, as the wheel carries it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.clips import FILM, NOTES
from support.cluster import BRAIDCAST, Cluster

SCRIPT = (str(Path(sys.executable).parent / "braidcast"),)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("command", [BRAIDCAST, SCRIPT], ids=["module", "script"])
def test_it_is_there_by_both_names(command: tuple[str, ...], cluster: Cluster) -> None:
    done = run(*command, "ls", "--profile", cluster.profile)
    assert done.returncode == 0, done.stderr
    assert FILM in done.stdout
    assert NOTES in done.stdout


def test_help_and_version_and_wrong_usage_have_their_exit_codes() -> None:
    assert run(*BRAIDCAST, "--help").returncode == 0
    assert run(*BRAIDCAST, "--version").stdout.startswith("braidcast ")
    assert run(*BRAIDCAST, "no-such-command").returncode == 2


def test_errors_go_to_standard_error_with_their_exit_code(cluster: Cluster) -> None:
    done = run(*BRAIDCAST, "get", "no-such.mp4", "-o", "/dev/null", "--profile", cluster.profile)
    assert done.returncode == 4
    assert done.stderr.startswith("braidcast: ")
    assert done.stdout == ""


def test_get_prints_its_report(cluster: Cluster, films: Path, tmp_path: Path) -> None:
    done = run(*BRAIDCAST, "get", FILM, "-o", tmp_path / "film", "--json", "--profile", cluster.profile)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verified"] is True
    assert (tmp_path / "film").read_bytes() == (films / FILM).read_bytes()


def test_a_film_is_published_by_the_wheels_own_probe(frail: Cluster, films: Path) -> None:
    done = run(*BRAIDCAST, "publish", films / "bframes.mp4", "--name", "mine.mp4", "--profile", frail.profile)
    assert done.returncode == 0, done.stderr
    frail.wait_held("mine.mp4")
    with frail.open("mine.mp4") as video:
        assert sum(1 for _ in video) == video.frame_count
    assert run(*BRAIDCAST, "rm", "mine.mp4", "--profile", frail.profile).returncode == 0


def test_the_command_starts_without_numpy() -> None:
    program = "import sys, braidcast._cli; sys.exit('numpy' in sys.modules)"
    assert run(sys.executable, "-c", program).returncode == 0
