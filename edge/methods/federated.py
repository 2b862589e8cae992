"""Federated averaging on a device: local steps where it can backpropagate, loss differences where it cannot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...algorithms.errors import BadPayload
from ...algorithms.forward import FederatedServer, Network, PerturbationStream, encode_scalars, proximal_gradient
from ...algorithms.forward.federated import is_bounded
from ...algorithms.forward.mixed import (
    CHANGES,
    FORWARD,
    KIND_BYTES,
    Mixed,
    MixedOptions,
    answer_bytes,
    combined_change,
)
from ...algorithms.forward.replica import weights_digest
from ...algorithms.options import read_options
from ...protocol.devices import Task, stream_run_id
from ...protocol.edge_pb2 import RunCard, Step
from ...protocol.network import Cost
from ..data import DeviceData
from ..engines import Engines
from ..measuring import Measuring
from ..pacing import Pace
from .baffle import LEARNING_RATE_MAX
from .work import F32, Answer, Arrays, DeviceWork


class FederatedWork(DeviceWork):
    """A change of the weights, or differences that stand for one."""

    scalars_per_byte = 0.25

    def __init__(self, card: RunCard, pace: Pace, engines: Engines) -> None:
        self.network = Network.from_dict(json.loads(card.network))
        self.options = read_options(MixedOptions, json.loads(card.options), owner="a run's card")
        self._pace = pace
        self._run_id = stream_run_id(card.run_id)
        self._step = 0
        self._server = FederatedServer(np.zeros(self.network.n_parameters, np.float32), self.options.server())
        self._gradients = engines.gradients(self.network)
        if self._gradients is not None:
            self.engine_name = self._gradients.name
            return
        engine = engines.engine(self.network)
        self.engine_name = engine.name
        self._measuring = Measuring(pace, engine, self.options.forward())

    @property
    def n_weights(self) -> int:
        return self.network.n_parameters

    @property
    def step(self) -> int:
        return self._step

    def state(self) -> Arrays:
        copies = {name: array.copy() for name, array in self._server.state().items()}
        return {**copies, "step": np.array([self._step], np.int64)}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        step = int(state["step"][0])
        if step < 0 or ("second" in state and (state["second"] < 0).any()):
            raise BadPayload(f"a state at step {step}, or with a negative second moment")
        for name, array in self._server.state().items():
            array[:] = state[name]
        self._step = step

    def apply(self, step: Step) -> None:
        if not 0 <= step.learning_rate <= LEARNING_RATE_MAX or not step.payloads:
            raise BadPayload(f"an update of {len(step.payloads)} payloads with learning rate {step.learning_rate}")
        read = [Mixed.from_bytes(payload, self.options, self.n_weights) for payload in step.payloads]
        change = combined_change(read, self.options, self._run_id, self.n_weights)
        self._server.descend(change, step.learning_rate)
        self._step += 1

    def weights_digest(self) -> str:
        return weights_digest(self._server.weights)

    async def answer(self, seed: bytes, task: Task, data: DeviceData) -> Answer:
        if self._gradients is not None:
            return await self._learn(seed, data)
        directions = PerturbationStream(seed, self._run_id).at(
            round_index=task.round_index, slot=task.slot, n=self.n_weights
        )
        batch = data.batch(self.options.batch_size, seed=seed)
        measured = await self._measuring.measure(self._server.weights, batch, directions)
        kind = FORWARD.to_bytes(KIND_BYTES, "little")
        return Answer(loss=measured.loss, scalars=kind + encode_scalars(measured.differences, "fp32"))

    async def _learn(self, seed: bytes, data: DeviceData) -> Answer:
        """Some steps of SGD from the round's weights, fedprox with its pull towards them."""
        options, gradients, anchor = self.options, self._gradients, self._server.weights
        assert gradients is not None
        weights, losses = anchor.copy(), []
        cost = Cost(flops=6.0 * self.n_weights * options.batch_size, memory_bytes=16.0 * self.n_weights)
        for number in range(options.local_steps):
            batch = data.batch(options.batch_size, seed=hashlib.sha256(seed + number.to_bytes(4, "little")).digest())

            def work(weights: F32 = weights, batch: Any = batch) -> tuple[float, F32]:
                return gradients.loss_and_gradient(weights, batch)

            loss, gradient = await self._pace.do(work, cost)
            losses.append(loss)
            if options.rule == "fedprox":
                gradient += proximal_gradient(weights, anchor, options.mu)
            gradient *= np.float32(options.local_lr)
            weights -= gradient
        weights -= anchor
        if not is_bounded(weights):
            raise BadPayload("the local steps have diverged: the run's local_lr is too large for these samples")
        answer = bytearray(answer_bytes(options, self.n_weights, CHANGES))
        answer[:KIND_BYTES] = CHANGES.to_bytes(KIND_BYTES, "little")
        np.frombuffer(answer, "<f4", offset=KIND_BYTES)[:] = weights
        return Answer(loss=float(np.mean(losses)), scalars=memoryview(answer))
