"""The `braidcast` command, carried by the wheel."""

import signal
import sys
from pathlib import Path
from typing import NoReturn

from braidcast import _native


def main() -> NoReturn:
    """Runs the command that the arguments ask for, and ends with the exit code that `braidcast --help` lists."""
    # Python's handler only sets a flag, which nobody looks at in there; the command catches what it wants to.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    relaunch = [sys.executable, "-m", "braidcast"]
    probe = [sys.executable, "-S", str(Path(__file__).with_name("_probe.py"))]
    sys.exit(_native.cli(["braidcast", *sys.argv[1:]], relaunch, probe))
