"""A run's folder as a swarm would leave it, for the report: logs through the real `EventLog`, a made-up story.

python tests/peer/report/synthetic.py FOLDER        writes the logs, and the report to look at
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

from gossamer.peer.events import (
    Checkpointed,
    Ended,
    Evaluated,
    Event,
    EventLog,
    Joined,
    Memory,
    PeerRefused,
    Resynced,
    RoundEnded,
    Sampled,
    Started,
    Traffic,
    Trained,
    Warned,
)
from gossamer.peer.report import write_report

N_PARAMS = 1_031_168
PAYLOAD_BYTES = 23_400
UNIX_S = 1_767_225_600.0

SAMPLE_BEFORE = "qZ%vrk }t.\nW0;kGwb|x<9oQ~uY Lc'2 m)Re&dH!7\tJf=ap^sU"
SAMPLE_AFTER = (
    "The value of the object is called with the same name as the\nclass definition. If the type is a string, the "
    'method\n"__init__()" is called when the instance is created, and the\nargument list <module> is not bound.\n\n'
    "   >>> import the function in the current state\n\nChanged in version 3.2: The expression is evaluated to a "
    "mapping\nof the exception which is raised.\n"
)


@dataclass
class Daemon:
    """One peer's log and what its counters stand at."""

    folder: Path
    peer: str
    slot: int
    now_s: float = 0.0
    incarnation: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    log: EventLog | None = None

    def start(self, now_s: float) -> None:
        self.now_s = now_s
        self.sent = {"rounds/items": 0, "rounds/votes": 0, "membership": 0, "dht": 4_000}
        self.log = EventLog(
            self.folder / "events.jsonl", peer=self.peer, clock=lambda: self.now_s, unix=lambda: UNIX_S + self.now_s
        )
        address = f"/ip4/127.0.0.1/tcp/{40_000 + self.slot}"
        self.tell(
            Started(
                run_id="5f0c2a9be1d34c7788aa90b1c2d3e4f5",
                task="chars",
                method="demo",
                n_params=N_PARAMS,
                incarnation=self.incarnation,
                address=address,
            )
        )

    def tell(self, event: Event) -> None:
        if self.log is not None:
            self.log.emit(event)

    def kill(self) -> None:
        """Leave half a line behind, as a killed process may."""
        if self.log is not None:
            self.log.close()
        with (self.folder / "events.jsonl").open("ab") as file:
            file.write(b'{"v":1,"t_s":')
        self.log = None
        self.incarnation += 1


@dataclass
class Story:
    """What happens to the swarm, and when."""

    n_peers: int = 4
    n_steps: int = 200
    seed: int = 7
    killed: int | None = 2
    kill_step: int = 60
    restart_step: int | None = 85
    failed_step: int | None = 120
    left_out: tuple[int, int] = (1, 150)
    """(slot, step)"""
    hostile_text: str = ""
    """Put into every text that can come from another peer."""


def write_run(folder: Path, story: Story) -> None:
    """Write the logs of all peers and `summary.json`."""
    rng = random.Random(story.seed)
    daemons = [
        Daemon(folder=folder / "peers" / str(slot), peer=f"12D3KooW{rng.getrandbits(64):016x}", slot=slot)
        for slot in range(story.n_peers)
    ]
    for daemon in daemons:
        daemon.start(rng.uniform(0, 0.4))
        daemon.tell(Joined(round=0, roster=tuple(one.peer[-8:] for one in daemons), lineage="a1b2"))
        daemon.tell(Evaluated(step=0, loss=4.672))
    daemons[0].tell(Sampled(step=0, text=SAMPLE_BEFORE + story.hostile_text))
    now_s = play(daemons, story, rng)
    for daemon in daemons:
        daemon.now_s = now_s + rng.uniform(0, 0.05)
        finish(daemon, story)
    write_summary(folder, story, wall_s=now_s, sent=[daemon.sent for daemon in daemons])


def play(daemons: list[Daemon], story: Story, rng: random.Random) -> float:
    now_s = 1.0
    for step in range(1, story.n_steps + 1):
        if step == story.kill_step and story.killed is not None:
            daemons[story.killed].kill()
        if step == story.restart_step and story.killed is not None:
            come_back(daemons[story.killed], now_s, step)
        duration_s = rng.gauss(0.42, 0.02) + (2.1 if step == story.kill_step else 0) + 0.3 * (rng.random() < 0.02)
        failed = step == story.failed_step
        now_s += duration_s + (1.5 if failed else 0)
        for daemon in daemons:
            if daemon.log is not None:
                daemon.now_s = now_s + rng.uniform(0, 0.01)
                end_round(daemon, daemons, story, step=step, duration_s=duration_s, rng=rng)
    return now_s


def come_back(daemon: Daemon, now_s: float, step: int) -> None:
    daemon.start(now_s)
    daemon.now_s += 3.2
    daemon.tell(
        Resynced(
            from_round=0,
            to_round=step - 1,
            bytes=4_220_000,
            donors=("a", "b", "c"),
            seconds=0.61,
            how="certificate of the next round",
        )
    )


def end_round(
    daemon: Daemon, daemons: list[Daemon], story: Story, *, step: int, duration_s: float, rng: random.Random
) -> None:
    failed = step == story.failed_step
    alive = [one for one in daemons if one.log is not None]
    excluded = {one.peer[-8:]: "no offer before the deadline" for one in daemons if one.log is None}
    if step == story.left_out[1]:
        excluded[daemons[story.left_out[0]].peer[-8:]] = "its bytes came too late" + story.hostile_text
    counted = tuple(one.peer[-8:] for one in alive if one.peer[-8:] not in excluded)
    curve = 2.3 + 2.37 * math.exp(-step / 38)
    daemon.tell(Trained(step=step, loss=curve + rng.gauss(0, 0.06), samples=8, seconds=0.36))
    daemon.tell(
        RoundEnded(
            round=step,
            step=step,
            outcome="failed" if failed else "committed",
            contributors=() if failed else counted,
            excluded={"all": "two members could not reach the others"} if failed else excluded,
            payload_bytes=PAYLOAD_BYTES,
            duration_s=duration_s,
            overhead_s=abs(rng.gauss(0.021, 0.004)) + (2.1 if step == story.kill_step else 0),
            ballots=2 if step == story.kill_step else 1,
            leader=alive[step % len(alive)].peer[-8:],
            digest=digest_of(step),
        )
    )
    daemon.sent["rounds/items"] += PAYLOAD_BYTES * (len(alive) - 1)
    daemon.sent["rounds/votes"] += 1_900
    daemon.sent["membership"] += 240
    if step % 10 == 0:
        daemon.tell(Traffic(sent=dict(daemon.sent), received=dict(daemon.sent)))
        daemon.tell(Evaluated(step=step, loss=2.32 + 2.35 * math.exp(-step / 40)))
    if step % 50 == 0:
        daemon.tell(Checkpointed(step=step, path=f"checkpoints/{step:08d}", bytes=12_400_000, seconds=0.08))
    if step == 90 and daemon.slot == 0:
        daemon.tell(PeerRefused(refused="stranger", reason="it holds no ticket for this run" + story.hostile_text))
        daemon.tell(Warned(message="the clock of a peer is 2.4 s ahead of ours" + story.hostile_text))


def digest_of(step: int) -> str:
    return hashlib.sha256(str(step).encode()).hexdigest()


def finish(daemon: Daemon, story: Story) -> None:
    daemon.tell(Traffic(sent=dict(daemon.sent), received=dict(daemon.sent)))
    parts = {"model": 4_124_672, "method": 12_700_000, "torch and libraries": 168_000_000, "p2p daemon": 31_000_000}
    daemon.tell(Memory(rss_bytes=312_000_000 + daemon.slot * 3_000_000, parts=parts))
    if daemon.slot == 0:
        daemon.tell(Sampled(step=story.n_steps, text=SAMPLE_AFTER + story.hostile_text))
    daemon.tell(
        Ended(outcome="finished", step=story.n_steps, round=story.n_steps, digest=digest_of(story.n_steps), message="")
    )
    if daemon.log is not None:
        daemon.log.close()


def write_summary(folder: Path, story: Story, *, wall_s: float, sent: list[dict[str, int]]) -> None:
    n = story.n_peers
    summary = {
        "command": ["gossamer", "up", "--peers", str(n), "--steps", str(story.n_steps), "--out", "a folder"],
        "n_peers": n,
        "n_params": N_PARAMS,
        "steps": story.n_steps,
        "wall_s": wall_s,
        "bytes_sent_per_peer_per_step": sum(sum(one.values()) for one in sent) / n / story.n_steps,
        "dense_bytes_per_peer_per_step": 8 * N_PARAMS * (n - 1) / n,
        "state_digests": {str(slot): digest_of(story.n_steps) for slot in range(n)},
    }
    (folder / "summary.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    write_run(Path(sys.argv[1]), Story())
    print(write_report(Path(sys.argv[1])))
