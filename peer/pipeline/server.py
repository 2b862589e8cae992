"""Serves a stage: passes come in over the network, wait in a bounded queue, and are computed one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor, nn

from ...protocol import pipelines_pb2 as pb
from ...protocol.errors import Busy, GossamerError, InvalidMessage, MessageTooLarge
from ...protocol.identity import PeerId
from ...protocol.network import Cost, Network
from ...tasks import Evaluation
from .activations import Codec
from .backlog import Backlog, Job, Phase
from .meter import Meter
from .microbatches import MicrobatchId
from .passing import LONG_METHOD, METHOD, Received, answer_of, framed, read_request
from .stage import Passed, StageReplica

BACKWARD_PASSES = 3.0
"""A backward pass recomputes, and multiplies twice: in forward passes."""
DEFERRED_PASSES = 1.0
"""Of these, what is left for the weights' gradient where a backward pass gives the input's first."""
EARLY_S = 5.0
"""How long a pass may wait for the version that it is for."""


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
    deferred_max: int = 4
    """Gradients of weights that are put off at once."""
    splits: bool = True
    """Whether backward passes give the input's gradient first, and the weights' when nothing else waits."""


Result = Passed | Tensor | Evaluation
Judge = Callable[[Tensor, Tensor], Evaluation]


@dataclass(eq=False)
class Tally:
    """What a stage's server has done so far."""

    n_forward: int = 0
    n_backward: int = 0
    n_waiting_max: int = 0
    """Since somebody set it back."""
    samples: float = 0.0
    """Of forward passes, a backward pass counting as many as it costs."""
    seconds: float = 0.0
    """That they took."""


@dataclass(eq=False)
class _Asked:
    request: Received
    answer: asyncio.Future[Result]
    seconds: float = 0.0
    """That it took to compute; its share, if several were computed as one."""


class StageServer:
    """Answers `stage/pass` and `stage/pass-stream`. `run` computes; without it nobody gets an answer.

    Args:
        judge: the task's, for evaluations at the last stage.
        meter: adds up the time in which this peer computes.
    """

    def __init__(
        self,
        network: Network,
        replica: StageReplica,
        codec: Codec,
        options: ServerOptions,
        judge: Judge | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._meter = meter or Meter(network)
        self._replica = replica
        self._codec = codec
        self._options = options
        self._judge = judge
        self._backlog: Backlog[_Asked] = Backlog(
            jobs_max=options.jobs_max, bytes_max=options.bytes_max, together_max=options.together_max
        )
        self._woken = asyncio.Event()
        self._moved = asyncio.Event()
        self._n_early = 0
        self.tally = Tally()
        self._is_random = _is_random(replica)
        network.serve(METHOD, self.answer_short)
        network.serve_stream(LONG_METHOD, self.answer)

    def serve(self, replica: StageReplica) -> None:
        """Go over to another copy of a stage. What waits for the one before is refused by its version or kind."""
        self._replica = replica
        self._is_random = _is_random(replica)
        self.moved()

    @property
    def n_waiting(self) -> int:
        """Passes in the queue."""
        return len(self._backlog)

    def moved(self) -> None:
        """The replica has another version: passes that came early can go on."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def run(self) -> None:
        """Compute what waits, for ever; deferred gradients of weights when nothing does, or when they are many: else a
        stage that is never idle would keep all of them, and their activations, for the end of the step."""
        while True:
            self._woken.clear()
            is_behind = self._replica.n_deferred >= self._options.deferred_max
            jobs = self._backlog.take() if not is_behind else []
            if jobs:
                await self._compute(jobs)
            elif not await self._finish_one() and not is_behind:  # what was put off may be dropped before its turn
                await self._woken.wait()

    async def finish_weights(self, of: Collection[MicrobatchId] | None = None) -> None:
        """Compute the weights' gradients that were deferred, one after the other: they are to be summed."""
        while await self._finish_one(of):
            pass

    # -- asked from outside ----------------------------------------------------------------------

    async def answer_short(self, peer: PeerId, request: bytes) -> bytes:
        """Serve a pass of few bytes. Raises: as `answer`, and MessageTooLarge if it gives more."""
        chunks = framed(*await self._serve(await self._read(request, None)))
        first = next(chunks)
        if next(chunks, None) is not None:
            raise MessageTooLarge("what this pass gives does not fit one message: ask for a stream")
        return first

    async def answer(self, peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Serve one pass. Raises: as `StageReplica`, `read_request`, `Backlog.put`."""
        for chunk in framed(*await self._serve(await self._read(await anext(chunks, b""), chunks))):
            yield chunk

    async def _read(self, first: bytes, rest: AsyncIterator[bytes] | None) -> Received:
        stage, n_samples_max = self._replica.stage, self._options.n_samples_max
        kinds, is_last = self._replica.boundaries, stage.is_last
        return await read_request(
            first, rest, stage.index, kinds, self._codec, is_last=is_last, n_samples_max=n_samples_max
        )

    async def _serve(self, request: Received) -> tuple[pb.PassAnswer, list[bytes]]:
        """Wait until it is computed."""
        await self._reach(request.version)
        asked = _Asked(request=request, answer=asyncio.get_running_loop().create_future())
        n_bytes = sum(tensor.nbytes for tensor in request.tensors)
        self._backlog.put(Job(phase=request.phase, n_samples=request.n_samples, n_bytes=n_bytes, content=asked))
        self.tally.n_waiting_max = max(self.tally.n_waiting_max, len(self._backlog))
        self._woken.set()
        try:
            result = await asked.answer
        finally:
            self._backlog.drop(asked)
        return self._worded(result, asked.seconds)

    async def _reach(self, version: int) -> None:
        """A trainer may have heard of an update first: wait for it, rather than refuse. Raises Busy."""
        if version <= self._replica.version:
            return
        if self._n_early >= self._options.jobs_max:
            raise Busy(f"{self._n_early} passes wait here for the next version already: ask another replica")
        self._n_early += 1
        try:
            async with asyncio.timeout(EARLY_S):
                while version > self._replica.version:
                    await self._moved.wait()
        except TimeoutError:
            return  # the replica refuses it, and says why
        finally:
            self._n_early -= 1

    def _worded(self, result: Result, seconds: float) -> tuple[pb.PassAnswer, list[bytes]]:
        worded = partial(answer_of, codec=self._codec, seconds=seconds)
        if isinstance(result, Tensor):
            return worded(tensors=[result], counted=True, loss=None)
        if isinstance(result, Evaluation):
            return worded(tensors=[], counted=True, loss=result.loss, accuracy=result.accuracy)
        tensors = [] if result.input_gradient is None else [result.input_gradient]
        return worded(tensors=tensors, counted=result.counted, loss=result.loss)

    # -- computed --------------------------------------------------------------------------------

    async def _compute(self, jobs: list[Job[_Asked]]) -> None:
        asked = [job.content for job in jobs]
        together = (
            len(asked) > 1
            and not self._is_random
            and len({(one.request.version, one.request.microbatch.step) for one in asked}) == 1
        )
        for group in [asked] if together else [[one] for one in asked]:
            passes = self._passes(group[0].request.phase)
            n_samples = sum(one.request.n_samples for one in group)
            what = f"stage {group[0].request.phase.value}"
            cost = Cost(flops=passes * n_samples * self._options.flops_per_sample, what=what)
            started_s = asyncio.get_running_loop().time()
            try:
                results = await self._meter.compute(partial(self._pass, [one.request for one in group]), cost)
            except GossamerError as error:
                for one in group:
                    if not one.answer.done():
                        one.answer.set_exception(error)
            else:
                seconds = asyncio.get_running_loop().time() - started_s
                self._note(group, passes * n_samples, seconds)
                for one, result in zip(group, results, strict=True):
                    one.seconds = seconds * one.request.n_samples / n_samples
                    if not one.answer.done():
                        one.answer.set_result(result)

    def _passes(self, phase: Phase) -> float:
        """What a pass costs, in forward passes."""
        if phase is not Phase.BACKWARD:
            return 1.0
        return backward_passes(splits=self._options.splits, is_first=self._replica.stage.is_first)

    def _note(self, group: Sequence[_Asked], samples: float, seconds: float) -> None:
        is_backward = group[0].request.phase is Phase.BACKWARD
        self.tally.n_backward += len(group) if is_backward else 0
        self.tally.n_forward += 0 if is_backward else len(group)
        self.tally.samples += samples
        self.tally.seconds += seconds

    def _pass(self, requests: Sequence[Received]) -> Sequence[Result]:
        first = requests[0]
        if first.phase is Phase.EVALUATE:
            return [self._evaluate(first)]
        if first.phase is Phase.BACKWARD:
            x, arrived = first.tensors
            passed = self._replica.backward(
                first.microbatch,
                first.version,
                x,
                arrived,
                content=first.content,
                defer_weights=self._options.splits,
            )
            return [passed]
        if len(requests) == 1:
            return [self._replica.forward(first.microbatch, first.version, first.tensors[0])]
        x = torch.cat([request.tensors[0] for request in requests])
        out = self._replica.forward(first.microbatch, first.version, x)
        ends = list(accumulate(request.n_samples for request in requests))
        return [out[end - request.n_samples : end] for request, end in zip(requests, ends, strict=True)]

    def _evaluate(self, request: Received) -> Result:
        out = self._replica.evaluate(request.version, request.tensors[0])
        if not self._replica.stage.is_last:
            return out
        if self._judge is None:
            raise InvalidMessage("this peer does not evaluate: ask another replica")
        with torch.no_grad():
            return self._judge(out, request.tensors[1])

    async def _finish_one(self, of: Collection[MicrobatchId] | None = None) -> bool:
        if not self._replica.is_deferred(of):
            return False
        # How many samples it is for no longer matters to anybody who waits.
        flops = DEFERRED_PASSES * self._options.flops_per_sample * self._options.n_samples_max
        cost = Cost(flops=flops, what="stage weights")
        return await self._meter.compute(lambda: self._replica.finish_weights(of), cost)


def backward_passes(*, splits: bool, is_first: bool) -> float:
    """What a backward pass costs until it is answered, in forward passes."""
    return BACKWARD_PASSES - DEFERRED_PASSES * (splits and not is_first)


def _is_random(replica: StageReplica) -> bool:
    """Whether several microbatches in one pass would share one stream of random numbers."""
    return any(isinstance(part, nn.modules.dropout._DropoutNd) for part in replica.stage.modules())
