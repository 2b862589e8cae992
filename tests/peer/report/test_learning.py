"""Figures of what was learnt."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.peer.events import Evaluated, EventLog, Started, Traffic
from gossamer.peer.report.learning import loss_by_bytes
from gossamer.peer.report.run import load_run


def _write(path: Path, *, number: int, bytes_per_s: int, evaluated: tuple[int, ...] | None = None) -> None:
    """A peer that takes a step a second and evaluates after every second one, in turn with the other."""
    now_s = [0.0]
    log = EventLog(path, peer=f"peer-{number}", clock=lambda: now_s[0], unix=lambda: 1e9 + now_s[0])
    log.emit(Started(run_id="r", task="t", method="m", n_params=1, incarnation=1, address=""))
    if evaluated is not None and 0 in evaluated:
        log.emit(Evaluated(step=0, loss=2.0))
    for step in range(1, 7):
        now_s[0] = float(step)
        log.emit(Traffic(sent={"round/offer": bytes_per_s * step}, received={}))
        if step in evaluated if evaluated is not None else step % 2 == number:
            log.emit(Evaluated(step=step, loss=1.0 / step))
    log.close()


def test_loss_against_bytes_counts_all_peers_whoever_evaluated(tmp_path: Path) -> None:
    for number, bytes_per_s in ((0, 100), (1, 20)):
        _write(tmp_path / "peers" / str(number) / "events.jsonl", number=number, bytes_per_s=bytes_per_s)

    shown = loss_by_bytes(load_run(tmp_path), dense_bytes_per_step=0)

    assert shown is not None
    assert list(shown.data[0].x) == pytest.approx([60 * step for step in range(1, 7)])


@pytest.mark.parametrize("evaluated", [(0, 6), (6,), (0,)])
def test_one_evaluation_is_shown_with_the_start_if_that_is_known(tmp_path: Path, evaluated: tuple[int, ...]) -> None:
    _write(tmp_path / "events.jsonl", number=0, bytes_per_s=100, evaluated=evaluated)

    shown = loss_by_bytes(load_run(tmp_path), dense_bytes_per_step=0)

    lines = [] if shown is None else [list(zip(line.x, line.y, strict=True)) for line in shown.data]
    run, start = [(600.0, pytest.approx(1 / 6))], [(60.0, 2.0), (600.0, pytest.approx(1 / 6))]
    assert lines == {(0, 6): [run, start], (6,): [run], (0,): []}[evaluated]
