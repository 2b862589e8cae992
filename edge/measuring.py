"""A device's work in a round: forward passes in small portions, so that it can rest between them and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..algorithms.forward import BaffleOptions, Batch, Directions, Engine, Measured
from ..protocol.network import Client, Cost

PORTION_S = 0.1
"""About how long the processor is kept at a time."""

T = TypeVar("T")

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class Measuring:
    """Loss differences of one round, at a share of one core.

    Args:
        cpu_share: computing time over all time, while there is something to compute.
    """

    def __init__(self, client: Client, engine: Engine, options: BaffleOptions, *, cpu_share: float) -> None:
        self._client, self._engine, self._options = client, engine, options
        self._rest_ratio = 1 / cpu_share - 1
        self._portion = 8
        """Forward passes at a time: learnt."""

    async def measure(self, weights: F32, batch: Batch, directions: Directions) -> Measured:
        """Exactly `options.n_forwards` forward passes, as `algorithms.forward.measure` does them.

        Raises: BadNetwork.
        """
        options = self._options
        above = await self._losses(weights, batch, directions, options.sigma)
        if options.difference == "forward":
            loss = await self._portioned(lambda: self._engine.loss(weights, batch), self._cost(batch, 1))
            return Measured(differences=(above - loss).astype(np.float32), loss=loss)
        below = await self._losses(weights, batch, directions, -options.sigma)
        return Measured(differences=(above - below).astype(np.float32), loss=float(np.mean(above + below) / 2))

    async def _losses(self, weights: F32, batch: Batch, directions: Directions, step: float) -> F64:
        parts: list[F64] = []
        start, clock = 0, asyncio.get_running_loop().time
        while start < self._options.K:
            ks = range(start, min(start + self._portion, self._options.K))

            def work(ks: range = ks) -> F64:
                return self._engine.perturbed_losses(weights, batch, directions, ks=ks, step=step)

            began_s = clock()
            parts.append(await self._portioned(work, self._cost(batch, len(ks))))
            self._adapt(len(ks), clock() - began_s)
            start = ks.stop
        return np.concatenate(parts)

    async def _portioned(self, work: Callable[[], T], cost: Cost) -> T:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        result = await self._client.compute(work, cost)
        if self._rest_ratio > 0:
            await asyncio.sleep(self._rest_ratio * (clock() - began_s))
        return result

    def _adapt(self, n: int, took_s: float) -> None:
        busy_s = took_s / (1 + self._rest_ratio)
        if n == self._portion and busy_s < PORTION_S / 2:
            self._portion = min(2 * self._portion, 4096)
        elif busy_s > 2 * PORTION_S:
            self._portion = max(1, self._portion // 2)

    def _cost(self, batch: Batch, n_forwards: int) -> Cost:
        n = self._engine.network.n_parameters
        return Cost(flops=2.0 * n * len(batch) * n_forwards, memory_bytes=8.0 * n * n_forwards)
