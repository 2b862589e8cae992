"""The base install has no torch: the command must say what to install."""

from __future__ import annotations

import subprocess
import sys

BLOCKED = """
import sys
sys.modules["typer"] = None
from gossamer.cli import main
main()
"""


def test_missing_peer_extra_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "pip install 'gossamer[peer]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
