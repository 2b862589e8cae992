"""Real daemons in processes of their own, a real DHT, TLS, and kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import safetensors.numpy

from gossamer.peer.checkpoints import load_newest
from gossamer.peer.membership import redeem
from gossamer.peer.network.config import NetworkConfig
from gossamer.peer.network.real import RealNetwork
from gossamer.protocol.identity import Identity
from gossamer.protocol.invites import Invite, parse_invite

from .swarms import gossamer, up

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

DIGITS = ("--task", "digits", "--peers", "3")
PAIR = ("--task", "digits", "--peers", "2")
"""Where nobody dies: starting a daemon takes seconds."""


def test_killed_and_restarted_daemon_ends_with_the_same_state(tmp_path: Path) -> None:
    summary = up(*DIGITS, "--steps", "900", "--kill", "2@40:restart", out=tmp_path / "run")

    assert summary["steps"] == 900
    assert summary["resyncs"] >= 1
    assert len(set(summary["state_digests"].values())) == 1
    assert len(summary["state_digests"]) == 3
    assert Path(summary["report"]).stat().st_size > 100_000


def test_run_survives_the_death_of_a_leader(tmp_path: Path) -> None:
    summary = up(*DIGITS, "--steps", "150", "--kill", "leader@30", out=tmp_path / "run")

    assert summary["steps"] == 150
    assert len(set(summary["state_digests"].values())) == 1
    assert len(summary["state_digests"]) == 2


def test_stop_and_resume_equals_an_undisturbed_run(tmp_path: Path) -> None:
    common = (*PAIR, "--method", "demo", "--steps", "40", "--strict")

    whole = up(*common, out=tmp_path / "whole")
    up(*common, "--stop-at", "20", out=tmp_path / "parts")
    done = gossamer("up", "--resume", str(tmp_path / "parts"), "--json")

    assert done.returncode == 0, done.stderr[-3000:]
    assert set(whole["state_digests"].values()) == {next(iter(set(whole["state_digests"].values())))}
    resumed = json.loads(done.stdout)
    assert next(iter(whole["state_digests"].values())) in resumed["state_digests"].values()
    assert resumed["bytes_sent_per_peer_per_step"] == pytest.approx(whole["bytes_sent_per_peer_per_step"], rel=0.15)
    assert "--stop-at 20" in resumed["command"]


def test_interrupt_of_the_process_group_leaves_checkpoints_and_no_process(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "gossamer.cli", "up", *PAIR, "--steps", "100000", "--out", str(out), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    _wait_for_rounds(out, process)
    family = psutil.Process(process.pid).children(recursive=True)

    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 1
    assert b"gossamer up --resume" in stderr
    _, alive = psutil.wait_procs(family, timeout=12)
    assert not alive
    assert all(any((out / "peers" / str(number) / "checkpoints").iterdir()) for number in range(2))


def _wait_for_rounds(out: Path, process: subprocess.Popen[bytes]) -> None:
    log, deadline_s = out / "peers" / "1" / "events.jsonl", time.monotonic() + 90
    while not (log.exists() and b"round_ended" in log.read_bytes()):
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_kill_of_up_itself_leaves_checkpoints_and_no_process(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "gossamer.cli", "up", *PAIR, "--steps", "100000", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    _wait_for_rounds(out, process)
    family = psutil.Process(process.pid).children(recursive=True)

    process.kill()
    process.wait(timeout=10)
    _, alive = psutil.wait_procs(family, timeout=15)

    assert not alive
    assert len(family) >= 4  # two daemons, and the libp2p daemon of each
    assert all(load_newest(out / "peers" / str(number)).checkpoint.step > 0 for number in range(2))


def test_address_that_nobody_listens_on_is_named(tmp_path: Path) -> None:
    made = gossamer("run", "new", str(tmp_path / "run"), "--task", "digits", "--open", timeout_s=60)
    nobody = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
    manifest = str(tmp_path / "run" / "manifest.toml")

    done = gossamer("peer", "--run", manifest, "--join", nobody, "--folder", str(tmp_path / "peer"))

    assert made.returncode == 0, made.stderr
    assert done.returncode == 1
    assert f"{nobody}: connection refused" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_invited_newcomer_needs_one_line(tmp_path: Path) -> None:
    run, owner_folder, newcomer = tmp_path / "run", tmp_path / "owner", tmp_path / "newcomer"
    made = gossamer("run", "new", str(run), "--task", "digits", "--steps", "30", "--start-peers", "2", timeout_s=60)
    assert made.returncode == 0, made.stderr
    owner = _spawn("peer", "--run", str(run / "manifest.toml"), "--owner-key", str(run / "owner.key"),
                   "--folder", str(owner_folder), "--json")  # fmt: skip
    try:
        _wait_for_file(owner_folder / "addresses.json", owner)
        invite = gossamer("run", "invite", str(owner_folder), "--owner-key", str(run / "owner.key"), timeout_s=60)
        used = gossamer("run", "invite", str(owner_folder), "--owner-key", str(run / "owner.key"), timeout_s=60)
        asyncio.run(_redeem(parse_invite(used.stdout), tmp_path / "other.key"))
        again = gossamer("peer", used.stdout.strip(), "--folder", str(tmp_path / "late"), "--json")
        joined = gossamer("peer", invite.stdout.strip(), "--folder", str(newcomer), "--json")
        told, _ = owner.communicate(timeout=60)
    finally:
        if owner.poll() is None:
            owner.kill()
            owner.wait(timeout=10)

    assert joined.returncode == 0, joined.stderr
    assert json.loads(joined.stdout)["digest"] == json.loads(told)["digest"]
    assert again.returncode == 1
    assert "redeemed by another peer: ask" in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1
    exported = gossamer("export", str(newcomer), str(tmp_path / "model.safetensors"), timeout_s=60)
    assert exported.returncode == 0
    assert safetensors.numpy.load_file(tmp_path / "model.safetensors")


async def _redeem(invite: Invite, key: Path) -> None:
    """Be another newcomer, who was quicker."""
    identity = Identity.load_or_create(key)
    config = NetworkConfig(run_id=invite.run_id, identity_path=key, bootstrap=invite.addresses)
    network = await RealNetwork.open(identity, config)
    try:
        await redeem(network, invite)
    finally:
        await network.close()


def _spawn(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gossamer.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)


def _wait_for_file(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
