"""Figures of speed, over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer.peer.events import Ended, Evaluated, EventLog, Started, Traffic, Trained
from gossamer.peer.report.run import load_run
from gossamer.peer.report.speed import Stretch, binned, loss_by_time, speed_figures


def _write(path: Path, *, busy_s: float, bits_per_s: int) -> None:
    """A peer that lives for a hundred seconds, and trains eight samples in each."""
    now_s = [0.0]
    log = EventLog(path, peer=path.parent.name, clock=lambda: now_s[0], unix=lambda: 1e9 + now_s[0])
    log.emit(Started(run_id="r", task="t", method="m", n_params=1, incarnation=1, address=""))
    for step in range(100):
        now_s[0] = step + 1.0
        log.emit(Trained(step=step, loss=1.0, samples=8, seconds=busy_s))
        log.emit(Traffic(sent={"round/offer": bits_per_s // 8 * (step + 1)}, received={}))
        if step % 50 == 0:
            log.emit(Evaluated(step=step, loss=1.0 / (step + 1)))
    log.emit(Ended(outcome="finished", step=100, round=100))
    log.close()


def test_speeds_are_what_the_peers_did(tmp_path: Path) -> None:
    _write(tmp_path / "peers" / "0" / "events.jsonl", busy_s=0.5, bits_per_s=8000)
    _write(tmp_path / "peers" / "1" / "events.jsonl", busy_s=0.25, bits_per_s=800)

    made = speed_figures(load_run(tmp_path))

    assert list(made["throughput"].data[0].y) == pytest.approx([16.0] * 50)
    assert list(made["utilisation"].data[0].y) == pytest.approx([0.375] * 50)
    assert {trace.name: trace.y[7] for trace in made["link-use"].data} == pytest.approx(
        {"busiest peer": 8000.0, "mean": 4400.0, "idlest peer": 800.0}
    )


def test_loss_is_shown_when_it_was_known(tmp_path: Path) -> None:
    _write(tmp_path / "peers" / "0" / "events.jsonl", busy_s=0.5, bits_per_s=8000)

    made = loss_by_time(load_run(tmp_path))

    assert made is not None
    assert list(made.data[0].x) == pytest.approx([1.0, 51.0])


def test_what_goes_on_across_bins_is_shared_between_them() -> None:
    rates = binned([Stretch(start_s=1.0, end_s=3.0, amount=4.0)], np.array([0.0, 2.0, 4.0, 6.0]))

    assert list(rates) == pytest.approx([1.0, 1.0, 0.0])
