"""A device's work in a round of BAFFLE: forward passes in small portions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..algorithms.forward import BaffleOptions, Batch, Directions, Engine, Measured
from ..protocol.network import Cost
from .pacing import Pace

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class Measuring:
    """Loss differences of one round."""

    def __init__(self, pace: Pace, engine: Engine, options: BaffleOptions) -> None:
        self._pace, self._engine, self._options = pace, engine, options

    async def measure(self, weights: F32, batch: Batch, directions: Directions) -> Measured:
        """Exactly `options.n_forwards` forward passes, as `algorithms.forward.measure` does them.

        Raises: BadNetwork.
        """
        options = self._options
        above = await self._losses(weights, batch, directions, options.sigma)
        if options.difference == "forward":
            loss = await self._pace.do(lambda: self._engine.loss(weights, batch), self._cost(batch, 1))
            return Measured(differences=(above - loss).astype(np.float32), loss=loss)
        below = await self._losses(weights, batch, directions, -options.sigma)
        return Measured(differences=(above - below).astype(np.float32), loss=float(np.mean(above + below) / 2))

    async def _losses(self, weights: F32, batch: Batch, directions: Directions, step: float) -> F64:
        parts: list[F64] = []
        start = 0
        while start < self._options.K:
            ks = range(start, min(start + self._pace.portion, self._options.K))

            def work(ks: range = ks) -> F64:
                return self._engine.perturbed_losses(weights, batch, directions, ks=ks, step=step)

            parts.append(await self._pace.do(work, self._cost(batch, len(ks)), n=len(ks)))
            start = ks.stop
        return np.concatenate(parts)

    def _cost(self, batch: Batch, n_forwards: int) -> Cost:
        n = self._engine.network.n_parameters
        return Cost(flops=2.0 * n * len(batch) * n_forwards, memory_bytes=8.0 * n * n_forwards)
