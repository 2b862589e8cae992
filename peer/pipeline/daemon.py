"""A daemon of a pipeline's run: it serves one stage, passes microbatches through all of them, or both."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from ...protocol.devices import stream_run_id
from ...protocol.errors import InvalidManifest, UsageError
from ...protocol.identity import PeerId
from ...tasks import Staged, Task
from ..daemon import Daemon
from ..event_kinds import Moved
from ..replica import Replica
from ..rounds.group import Group
from ..rounds.outcome import Ending
from ..rounds.place import Rules
from ..rounds.roster import NO_STAGE, WHOLE, Member
from ..rounds.snapshots import Standing
from ..seeking import Seeker
from .activations import Codec, Compression
from .board import StageBoard, StageRecord
from .courier import Courier, CourierOptions
from .group import StageGroup
from .meter import Meter
from .model import StageModel
from .models import stage_model
from .pacing import SPLIT
from .passing import StageClient
from .seeking import StageSeeker
from .server import ServerOptions, StageServer, Tally
from .service import StageService
from .training import StageTrainer
from .wiring import StageWiring, WiringOptions

FORWARD_SHARE = 1 / 3
"""Of a training pass's operations."""
EVALUATION_PATIENCE_S = 60.0


class StageDaemon(Daemon):
    """One peer of a pipeline's run.

    Args:
        stage: to serve; WHOLE: the neediest; NO_STAGE: none, it only trains.
        trains: whether it also passes microbatches.
        memory_max: bytes that this peer gives; None: as many as it takes.
    Raises: as `Daemon`, and InvalidManifest for a task or method that does not fit a pipeline, UsageError for a stage
    that there is not.
    """

    replica: StageModel
    group: StageGroup | None
    trainer: StageTrainer
    seeker: StageSeeker

    def __init__(
        self, *, stage: int = WHOLE, trains: bool = True, memory_max: int | None = None, **options: Any
    ) -> None:
        n_stages = options["manifest"].manifest.pipeline.stages
        if stage not in (WHOLE, NO_STAGE) and not 0 <= stage < n_stages:
            raise UsageError(f"--stage {stage}: this run has stages 0 to {n_stages - 1}; give one of them, or auto")
        if options.get("devices") is not None:
            raise InvalidManifest("a pipeline's run has no gateways: leave --gateway out, or use one stage")
        self._wish, self._trains = stage, trains
        self._aim = stage
        """Where this life seeks a place; WHOLE: anywhere."""
        self._moved_s: float | None = None
        self._placed = asyncio.Event()
        super().__init__(**options)
        compression = Compression(self.manifest.pipeline.activations)
        self._codec: Codec = self.replica.task.codec(compression) or Codec(compression)
        self.seeker.wish = stage
        self.replica.memory_max = memory_max
        self.meter = Meter(self.network)
        self.server: StageServer | None = None
        self.stages = StageService(self.network, self.service)
        self.courier = self._build_courier()
        self.trainer.courier = self.courier
        self.trainer.stop_at = self.stop_at
        self.trainer.state = lambda: self.group.state if self.group is not None else b""
        self.board = StageBoard(self.network, self._record, self._on_stages, self.trainer.warned)
        self.seeker.look = self.board.look

    # -- what it is made of ----------------------------------------------------------------------

    def _build_replica(self, task: Task, kind: type[Replica]) -> StageModel:
        if not isinstance(task, Staged):
            raise InvalidManifest(
                f"task {task.name!r} cannot be cut: train it with one stage, or make it a Staged task"
            )
        return stage_model(task, self.manifest, stream_run_id(self.signed.run_id))

    def _rules(self) -> Rules:
        """What counts is said by plans: any number of contributors will do. A part of a pipeline cannot go on alone."""
        return Rules(
            payload_bytes_max=self.manifest.limits.max_payload_bytes,
            quorum_fraction=1e-9,
            strict=self.manifest.group.strict,
            fork=False,
        )

    def _build_trainer(self) -> StageTrainer:
        return StageTrainer(self.network, self.replica, self.folder, self.log.emit)

    def _seeker_type(self) -> type[Seeker]:
        return StageSeeker

    def _next_life(self) -> Member:
        return replace(super()._next_life(), stage=self._aim, trains=self._trains)

    def _recover(self) -> None:
        super()._recover()
        self._wish = self._aim = self.seeker.wish
        if self._wish == NO_STAGE and not self._trains:
            raise UsageError("a peer that serves no stage must train: leave --replica-only out, or give --stage K")
        if self.seeker.checkpoint is not None:
            # The owner starts a run anew by what peers say: who has the state of a stage should be given that one.
            self.member = replace(self.member, stage=self.replica.stage)

    def _build_courier(self) -> Courier:
        # Ties between replicas are broken differently by each peer, and alike whenever a run is repeated.
        draw = random.Random(f"{self.signed.run_id} {self.identity.peer_id}")
        wirings = [StageWiring(stage, WiringOptions(), draw) for stage in range(self.replica.n_stages)]
        client = StageClient(
            self.network,
            self._codec,
            n_samples_max=self.manifest.data.batch_size,
            local=lambda peer, chunks: self._own_server().answer(peer, chunks),
        )
        return Courier(client, wirings, self.replica.kinds, CourierOptions(), self.trainer.unadmitted)

    def _own_server(self) -> StageServer:
        assert self.server is not None
        return self.server

    def _unplaced(self, ending: Ending) -> None:
        """Seek a place: in the stage that a decision moved this peer to, or in any."""
        group = self.group
        if ending is not Ending.MOVED or group is None or group.moved_to is None:
            self._aim, self.seeker.moved_to = self._wish, None
            super()._unplaced(ending)
            return
        self._aim = self.seeker.moved_to = group.moved_to
        self._moved_s = asyncio.get_running_loop().time()
        self.log.emit(Moved(round=group.index - 1, from_stage=self.replica.stage, to_stage=group.moved_to))

    def _open_group(self, standing: Standing) -> Group:
        model = self.replica
        self.member = replace(self.member, stage=model.stage, trains=self._trains)
        if self.server is None:
            self.server = StageServer(
                self.network,
                model.passes,
                self._codec,
                ServerOptions(
                    n_samples_max=self.manifest.data.batch_size,
                    splits=self.manifest.pipeline.schedule in SPLIT,
                    flops_per_sample=FORWARD_SHARE * model.task.flops_per_sample() / model.n_stages,
                ),
                judge=model.task.judge,
                meter=self.meter,
            )
        else:
            self.server.serve(model.passes)
            self.server.tally = Tally()  # how fast another stage was says nothing of this one
        self._placed.set()
        return StageGroup(
            courier=self.courier,
            server=self.server,
            meter=self.meter,
            n_lost=self.seeker.n_lost,
            **self._group_options(standing),
        )

    # -- beside the rounds -----------------------------------------------------------------------

    def _chores(self) -> list[Coroutine[Any, Any, None]]:
        return [self._serve_stage(), self.board.run()]

    async def _serve_stage(self) -> None:
        await self._placed.wait()
        await self._own_server().run()

    async def _evaluate_last(self, group: Group) -> None:
        assert isinstance(group, StageGroup)
        if group.speaker == self.network.peer_id:
            await self.trainer.evaluate(sample=True)
            self.stages.evaluated.set()
        else:
            await group.await_evaluation(EVALUATION_PATIENCE_S)

    def _agreed(self, group: Group) -> bytes:
        assert isinstance(group, StageGroup)
        return group.state

    def _record(self) -> StageRecord | None:
        if self.group is None or self.server is None or not self.replica.serves:
            return None
        tally = self.server.tally
        return StageRecord(
            stage=self.replica.stage,
            version=self.replica.passes.version,
            n_waiting=self.server.n_waiting,
            samples_per_s=tally.samples / tally.seconds if tally.seconds > 0 else 0.0,
            incarnation=self.member.incarnation,
            rested_s=asyncio.get_running_loop().time() - self._moved_s if self._moved_s is not None else 0.0,
        )

    def _on_stages(self, view: dict[PeerId, StageRecord]) -> None:
        if self.group is not None:
            self.group.changes.records = view

    def _more_status(self) -> dict[str, Any]:
        return {"stage": self.replica.stage_served, "only_trains": self._aim == NO_STAGE}
