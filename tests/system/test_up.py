"""Real daemons in processes of their own, a real DHT, TLS, and kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from .swarms import gossamer, up

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

DIGITS = ("--task", "digits", "--peers", "4")


def test_killed_and_restarted_daemon_contributes_again(tmp_path: Path) -> None:
    summary = up(*DIGITS, "--steps", "1200", "--kill", "2@40:restart", out=tmp_path / "run")

    assert summary["steps"] == 1200
    assert summary["resyncs"] >= 1
    assert len(set(summary["state_digests"].values())) == 1
    assert len(summary["state_digests"]) == 4
    assert Path(summary["report"]).stat().st_size > 100_000


def test_run_survives_the_death_of_a_leader(tmp_path: Path) -> None:
    summary = up(*DIGITS, "--steps", "150", "--kill", "leader@30", out=tmp_path / "run")

    assert summary["steps"] == 150
    assert len(set(summary["state_digests"].values())) == 1
    assert len(summary["state_digests"]) == 3


def test_stop_and_resume_equals_an_undisturbed_run(tmp_path: Path) -> None:
    common = (*DIGITS, "--method", "demo", "--steps", "40", "--strict")

    whole = up(*common, out=tmp_path / "whole")
    up(*common, "--stop-at", "20", out=tmp_path / "parts")
    done = gossamer("up", "--resume", str(tmp_path / "parts"), "--json")

    assert done.returncode == 0, done.stderr[-3000:]
    assert set(whole["state_digests"].values()) == {next(iter(set(whole["state_digests"].values())))}
    assert next(iter(whole["state_digests"].values())) in done.stdout


def test_interrupt_of_the_process_group_leaves_checkpoints_and_no_process(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "gossamer.cli", "up", *DIGITS, "--steps", "100000", "--out", str(out), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    _wait_for_rounds(out, process)
    family = psutil.Process(process.pid).children(recursive=True)

    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 1
    assert b"gossamer up --resume" in stderr
    _, alive = psutil.wait_procs(family, timeout=12)
    assert not alive
    assert all(any((out / "peers" / str(number) / "checkpoints").iterdir()) for number in range(4))


def _wait_for_rounds(out: Path, process: subprocess.Popen[bytes]) -> None:
    log, deadline_s = out / "peers" / "3" / "events.jsonl", time.monotonic() + 90
    while not (log.exists() and b"round_ended" in log.read_bytes()):
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        (("up", "--task", "chras"), 2, "did you mean 'chars'"),
        (("up", "--method", "dmeo"), 2, "did you mean 'demo'"),
        (("up", "--set", "schedule.wramup_steps=3"), 2, "warmup_steps"),
        (("up", "--kill", "9@3"), 2, "PEER@STEP"),
        (("peer", "--run", "/nowhere/manifest.toml"), 2, "manifest"),
        (("peer", "gossamer1:abc"), 2, "invite"),
        (("status", "/nowhere"), 2, "no daemon"),
        (("export", "/nowhere", "model.safetensors"), 1, "checkpoint"),
    ],
)
def test_bad_input_is_one_line_that_names_the_remedy(arguments: tuple[str, ...], code: int, remedy: str) -> None:
    done = gossamer(*arguments, timeout_s=60)

    assert done.returncode == code
    assert remedy in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
