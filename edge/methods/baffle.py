"""BAFFLE on a device: K loss differences a round, and the run's Adam replayed from scalars."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...algorithms.errors import BadPayload
from ...algorithms.forward import BaffleOptions, Measured, Network, PerturbationStream, Replica, encode_scalars
from ...algorithms.forward.exchange import combined_gradient
from ...algorithms.forward.replica import weights_digest
from ...algorithms.forward.residues import encode, to_bytes
from ...algorithms.options import read_options
from ...protocol.devices import Task, stream_run_id
from ...protocol.edge_pb2 import RunCard, Step
from ..data import DeviceData
from ..engines import Engines
from ..measuring import Measuring
from ..pacing import Pace
from .work import F32, Answer, Arrays, DeviceWork

LEARNING_RATE_MAX = 100.0


class BaffleWork(DeviceWork):
    """Loss differences in float32."""

    scalars_per_byte = 0.25

    def __init__(self, card: RunCard, pace: Pace, engines: Engines, secret: Callable[[], bytes] | None = None) -> None:
        self.network = Network.from_dict(json.loads(card.network))
        self.options = read_options(BaffleOptions, json.loads(card.options), owner="a run's card")
        if self.options.in_residues and secret is None:
            raise ValueError("a run with secure sums or privacy needs the system's randomness")
        self._secret = secret
        self.sums = self.options if self.options.secure else None
        self._run_id = stream_run_id(card.run_id)
        self._replica = Replica(np.zeros(self.network.n_parameters, np.float32), self.options, self._run_id)
        engine = engines.engine(self.network)
        self.engine_name = engine.name
        self._measuring = Measuring(pace, engine, self.options)

    @property
    def n_weights(self) -> int:
        return self.network.n_parameters

    @property
    def step(self) -> int:
        return self._replica.step

    def state(self) -> Arrays:
        return {**self._replica.state()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self._replica.restore(state)

    def apply(self, step: Step) -> None:
        if not 0 <= step.learning_rate <= LEARNING_RATE_MAX or not step.payloads:
            raise BadPayload(f"an update of {len(step.payloads)} payloads with learning rate {step.learning_rate}")
        gradient = combined_gradient(list(step.payloads), self.options, self._run_id, self.n_weights)
        self._replica.descend(gradient, step.learning_rate)

    def weights_digest(self) -> str:
        return weights_digest(self._replica.weights)

    async def answer(self, seed: bytes, task: Task, data: DeviceData) -> Answer:
        options = self.options
        measured = await self._measure(seed, task, data)
        if self._secret is not None and options.in_residues:
            # The loss itself is not told: it has no noise.
            residues = encode(measured.differences, options, 1, self._secret())
            return Answer(loss=0.0, scalars=to_bytes(residues))
        return Answer(loss=measured.loss, scalars=encode_scalars(measured.differences, options.value))

    async def differences(self, seed: bytes, task: Task, data: DeviceData) -> F32:
        return (await self._measure(seed, task, data)).differences

    async def _measure(self, seed: bytes, task: Task, data: DeviceData) -> Measured:
        options = self.options
        directions = PerturbationStream(seed, self._run_id).at(
            round_index=task.round_index, slot=options.slot(task.slot), n=self.n_weights
        )
        batch = data.batch(options.batch_size, seed=seed)
        return await self._measuring.measure(self._replica.weights, batch, directions)
