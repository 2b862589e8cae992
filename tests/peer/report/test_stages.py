"""What the report says of a pipeline's stages."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from gossamer.peer.event_kinds import Joined, Settled, StepPassed
from gossamer.peer.events import EventLog
from gossamer.peer.report.page import render
from gossamer.peer.report.run import Run, load_run
from gossamer.peer.report.stages import moves_of, served_by, stage_figures

from .synthetic import Story, write_run

N_STEPS = 4


def passed(step: int, stage: int | None, *, backward: int = 2, rerouted: int = 0) -> StepPassed:
    return StepPassed(
        round=step - 1,
        step=step,
        stage=stage,
        counted=4,
        expected=4,
        forward_passes=3,
        backward_passes=backward,
        n_waiting_max=step,
        rerouted=rerouted,
        mended=0,
        duplicates_refused=0,
        discarded=0,
        busy_s=0.25,
        duration_s=1.0,
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two stages on three peers; the last goes over from stage 0 to stage 1 before the last step."""
    peers = ["peer-a", "peer-b", "peer-c"]
    for number, stage in enumerate((0, 1, 0)):
        at = [0.0]
        clock = partial(at.__getitem__, 0)
        folder = tmp_path / "peers" / str(number)
        folder.mkdir(parents=True)
        log = EventLog(folder / "events.jsonl", peer=peers[number], clock=clock, unix=lambda: 100.0)
        log.emit(Settled(stage=stage, n_stages=2, step=0, how="assigned"))
        log.emit(Joined(round=0, roster=tuple(peers), lineage="00", stages=(0, 1, 0)))
        for step in range(1, N_STEPS + 1):
            at[0] = float(step)
            if number == 2 and step == N_STEPS:
                log.emit(Settled(stage=1, n_stages=2, step=step, how="moved"))
                log.emit(Joined(round=3, roster=tuple(peers), lineage="00", stages=(0, 1, 1)))
            log.emit(passed(step, 1 if number == 2 and step == N_STEPS else stage, rerouted=int(step == 2)))
        log.close()
    return load_run(tmp_path)


def test_each_peer_is_told_with_all_it_did_and_by_the_stage_it_served_last(run: Run) -> None:
    first, *others = served_by(run)

    assert first.stages == (0,)
    assert sorted(one.stages for one in others) == [(0, 1), (1,)]
    assert (first.forward, first.backward, first.rerouted) == (12, 8, 1)
    assert first.n_waiting_max == N_STEPS
    assert first.idle == pytest.approx(0.75)


def test_moves_and_replicas_follow_from_the_logs(run: Run) -> None:
    (move,) = moves_of(run)
    figures = stage_figures(run)

    assert (move.before, move.after, move.at_s) == (0, 1, 4.0)
    replicas = [[int(count) for count in line.text] for line in figures["stage-replicas"].data]
    assert [counts[0] for counts in replicas] == [2, 1]
    assert [counts[-1] for counts in replicas] == [1, 2]
    assert [list(heat) for heat in figures["stage-routes"].data[0].z] == [[2.0] * N_STEPS] * 3


def test_who_only_trains_has_no_row_among_the_replicas(run: Run, tmp_path: Path) -> None:
    assert len(run.peers) == 3
    folder = tmp_path / "peers" / "3"
    folder.mkdir()
    log = EventLog(folder / "events.jsonl", peer="peer-d", clock=lambda: 1.0, unix=lambda: 100.0)
    log.emit(Settled(stage=None, n_stages=2, step=0, how="as told"))
    log.emit(passed(1, None, backward=0))
    log.close()
    told = load_run(tmp_path)

    last = served_by(told)[-1]
    figures = stage_figures(told)

    assert last.stages == ()
    assert len(figures["stage-routes"].data[0].z) == 3
    assert [name for bar in figures["stage-time"].data for name in bar.y if name.startswith("only trains")]
    assert len(moves_of(told)) == 1
    assert "only trains" in render(told)


def test_the_page_has_the_stages_of_a_pipeline_and_nothing_of_them_elsewhere(run: Run, tmp_path: Path) -> None:
    page = render(run)
    write_run(tmp_path / "whole", Story(n_steps=40, killed=None))
    whole = render(load_run(tmp_path / "whole"))

    for name in ("stage-replicas", "stage-queues", "stage-routes", "stage-reroutes", "stage-time"):
        assert f'data-figure="{name}"' in page
        assert name not in whole
    assert "from stage 0 to 1 at 4.0 s" in page
