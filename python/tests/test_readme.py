"""README's Python lines do what they say, from any directory."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def test_readme_shows_python() -> None:
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("block", BLOCKS)
def test_readmes_lines_run(profile: Path, tmp_path: Path, block: str) -> None:
    script = tmp_path / "lines.py"
    script.write_text(block)
    subprocess.run(
        [sys.executable, "-W", "error", script],
        check=True,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        env={"BRAIDCAST_PROFILE": str(profile), "PATH": ""},
        timeout=120,
    )
