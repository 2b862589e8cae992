"""What a person can get wrong: one line on stderr that names the remedy, exit code 2 or 1, and never a traceback.

Most of it is found before anything is started, so the command's entry point is called in this process.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.cli import main
from gossamer.protocol.identity import Identity
from gossamer.protocol.invites import Invite
from gossamer.protocol.lock import held

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]

Told = tuple[int, str, str]
Typed = Callable[..., Told]

WITH_LITTLE_ROOM = """
import resource, sys
n_bytes = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
from gossamer.cli import main
main()
"""
"""Runs the command where no file may grow beyond so many bytes; writing more fails as on a full disk."""


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Typed:
    """Calls `gossamer` with some arguments in a folder of the test's own: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["gossamer", *arguments])
        capsys.readouterr()
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return call


def new_run(typed: Typed, name: str, *arguments: str) -> Path:
    code, _, told = typed("run", "new", name, "--task", "digits", *arguments)
    assert code == 0, told
    return Path(name)


def owners_peer(run: Path) -> tuple[str, ...]:
    return ("peer", "--run", f"{run}/manifest.toml", "--owner-key", f"{run}/owner.key", "--folder", f"{run}/peer")


UP = ("up", "--task", "digits")
NEW = ("run", "new", "r", "--task", "digits")


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        # names that do not exist
        (("pere",), 2, "Did you mean 'peer'?"),
        (("up", "--taks", "digits"), 2, "--task"),
        (("up", "--task", "chras"), 2, "did you mean 'chars'"),
        (("up", "--task", "no.such:thing"), 2, "PYTHONPATH"),
        (("up", "--task", "os:getpid"), 2, "subclass of gossamer.tasks.Task"),
        ((*UP, "--method", "dmeo"), 2, "did you mean 'demo'"),
        ((*UP, "--set", "schedule.wramup_steps=3"), 2, "warmup_steps"),
        ((*UP, "--set", "metod.k=3"), 2, "did you mean 'method'"),
        ((*UP, "--set", "method.kk=3"), 2, "did you mean 'k'"),
        ((*UP, "--set", "task.hiden=3"), 2, "did you mean 'hidden'"),
        ((*UP, "--set", "method.k"), 2, "TABLE.KEY=VALUE"),
        (("plan", "--run", "."), 2, "Missing option '--fleet'"),
        (("export",), 2, "Missing argument"),
        # numbers that make no sense
        ((*UP, "--lr", "nan"), 2, "schedule.lr"),
        ((*UP, "--lr", "-1"), 2, "greater than 0"),
        ((*NEW, "--lr", "inf"), 2, "finite"),
        ((*UP, "--peers", "0"), 2, "start 1 to 64"),
        ((*UP, "--steps", "-3"), 2, "gossamer up --help"),
        ((*UP, "--steps", "many"), 2, "valid integer"),
        ((*UP, "--batch", "99999999"), 2, "1048576"),
        ((*UP, "--set", "method.k=nan"), 2, "must be of type int"),
        ((*UP, "--set", "method.k=-1"), 2, "between 1"),
        ((*NEW, "--start-peers", "5000"), 2, "1024"),
        (("run", "invite", ".", "--days", "nan"), 2, "--days"),
        (("doctor", "--p2p-port", "99999"), 2, "65535"),
        (("peer", "gossamer1:AA", "--grpc-port", "-5"), 2, "--grpc-port"),
        # kills
        ((*UP, "--kill", "nonsense"), 2, "PEER@STEP[:restart]"),
        ((*UP, "--kill", "9@3"), 2, "PEER 0..3"),
        ((*UP, "--kill", "²@3"), 2, "PEER@STEP"),
        ((*UP, "--kill", "1@3:later"), 2, "[:restart]"),
        ((*UP, "--kill", "1@50", "--steps", "50"), 2, "ends at step 50"),
        ((*UP, "--stop-at", "50", "--steps", "10"), 2, "leave --stop-at out"),
        ((*UP, "--gateways", "3"), 2, "add --devices"),
        # files and folders
        ((*UP, "--data", "/dev/null"), 2, "leave it out"),
        (("up", "--task", "chars", "--data", "/nowhere"), 2, "--data FILE"),
        (("up", "--task", "chars", "--data", "noise"), 2, "not UTF-8"),
        (("up", "--task", "chars", "--data", "short"), 2, "longer"),
        (("up", "--task", "fashion", "--data", "."), 2, "apt-get install dataset-fashion-mnist"),
        ((*UP, "--out", "short"), 2, "choose another --out"),
        ((*UP, "--out", "."), 2, "choose another --out"),
        ((*UP, "--out", "short/below"), 1, "choose another"),
        (("up", "--resume", "/nowhere"), 2, "gossamer up --out"),
        (("run", "new", "short/below", "--task", "digits"), 1, "choose another"),
        (("run", "show", "short"), 2, "[signature]"),
        (("run", "show", "/nowhere"), 2, "manifest.toml"),
        (("run", "invite", "/nowhere"), 2, "no daemon has run"),
        (("peer",), 2, "gossamer run invite"),
        (("peer", "--run", "/nowhere/manifest.toml"), 2, "manifest.toml"),
        (("status", "/nowhere"), 2, "no daemon has run"),
        (("export", "/nowhere", "model.safetensors"), 2, "no daemon has run"),
        (("export", ".", "."), 2, "path of a file"),
        (("export", ".", "/nowhere/model.safetensors"), 2, "a folder that exists"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_one_line_that_names_the_remedy(
    typed: Typed, arguments: tuple[str, ...], code: int, remedy: str
) -> None:
    Path("short").write_text("five!")
    Path("noise").write_bytes(b"\xff\xfe\xfd" * 2000)

    ended, out, told = typed(*arguments)

    assert (ended, out) == (code, "")
    assert remedy in told
    assert told.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["noise", "short"]


def test_peer_that_does_not_fit_the_run_is_told_why(typed: Typed) -> None:
    run, other = new_run(typed, "run"), new_run(typed, "other", "--open")
    manifest, forged = f"{run}/manifest.toml", Path("forged.toml")
    forged.write_text((run / "manifest.toml").read_text().replace("steps = 1000", "steps = 1001"))
    Path("open.key").write_bytes((run / "owner.key").read_bytes())
    Path("open.key").chmod(0o644)
    peer = ("peer", "--run", manifest, "--folder", "peer")

    cases = [
        (typed(*peer), 1, "ask its owner"),
        (typed("peer", "--run", str(forged)), 1, "was changed after"),
        (typed("run", "show", str(forged)), 1, "was changed after"),
        (typed(*peer, "--owner-key", "absent.key"), 2, "gossamer run new"),
        (typed(*peer, "--owner-key", f"{other}/owner.key"), 2, "not the key of the run's owner"),
        (typed(*peer, "--owner-key", "open.key"), 1, "chmod 600"),
        (
            typed("peer", "--run", f"{other}/manifest.toml", "--folder", "b", "--join", "example.org"),
            2,
            "/ip4/HOST/tcp/PORT/p2p/PEER_ID",
        ),
        (typed("peer", "--run", manifest, "--folder", "forged.toml"), 1, "choose another"),
        (typed("up", "--task", "digits", "--out", str(run)), 2, "--resume run"),
        (typed("up", "--resume", str(run)), 2, "gossamer up --out"),
        (typed("run", "new", str(run), "--task", "digits"), 2, "choose another folder"),
    ]

    for (ended, _, told), code, remedy in cases:
        assert (ended, remedy in told, told.count("\n")) == (code, True, 1), told
    assert not Path("absent.key").exists()


def test_folder_of_another_run_is_not_taken_over(typed: Typed) -> None:
    run, other = new_run(typed, "run", "--open"), new_run(typed, "other", "--open", "--seed", "1")
    Path("peer").mkdir()
    Path("peer/manifest.toml").write_bytes((other / "manifest.toml").read_bytes())

    code, _, told = typed("peer", "--run", f"{run}/manifest.toml", "--folder", "peer")

    assert code == 2
    assert "use another --folder" in told


def test_a_folder_in_which_a_daemon_runs_is_not_shared(typed: Typed) -> None:
    run = new_run(typed, "run", "--open")
    Path("peer").mkdir()

    with held(Path("peer")):
        code, _, told = typed("peer", "--run", f"{run}/manifest.toml", "--folder", "peer")

    assert (code, f"in use by process {os.getpid()}: stop it first" in told, told.count("\n")) == (1, True, 1), told


@pytest.mark.parametrize("damage", ["null", '{"state": 3}', "[]", "{", '{"pid": "x"}'])
def test_what_a_daemon_told_may_be_damaged(typed: Typed, damage: str) -> None:
    run = new_run(typed, "run", "--open")
    peer = run / "peer"
    peer.mkdir()
    (peer / "manifest.toml").write_bytes((run / "manifest.toml").read_bytes())
    (peer / "incarnation").write_text("1")
    (peer / "status.json").write_text(damage)
    (peer / "addresses.json").write_text(damage.replace("[]", "[1]"))

    for arguments in (("status", str(run)), ("run", "invite", str(run))):
        code, _, told = typed(*arguments)
        assert (code, ".json" in told, told.count("\n")) == (1, True, 1), told


def test_an_address_that_is_none_is_refused(typed: Typed) -> None:
    run = new_run(typed, "run", "--open")

    code, _, told = typed("peer", "--run", f"{run}/manifest.toml", "--folder", "peer", "--announce", "my host")

    assert (code, "'my host' is no address" in told, told.count("\n")) == (2, True, 1), told


def test_invite_that_is_cut_off_or_damaged_says_so(typed: Typed) -> None:
    owner = Identity.generate()
    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{owner.peer_id}"
    line = Invite(run_id="ab" * 16, owner=owner.peer_id, addresses=(address,), secret=bytes(range(32))).line()

    garbled = line[:-9] + ("B" if line[-9] == "A" else "A") + line[-8:]

    cut_off, damaged, other = typed("peer", line[:-10]), typed("peer", garbled), typed("peer", "hello")

    for (code, _, told), remedy in ((cut_off, "paste the whole"), (damaged, "copy the line"), (other, "gossamer1:")):
        assert (code, remedy in told, told.count("\n")) == (2, True, 1), told


def test_taken_port_is_named_by_peer_and_doctor(typed: Typed) -> None:
    run = new_run(typed, "run", "--open")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        by_grpc = typed("peer", "--run", f"{run}/manifest.toml", "--folder", "a", "--grpc-port", port)
        by_p2p = typed("peer", "--run", f"{run}/manifest.toml", "--folder", "b", "--p2p-port", port)
        looked_at = typed("doctor", "--p2p-port", port, "--join", "nonsense", "--json")

    for code, _, told in (by_grpc, by_p2p):
        assert code == 1
        assert port in told
        assert "choose another" in told
        assert told.count("\n") == 1
    bad = [finding for finding in json.loads(looked_at[1]) if not finding["good"]]
    assert looked_at[0] == 1
    assert [finding["what"] for finding in bad] == ["--p2p-port", "--join nonsense"]
    assert all(finding["remedy"] for finding in bad)


def test_full_disk_costs_checkpoints_but_not_the_run_and_is_an_error_in_the_end(typed: Typed) -> None:
    run = new_run(typed, "run", "--start-peers", "1", "--steps", "6", "--set", "limits.checkpoint_every_steps=2")
    command = [sys.executable, "-c", WITH_LITTLE_ROOM]

    full = subprocess.run([*command, "500", *owners_peer(run)], capture_output=True, text=True, timeout=50)
    nearly = subprocess.run([*command, "6000", *owners_peer(run)], capture_output=True, text=True, timeout=50)

    assert (full.returncode, full.stderr.count("\n")) == (1, 1), full.stderr
    assert "disk-full: cannot write run/peer" in full.stderr
    assert nearly.returncode == 1
    assert "no checkpoint: cannot write the checkpoint of step 2" in nearly.stderr
    assert "step 6: held-out loss" in nearly.stderr
    last = nearly.stderr.splitlines()[-1]
    assert last.startswith("gossamer: disk-full: cannot write the checkpoint of step 6")
    assert "make room" in last


def test_corrupt_checkpoint_is_named_and_the_one_before_is_used(typed: Typed) -> None:
    run = new_run(typed, "run", "--start-peers", "1", "--steps", "9", "--set", "limits.checkpoint_every_steps=3")
    stopped = typed(*owners_peer(run), "--stop-at", "6")
    for newest in (run / "peer" / "checkpoints").glob("00000006*"):  # kept when it was due, and when the run stopped
        largest = max(newest.iterdir(), key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-1] + b"\x55")

    exported = typed("export", str(run), "model.safetensors")
    resumed = typed(*owners_peer(run), "--json")

    assert stopped[0] == 0
    assert exported[0] == 0
    assert "00000006 is not used" in exported[2]
    assert "step 3" in exported[2]
    assert resumed[0] == 0, resumed[2]
    assert "00000006 is not used" in resumed[2]
    assert json.loads(resumed[1])["step"] == 9
