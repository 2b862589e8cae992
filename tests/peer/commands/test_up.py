"""What `up` does when a daemon fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.peer.commands import up
from gossamer.peer.commands.swarm import Child, Swarm
from gossamer.protocol.errors import GossamerError


def test_a_daemon_that_fails_ends_a_run_in_which_nothing_moves_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "STALLED_S", 0.0)
    failing = child(tmp_path, 0, "import sys; sys.exit('out of memory')")
    living = child(tmp_path, 1, "import sys; sys.stdin.read()")
    swarm = Swarm([failing, living], tmp_path / "manifest.toml", [], tmp_path / "owner.key")

    try:
        with pytest.raises(GossamerError, match="daemon 0 failed: out of memory"):
            up._watch(swarm, [], 10)
        assert living.running
        assert not living.failed
    finally:
        swarm.stop()
        swarm.close()
        for one in (failing, living):
            assert one.process is not None
            assert one.process.stdin is not None
            one.process.stdin.close()


def child(folder: Path, number: int, code: str) -> Child:
    home = folder / str(number)
    home.mkdir()
    with (home / "daemon.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=log)
    return Child(number=number, folder=home, peer_id=f"peer {number}", process=process)
