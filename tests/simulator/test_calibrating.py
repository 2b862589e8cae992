"""What `gossamer calibrate` measures can be used, and is of the right size."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from gossamer.algorithms import Exchange
from gossamer.peer.commands import order as orders
from gossamer.protocol import identity
from gossamer.protocol.errors import UsageError
from gossamer.protocol.manifest import Manifest
from gossamer.simulator import bookkeeping, calibrating, transport
from gossamer.simulator.commands.calibrate import Order, calibrate
from gossamer.simulator.companions import companions
from gossamer.simulator.costs import OFFERS, CostModel, load_costs
from gossamer.simulator.likeness import likeness_of
from gossamer.tasks import Task


def test_measured_costs_are_written_for_scenarios_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transport, "_CALLS", 80)

    costs = calibrate(Order(out=tmp_path / "costs.toml", task="digits", method="allreduce"), json_output=True)

    assert load_costs(tmp_path / "costs.toml") == costs
    assert '"handling"' in capsys.readouterr().out
    assert 1e6 < (costs.maths.flops_per_s or 0) < 1e13
    assert set(costs.maths.factor) == {"work", "encode", "apply", "evaluate", "reduce"}
    assert 1e-6 < costs.handling.message_s < 0.1
    assert 1e-6 < (costs.handling.chunk_s or 0.0) < 0.1
    assert 1e-6 < costs.handling.bookkeeping_s < 0.1
    assert isinstance(costs, CostModel)


def test_what_messages_cost_follows_from_calls_and_streams() -> None:
    handling = transport.handling_from(4e-4, 10e-4, 12e-4, n_bytes=100_000)

    assert (handling.message_s, handling.chunk_s) == (1e-4, 1.25e-4)
    assert handling.byte_s == pytest.approx(3e-9)


def test_what_one_peer_has_seen_spares_no_other_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Counter[bytes]()

    def check(public_key: bytes, framed: bytes, signature: bytes) -> None:
        checked[signature] += 1

    monkeypatch.setattr(identity, "_check_again", lru_cache(check))
    monkeypatch.setattr(bookkeeping, "_MESSAGES", 60)
    _, manifest = digits("demo")

    assert bookkeeping.measure_bookkeeping(manifest, Exchange.GATHER, n_members=4) < 0.1
    assert max(checked.values()) >= 3  # a contribution's header is checked by each of the three that get it


def test_only_contributions_that_come_whole_are_checked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookkeeping, "_MESSAGES", 60)

    gathers = calibrating._bookkeeping(*digits("demo"), 2)
    reduces = calibrating._bookkeeping(*digits(), 2)

    assert set(gathers["request_s"]) == set(OFFERS)
    assert all(1e-6 < seconds < 0.1 for seconds in gathers["request_s"].values())
    assert reduces["request_s"] == {}


def test_a_machine_that_is_shared_is_measured_with_its_other_peers_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    task, manifest = digits()
    made: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with companions(1, calibrating._turns, task, manifest, 2):
        (companion,) = made
        assert companion.poll() is None
        assert os.getpgid(companion.pid) != os.getpgid(0)  # Ctrl-C in a terminal is for us
        costs = calibrating.measure_maths(task, manifest, n_members=2)

    assert companion.returncode == 0  # it has seen that it is over
    assert 1e6 < (costs.flops_per_s or 0) < 1e13


@pytest.mark.parametrize(("schedule", "splits"), [("credit", True), ("1f1b", False)])
def test_stages_are_measured_as_their_daemons_pass_microbatches(schedule: str, splits: bool) -> None:
    options = ("task.d_model=32", "task.n_layers=3", "task.context=16", f"pipeline.schedule={schedule}")
    order = orders.Order(task="chars", method="allreduce", steps=100, batch=2, stages=3, options=options)
    manifest, task = orders.manifest_for(order, created="now", start_peers=3, policy="open")

    maths = calibrating.measure_maths(task, manifest, n_members=3)

    assert ("stage weights" in maths.factor) is splits
    assert all(0.01 < factor < 1000 for factor in maths.factor.values())
    assert 1e6 < (maths.flops_per_s or 0) < 1e13


def test_a_task_that_cannot_be_given_to_others_is_refused() -> None:
    task, manifest = digits()
    task.__dict__["of_mine"] = lambda: None

    with pytest.raises(UsageError, match="measure one at a time"), companions(1, calibrating._turns, task, manifest, 2):
        pass


def digits(method: str = "allreduce") -> tuple[Task, Manifest]:
    order = orders.Order(task="digits", method=method, steps=100, batch=8)
    manifest, task = orders.manifest_for(order, created="now", start_peers=2, policy="open")
    return task, manifest


def test_a_folder_without_a_run_is_no_likeness(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        likeness_of(tmp_path)
