"""Serves a stage: passes come in over the network, wait in a bounded queue, and are computed one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor, nn

from ...protocol.errors import GossamerError
from ...protocol.identity import PeerId
from ...protocol.network import Cost, Network
from .activations import Compression
from .backlog import Backlog, Job, Phase
from .passing import METHOD, Request, answer_of, framed, read_request
from .stage import Passed, StageReplica

BACKWARD_PASSES = 3.0
"""A backward pass recomputes, and multiplies twice: in forward passes."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Bounds of a stage's server."""

    n_samples_max: int
    """Of one microbatch."""
    flops_per_sample: float
    """Of a forward pass."""
    jobs_max: int = 32
    bytes_max: int = 256 << 20
    together_max: int = 32
    """Samples of forward passes that are computed as one."""


@dataclass(eq=False)
class _Asked:
    request: Request
    answer: asyncio.Future[Passed | Tensor]


class StageServer:
    """Answers `stage/pass`. `run` computes; without it nobody gets an answer."""

    def __init__(
        self, network: Network, replica: StageReplica, compression: Compression, options: ServerOptions
    ) -> None:
        self._network = network
        self._replica = replica
        self._compression = compression
        self._options = options
        self._backlog: Backlog[_Asked] = Backlog(
            jobs_max=options.jobs_max, bytes_max=options.bytes_max, together_max=options.together_max
        )
        self._woken = asyncio.Event()
        # Several microbatches in one pass would share one stream of random numbers.
        self._is_random = any(isinstance(part, nn.modules.dropout._DropoutNd) for part in replica.stage.modules())
        network.serve_stream(METHOD, self._serve)

    @property
    def n_waiting(self) -> int:
        """Passes in the queue."""
        return len(self._backlog)

    async def run(self) -> None:
        """Compute what waits, for ever; deferred gradients of weights when nothing does."""
        while True:
            jobs = self._backlog.take()
            if jobs:
                await self._compute(jobs)
            elif not await self._finish_weights():
                self._woken.clear()
                await self._woken.wait()

    # -- asked from outside ----------------------------------------------------------------------

    async def _serve(self, peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        request = await read_request(
            chunks, self._replica.stage.index, self._replica.boundaries, n_samples_max=self._options.n_samples_max
        )
        asked = _Asked(request=request, answer=asyncio.get_running_loop().create_future())
        n_bytes = sum(tensor.nbytes for tensor in request.tensors)
        self._backlog.put(Job(phase=request.phase, n_samples=request.n_samples, n_bytes=n_bytes, content=asked))
        self._woken.set()
        try:
            result = await asked.answer
        finally:
            self._backlog.drop(asked)
        tensors = [result] if isinstance(result, Tensor) else _gradient(result)
        counted, loss = (True, None) if isinstance(result, Tensor) else (result.counted, result.loss)
        answer, payload = answer_of(tensors=tensors, counted=counted, loss=loss, compression=self._compression)
        async for chunk in framed(answer, payload):
            yield chunk

    # -- computed --------------------------------------------------------------------------------

    async def _compute(self, jobs: list[Job[_Asked]]) -> None:
        asked = [job.content for job in jobs]
        together = len(asked) > 1 and not self._is_random and len({one.request.version for one in asked}) == 1
        for group in [asked] if together else [[one] for one in asked]:
            passes = BACKWARD_PASSES if group[0].request.phase is Phase.BACKWARD else 1.0
            n_samples = sum(one.request.n_samples for one in group)
            cost = Cost(flops=passes * n_samples * self._options.flops_per_sample)
            try:
                results = await self._network.compute(partial(self._pass, [one.request for one in group]), cost)
            except GossamerError as error:
                for one in group:
                    if not one.answer.done():
                        one.answer.set_exception(error)
            else:
                for one, result in zip(group, results, strict=True):
                    if not one.answer.done():
                        one.answer.set_result(result)

    def _pass(self, requests: Sequence[Request]) -> Sequence[Passed | Tensor]:
        first = requests[0]
        if first.phase is Phase.BACKWARD:
            x, arrived = first.tensors
            return [self._replica.backward(first.microbatch, first.version, x, arrived, defer_weights=True)]
        x = torch.cat([request.tensors[0] for request in requests])
        out = self._replica.forward(first.microbatch, first.version, x)
        ends = list(accumulate(request.n_samples for request in requests))
        return [out[end - request.n_samples : end] for request, end in zip(requests, ends, strict=True)]

    async def _finish_weights(self) -> bool:
        if not self._replica.has_deferred:
            return False
        # About a forward pass's work; how many samples it is for no longer matters to anybody who waits.
        cost = Cost(flops=self._options.flops_per_sample * self._options.n_samples_max)
        return await self._network.compute(self._replica.finish_weights, cost)


def _gradient(passed: Passed) -> list[Tensor]:
    return [] if passed.input_gradient is None else [passed.input_gradient]
