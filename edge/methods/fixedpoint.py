"""Fixed-point forward gradients on a device: m votes a round, in integers from the samples to the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...algorithms.errors import BadPayload
from ...algorithms.forward.errors import BadPlan
from ...algorithms.forward.exchange import DEVICES_MAX
from ...algorithms.forward.fixedpoint.arithmetic import WEIGHT_MAX, pixels_to_activations
from ...algorithms.forward.fixedpoint.engine import IntegerBatch, IntegerEngine
from ...algorithms.forward.fixedpoint.plan import Plan
from ...algorithms.forward.fixedpoint.training import IntegerReplica, cast_vote
from ...algorithms.forward.fixedpoint.votes import VoteReplay, encode_votes
from ...algorithms.forward.stream import PerturbationStream
from ...protocol.devices import Task, stream_run_id
from ...protocol.edge_pb2 import RunCard, Step
from ...protocol.network import Cost
from ..data import DeviceData
from ..engines import Engines
from ..pacing import Pace
from .work import Answer, Arrays, DeviceWork

Q16 = 65536
BATCH_MAX = 2**20


class FixedPointWork(DeviceWork):
    """Votes. The loss that is told in nats, for logs, is the one number here that is no integer."""

    scalars_per_byte = 5.0

    def __init__(self, card: RunCard, pace: Pace, engines: Engines) -> None:
        options = json.loads(card.options)
        self._plan = Plan.from_dict(json.loads(options["plan"]))
        self._batch_size = options["batch_size"]
        if type(self._batch_size) is not int or not 1 <= self._batch_size <= BATCH_MAX:
            raise BadPlan(f"batches of {self._batch_size!r}: expected 1 to {BATCH_MAX}")
        self.network = self._plan.network
        self._pace = pace
        self._run_id = stream_run_id(card.run_id)
        self._replica = IntegerReplica(np.zeros(self._plan.n_weights, np.int16), self._plan, self._run_id)
        kernel = engines.kernel()
        self.engine_name = kernel.name
        self._engine = IntegerEngine(self._plan, kernel)

    @property
    def n_weights(self) -> int:
        return self._plan.n_weights

    @property
    def step(self) -> int:
        return self._replica.step

    def state(self) -> Arrays:
        return self._replica.state()

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        weights, step = state["weights"], int(state["step"][0])
        if weights.min() < -WEIGHT_MAX or weights.max() > WEIGHT_MAX or step < 0:
            raise BadPayload(f"a state at step {step}, or with weights beyond +-{WEIGHT_MAX}")
        self._replica.weights[:] = weights
        if self._plan.guidance:
            self._replica.momentum[:] = state["momentum"]
        self._replica.step = step

    def apply(self, step: Step) -> None:
        if not step.payloads:
            raise BadPayload("an update without votes")
        sums = np.zeros(self.n_weights, np.int64)
        for payload in step.payloads:
            replay = VoteReplay.from_bytes(payload, n_votes=self._plan.n_votes)
            if sum(len(part.slots) for part in replay.parts) > DEVICES_MAX:
                raise BadPayload(f"the votes of more than {DEVICES_MAX} devices in one payload")
            sums += self._replica.sum_votes(replay)
        self._replica.descend(sums)

    def weights_digest(self) -> str:
        return self._replica.digest()

    async def answer(self, seed: bytes, task: Task, data: DeviceData) -> Answer:
        pixels, labels = data.pixels(self._batch_size, seed=seed)
        batch = IntegerBatch(inputs=pixels_to_activations(pixels), labels=labels)
        directions = PerturbationStream(seed, self._run_id).at(
            round_index=task.round_index, slot=task.slot, n=self.n_weights
        )
        flops = 2.0 * self.n_weights * len(batch) * self._plan.n_forwards / self._plan.n_votes
        weights, momentum = self._replica.weights, self._replica.momentum
        cost = Cost(flops=flops, memory_bytes=8.0 * self.n_weights)
        votes, losses = [], 0
        for i in range(self._plan.n_votes):

            def vote(i: int = i) -> tuple[int, int]:
                return cast_vote(self._engine, weights, batch, directions, i, momentum)

            cast, both = await self._pace.do(vote, cost)
            votes.append(cast)
            losses += both
        loss = losses / (2 * len(votes) * len(batch) * Q16)
        return Answer(loss=loss, scalars=encode_votes(np.array(votes, np.int8)))

    def check_fits(self, data: DeviceData) -> None:
        super().check_fits(data)
        data.check_bytes()
