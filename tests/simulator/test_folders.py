"""Folders of simulated daemons."""

from __future__ import annotations

from pathlib import Path

from gossamer.simulator.folders import SimulatedFolder


def test_a_simulated_daemons_status_is_at_hand_and_not_on_the_disk(tmp_path: Path) -> None:
    folder = SimulatedFolder(tmp_path / "0")
    assert folder.status is None

    folder.write_status({"round": 3})

    assert folder.status == {"round": 3}
    assert not (tmp_path / "0" / "status.json").exists()
    assert folder.next_incarnation(7.0) == 7
    assert (tmp_path / "0" / "incarnation").exists()
