"""The base install has no torch: the command must say what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = """
import sys
sys.modules[sys.argv.pop(1)] = None
from gossamer.cli import main
main()
"""


@pytest.mark.parametrize(
    ("library", "arguments"),
    [("typer", ()), ("torch", ("up",)), ("hivemind", ("doctor",)), ("pydantic", ("run", "show", "."))],
)
def test_missing_peer_extra_is_named(library: str, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", BLOCKED, library, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert f"{library} is not installed: pip install 'gossamer[peer]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
