"""Figures of what was learnt."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.peer.events import Evaluated, EventLog, Started, Traffic
from gossamer.peer.report.learning import loss_by_bytes
from gossamer.peer.report.run import load_run


def _write(path: Path, *, number: int, bytes_per_s: int) -> None:
    """A peer that takes a step a second and evaluates after every second one, in turn with the other."""
    now_s = [0.0]
    log = EventLog(path, peer=f"peer-{number}", clock=lambda: now_s[0], unix=lambda: 1e9 + now_s[0])
    log.emit(Started(run_id="r", task="t", method="m", n_params=1, incarnation=1, address=""))
    for step in range(1, 7):
        now_s[0] = float(step)
        log.emit(Traffic(sent={"round/offer": bytes_per_s * step}, received={}))
        if step % 2 == number:
            log.emit(Evaluated(step=step, loss=1.0 / step))
    log.close()


def test_loss_against_bytes_counts_all_peers_whoever_evaluated(tmp_path: Path) -> None:
    for number, bytes_per_s in ((0, 100), (1, 20)):
        _write(tmp_path / "peers" / str(number) / "events.jsonl", number=number, bytes_per_s=bytes_per_s)

    shown = loss_by_bytes(load_run(tmp_path), dense_bytes_per_step=0)

    assert shown is not None
    assert list(shown.data[0].x) == pytest.approx([60 * step for step in range(1, 7)])
