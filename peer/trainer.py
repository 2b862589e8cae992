"""Trains: computes this peer's contributions, evaluates, keeps checkpoints, and writes down what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..protocol.errors import StateError
from ..protocol.identity import PeerId
from ..protocol.network import Cost, Network
from .checkpoints import Checkpoint, save
from .event_kinds import (
    Checkpointed,
    Evaluated,
    Event,
    Forked,
    Joined,
    Memory,
    PeerRefused,
    PrivacySpent,
    RoundEnded,
    Sampled,
    Traffic,
    Trained,
    Warned,
    short_id,
)
from .folder import PeerFolder, standing_to_record
from .gateway.gateway import Gateway
from .peak_memory import peak_memory_bytes
from .replica import Replica, Work, finite
from .rounds.delegate import Agree, Delegate
from .rounds.outcome import Outcome
from .rounds.roster import WHOLE, Roster
from .rounds.snapshots import Standing

TRAFFIC_EVERY_ROUNDS = 10
WARNINGS_MAX = 1000


@dataclass
class Tally:
    """What this peer has seen of the run so far."""

    rounds_ok: int = 0
    rounds_failed: int = 0
    evaluations: list[tuple[int, float]] = field(default_factory=list)


class Trainer(Delegate):
    """The delegate of a group that trains a replica."""

    def __init__(self, network: Network, replica: Replica, folder: PeerFolder, emit: Callable[[Event], None]) -> None:
        self.network = network
        self.replica = replica
        self.folder = folder
        self.emit = emit
        self.tally = Tally()
        self.gateway: Gateway | None = None
        """Asks devices in place of computing gradients here."""
        self.standing: Callable[[], Standing]
        self.greet: Callable[[PeerId], None]
        self._noted: tuple[bytes, tuple[PeerId, ...]] | None = None
        """Lineage and roster, as they were told last."""
        self._n_warnings = 0
        self._ahead: asyncio.Task[Work] | None = None

    # -- rounds ----------------------------------------------------------------------------------

    async def begin(self, round_index: int, roster: Roster, slot: int) -> None:
        """A round opens for this peer."""
        lineage = self.standing().lineage
        if self._noted != (lineage, roster.peers):
            self._noted = lineage, roster.peers
            self._tell_roster(round_index, lineage, roster)
        if self.replica.step == 0 and slot == 0 and not self.tally.evaluations:
            await self.evaluate(sample=True)

    async def contribute(self, round_index: int, roster: Roster, slot: int, agree: Agree) -> bytes:
        await self.begin(round_index, roster, slot)
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            await ahead
        work = await self._work(round_index, roster, slot)
        agreed = await agree(work.floats)
        payload = await self.network.compute(lambda: self.replica.encode(agreed), self.replica.encode_cost())
        if self.replica.works_ahead:
            self._ahead = asyncio.create_task(self._work(round_index + 1, roster, slot, ahead=True))
        return payload

    async def _work(self, round_index: int, roster: Roster, slot: int, *, ahead: bool = False) -> Work:
        """A round's local steps; nothing is left to do where they were done during the round before."""
        started_s = asyncio.get_running_loop().time()

        def compute() -> Work:
            return self.replica.work(round_index, len(roster), slot, ahead=ahead)

        if self.gateway is not None:
            work = await self.gateway.work(round_index)
        else:
            work = await self.network.compute(compute, self.replica.work_cost(len(roster), slot))
        seconds = asyncio.get_running_loop().time() - started_s
        if work.samples:
            self.emit(Trained(step=self.replica.step, loss=finite(work.loss), samples=work.samples, seconds=seconds))
        return work

    async def concluded(self, outcome: Outcome, roster: Roster) -> None:
        if self.gateway is not None:
            await self.gateway.concluded(self.standing())
        self._tell_outcome(outcome)
        if not outcome.committed:
            return
        limits, after = self.replica.manifest.limits, outcome.step
        before = after - outcome.steps
        turn = after // limits.eval_every_steps
        if turn > before // limits.eval_every_steps and self._is_my_turn(turn, roster):
            await self.evaluate()
        due = after // limits.checkpoint_every_steps > before // limits.checkpoint_every_steps
        if due or (self.gateway is not None and self.gateway.wants_checkpoint):
            await self.checkpoint()

    def _is_my_turn(self, turn: int, roster: Roster) -> bool:
        return roster.peers[turn % len(roster)] == self.network.peer_id

    def _tell_roster(self, round_index: int, lineage: bytes, roster: Roster) -> None:
        names = tuple(short_id(peer) for peer in roster.peers)
        stages = tuple(one.stage if one.serves else None for one in roster.members if one.stage != WHOLE)
        self.emit(Joined(round=round_index, roster=names, lineage=lineage.hex(), stages=stages))

    def _tell_outcome(self, outcome: Outcome) -> None:
        self.tally.rounds_ok += outcome.committed
        self.tally.rounds_failed += not (outcome.committed or outcome.goes_on)
        self.emit(
            RoundEnded(
                round=outcome.round_index,
                step=outcome.step,
                outcome="committed" if outcome.committed else "goes on" if outcome.goes_on else "failed",
                contributors=tuple(short_id(peer) for peer in outcome.contributors),
                excluded={short_id(peer): reason for peer, reason in outcome.excluded.items()},
                dropped=tuple(short_id(peer) for peer in outcome.dropped),
                payload_bytes=outcome.payload_bytes,
                duration_s=outcome.duration_s,
                overhead_s=outcome.overhead_s,
                exchange_s=outcome.exchange_s,
                update_s=outcome.update_s,
                ballots=outcome.ballots,
                leader=short_id(outcome.leader),
                digest=outcome.digest.hex(),
            )
        )
        if outcome.round_index % TRAFFIC_EVERY_ROUNDS == 0:
            self.tell_traffic()

    def unadmitted(self, peer: PeerId) -> None:
        self.greet(peer)

    def refused(self, peer: PeerId, reason: str) -> None:
        self.emit(PeerRefused(refused=short_id(peer), reason=reason))

    def warned(self, message: str) -> None:
        self._n_warnings += 1
        if self._n_warnings <= WARNINGS_MAX:
            self.emit(Warned(message=message))

    def paused(self, standing: Standing, reachable: Sequence[PeerId]) -> None:
        excluded = {short_id(peer): "out of reach" for peer in standing.roster.peers if peer not in reachable}
        self.emit(
            RoundEnded(
                round=standing.index,
                step=self.replica.step,
                outcome="unknown",
                contributors=(),
                excluded=excluded,
                payload_bytes=0,
                duration_s=0.0,
                overhead_s=0.0,
                ballots=0,
                leader="",
                digest="",
            )
        )

    def forked(self, old: Standing, new: Standing) -> None:
        names = tuple(short_id(peer) for peer in new.roster.peers)
        self.emit(Forked(round=new.index, from_lineage=old.lineage.hex(), to_lineage=new.lineage.hex(), roster=names))

    # -- beside the rounds -----------------------------------------------------------------------

    async def evaluate(self, *, sample: bool = False) -> None:
        """Loss on held-out samples, and some text if the task writes any."""
        replica = self.replica
        result = await self.network.compute(replica.evaluate, replica.evaluate_cost())
        self.tally.evaluations.append((replica.step, result.loss))
        self.emit(Evaluated(step=replica.step, loss=finite(result.loss), accuracy=result.accuracy))
        if sample:
            seed = replica.manifest.run.seed

            def write() -> str | None:
                return replica.task.sample_text(replica.model, seed=seed)

            text = await self.network.compute(write, replica.evaluate_cost())
            if text is not None:
                self.emit(Sampled(step=replica.step, text=text))

    async def checkpoint(self, *, stopped: bool = False, last: bool = False) -> None:
        """Keep the state of now on disk. A full disk is told and survived; the one before stays.

        Args:
            last: of this life, so that failing to keep it is an error. Raises DiskFull, StateError.
        """
        replica, standing = self.replica, self.standing()
        started_s = asyncio.get_running_loop().time()
        keep = replica.manifest.limits.keep_checkpoints

        def keep_state() -> Path:
            contents = Checkpoint(
                step=replica.step,
                round_index=standing.index,
                model=replica.model_state(),
                shared=replica.shared(),
                local=replica.local(),
                record=self.record(standing, stopped=stopped),
            )
            return save(self.folder.path, contents, keep=keep)

        try:
            path = await self.network.compute(keep_state, Cost())
        except StateError as error:
            if last:
                raise
            self.warned(f"no checkpoint: {error}")
            return
        size = sum(file.stat().st_size for file in path.iterdir())
        seconds = asyncio.get_running_loop().time() - started_s
        if self.gateway is not None:
            await self.gateway.checkpointed(replica.step, standing.index)
            self.tell_privacy()
        name = str(path.relative_to(self.folder.path))
        self.emit(Checkpointed(step=replica.step, path=name, bytes=size, seconds=seconds))

    def record(self, standing: Standing, *, stopped: bool) -> dict[str, Any]:
        """What a checkpoint says besides the state."""
        return standing_to_record(standing, stopped=stopped)

    def tell_traffic(self) -> None:
        traffic = self.network.traffic
        self.emit(Traffic(sent=dict(traffic.sent), received=dict(traffic.received)))

    def tell_privacy(self) -> None:
        """What devices have spent, if this is a gateway of a run with differential privacy."""
        if self.gateway is not None and self.gateway.privacy is not None:
            self.emit(PrivacySpent(**self.gateway.privacy))

    def tell_memory(self, **parts: int) -> None:
        self.emit(Memory(rss_bytes=peak_memory_bytes(), parts=parts))
