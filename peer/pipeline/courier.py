"""Carries microbatches through the stages: the part of a trainer that makes every one of them arrive.

The tensors at each boundary are kept until the step is over, as the bytes that came: a trainer hands them on. So
whatever replica dies, and whenever, one pass is done again elsewhere, from the same tensors and with the same random
numbers; nothing above or below it is repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from ...protocol.errors import (
    BadTensor,
    Busy,
    GossamerError,
    NetworkClosed,
    NoReplica,
    NotAdmitted,
    PeerTimeout,
    StaleStage,
    UnknownMethod,
)
from ...protocol.identity import PeerId
from ...tasks import Evaluation
from .activations import Parcel
from .backlog import Phase
from .candidates import Announcement, Attempts
from .hedging import Asking, hedged
from .microbatches import Boundaries, MicrobatchId
from .pacing import Turns, any_time
from .passing import Answer, Request, Returned, StageClient
from .spreading import position_of
from .wiring import StageWiring

T = TypeVar("T")
Ask = Callable[[PeerId, float], Awaitable[Answer[T]]]
"""Asks a replica, for so many seconds at most."""
NOT_READY = (NotAdmitted, StaleStage, UnknownMethod)
"""No reason to leave a replica alone for long: it has only just come, or is about to step."""


@dataclass(frozen=True, kw_only=True)
class CourierOptions:
    """How long to wait for a pass."""

    patience: float = 10.0
    """In expected durations, by the replica's measured throughput."""
    timeout_s_min: float = 5.0
    busy_pause_s: float = 0.05
    """After a refusal for want of room; longer after each further one."""


@dataclass(eq=False)
class Carried:
    """A microbatch on its way, and afterwards."""

    microbatch: MicrobatchId
    version: int
    inputs: list[Parcel]
    """Of each stage."""
    arrived: list[Parcel | None]
    """What each stage's backward pass is given: the gradient of its output, or the targets; None: not known yet."""
    route: list[PeerId | None]
    """Who holds the gradient of each stage; None: nobody yet."""
    lives: list[int]
    """In which of its lives it was asked for that, or an earlier one."""
    loss: float | None = None
    n_rerouted: int = 0
    """Passes that had to be asked for again."""


class Courier:
    """One trainer's way through the stages.

    Args:
        wirings, boundaries: of each stage.
        unadmitted: told of a replica that does not know this peer's ticket.
    """

    def __init__(
        self,
        client: StageClient,
        wirings: Sequence[StageWiring],
        boundaries: Sequence[Boundaries],
        options: CourierOptions,
        unadmitted: Callable[[PeerId], None] = lambda peer: None,
    ) -> None:
        self._unadmitted = unadmitted
        self._client = client
        self._wirings = wirings
        self._boundaries = boundaries
        self._options = options
        self._n_mine = self._n_all = 0

    async def carry(
        self,
        microbatch: MicrobatchId,
        version: int,
        inputs: Tensor,
        targets: Tensor,
        turns: Turns = any_time,
    ) -> Carried:
        """Take a microbatch forward and back through all stages, each pass when it is its turn.

        Raises: NoReplica when a stage has nobody left, or one pass has failed too often.
        """
        n_stages = len(self._wirings)
        unknown: list[Parcel | None] = [None] * (n_stages - 1)
        carried = Carried(
            microbatch=microbatch,
            version=version,
            inputs=[self._encode(inputs)],
            arrived=[*unknown, self._encode(targets)],
            route=[None] * n_stages,
            lives=[0] * n_stages,
        )
        for stage in range(n_stages - 1):
            async with turns(stage, Phase.FORWARD):
                carried.inputs.append(await self._forward(carried, stage))
        async with turns(n_stages - 1, Phase.FORWARD):
            pass  # the last stage does both passes at once
        for stage in reversed(range(n_stages)):
            async with turns(stage, Phase.BACKWARD):
                await self.pass_back(carried, stage)
        return carried

    async def pass_back(self, carried: Carried, stage: int) -> None:
        """The backward pass of one stage, or once more if who holds its gradient has died. Raises: as `carry`."""
        x, arrived = carried.inputs[stage], carried.arrived[stage]
        assert arrived is not None
        request = self._request(carried, stage, Phase.BACKWARD, (x, arrived))
        wiring = self._wirings[stage]
        lives: dict[PeerId, int] = {}

        async def ask(peer: PeerId, timeout_s: float) -> Answer[Returned]:
            lives[peer] = wiring.life(peer)
            return await self._client.backward(peer, request, is_first=stage == 0, timeout_s=timeout_s)

        peer, returned = await self._insist(carried, request, ask)
        carried.route[stage], carried.lives[stage] = peer, lives[peer]
        carried.loss = returned.loss if returned.loss is not None else carried.loss
        if stage > 0 and carried.arrived[stage - 1] is None:
            carried.arrived[stage - 1] = returned.input_gradient

    def expect(self, n_microbatches: int, n_samples: int, n_all: int) -> None:
        """So many microbatches are to come from here in this step, of so many of all trainers."""
        self._n_mine, self._n_all = n_microbatches, n_all
        last, now_s = len(self._wirings) - 1, asyncio.get_running_loop().time()
        for stage, wiring in enumerate(self._wirings):
            phases = (Phase.BACKWARD,) if stage == last else (Phase.FORWARD, Phase.BACKWARD)
            wiring.expect(n_microbatches * sum(wiring.size(phase, n_samples) for phase in phases), now_s)

    def give_up(self, peers: frozenset[PeerId]) -> None:
        """Ask anybody but these, until told otherwise."""
        for wiring in self._wirings:
            wiring.given_up = peers

    def update(self, announcements: Sequence[Announcement]) -> None:
        """These replicas are there now."""
        for wiring in self._wirings:
            wiring.update(announcements)

    async def evaluate(self, microbatch: MicrobatchId, version: int, inputs: Tensor, targets: Tensor) -> Evaluation:
        """How good the model is on these samples. Raises: as `carry`."""
        given, wanted = self._encode(inputs), self._encode(targets)
        carried = Carried(microbatch=microbatch, version=version, inputs=[given], arrived=[], route=[], lives=[])
        last = len(self._wirings) - 1
        for stage in range(last + 1):
            parcels = (carried.inputs[-1], wanted) if stage == last else (carried.inputs[-1],)
            request = self._request(carried, stage, Phase.EVALUATE, parcels)
            result = await self._evaluate(carried, request, is_last=stage == last)
            if isinstance(result, Evaluation):
                return result
            carried.inputs.append(result)
        raise NoReplica("the last stage gave no evaluation: it runs another version of gossamer")

    async def _evaluate(self, carried: Carried, request: Request, *, is_last: bool) -> Parcel | Evaluation:
        output = self._boundaries[request.stage].output
        _, result = await self._insist(
            carried,
            request,
            lambda peer, s: self._client.evaluate(peer, request, output, is_last=is_last, timeout_s=s),
        )
        return result

    async def _forward(self, carried: Carried, stage: int) -> Parcel:
        request = self._request(carried, stage, Phase.FORWARD, (carried.inputs[stage],))
        output = self._boundaries[stage].output
        _, out = await self._insist(
            carried, request, lambda peer, s: self._client.forward(peer, request, output, timeout_s=s)
        )
        return out

    def _encode(self, tensor: Tensor) -> Parcel:
        try:
            return self._client.encode(tensor)
        except BadTensor as error:
            raise NoReplica(f"a microbatch that cannot be sent to anybody ({error}): look at the task's data") from None

    def _request(self, carried: Carried, stage: int, phase: Phase, parcels: tuple[Parcel, ...]) -> Request:
        return Request(
            phase=phase, microbatch=carried.microbatch, version=carried.version, stage=stage, parcels=parcels
        )

    async def _insist(self, carried: Carried, request: Request, ask: Ask[T]) -> tuple[PeerId, T]:
        """Ask one replica after the other until one answers; a second one, too, when the first is overdue."""
        wiring, attempts, loop = self._wirings[request.stage], Attempts(), asyncio.get_running_loop()
        phase, n_samples = request.phase, request.n_samples
        while True:
            peer = await self._choose(wiring, request, attempts)
            after_s = wiring.patience_s(peer, phase, n_samples)
            trying = self._try(wiring, request, peer, attempts, ask)

            def ask_another(asked: PeerId = peer) -> Asking[tuple[PeerId, T]] | None:
                other = wiring.sooner(asked, phase, n_samples, loop.time())
                if other is None:
                    return None
                carried.n_rerouted += 1
                return self._try(wiring, request, other, attempts, ask)

            found = await (trying if after_s is None else hedged(trying, ask_another, after_s))
            if found is not None:
                return found
            carried.n_rerouted += 1

    async def _try(
        self, wiring: StageWiring, request: Request, peer: PeerId, attempts: Attempts, ask: Ask[T]
    ) -> tuple[PeerId, T] | None:
        """Ask one replica; None if that came to nothing, and the wiring knows why."""
        loop, phase, n_samples = asyncio.get_running_loop(), request.phase, request.n_samples
        started_s = loop.time()
        timeout_s = self._timeout_s(wiring.finish_s(peer, phase, n_samples), attempts)
        work = wiring.begin(peer, phase, n_samples)
        try:
            answer = await ask(peer, timeout_s)
        except (NetworkClosed, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError):
                wiring.overtaken(peer, phase, n_samples, loop.time() - started_s)
            raise
        except PeerTimeout:
            wiring.timed_out(peer, phase, n_samples, loop.time() - started_s, attempts)
        except Busy as error:
            wiring.crowded(peer, str(error), attempts)
            await self._pause(attempts)
        except NOT_READY as error:
            if isinstance(error, NotAdmitted):
                self._unadmitted(peer)
            wiring.refused(peer, str(error), attempts)
            await self._pause(attempts)
        except GossamerError as error:
            wiring.failed(peer, str(error), loop.time(), attempts)
        else:
            seconds = loop.time() - started_s
            wiring.succeeded(peer, phase, n_samples, seconds, told_s=answer.told_s, work=work)
            return peer, answer.result
        finally:
            wiring.end(peer, phase, n_samples)
        return None

    def _timeout_s(self, expected_s: float, attempts: Attempts) -> float:
        """Longer for each try: whoever gives up a place in a queue stands at the end of the next one."""
        options = self._options
        return 2.0 ** min(attempts.n_retries, 6) * max(options.timeout_s_min, options.patience * expected_s)

    async def _pause(self, attempts: Attempts) -> None:
        await asyncio.sleep(self._options.busy_pause_s * 2.0 ** min(attempts.n_retries + attempts.n_crowded, 6))

    async def _choose(self, wiring: StageWiring, request: Request, attempts: Attempts) -> PeerId:
        """The next replica to ask; bans are waited for if there is nobody else."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                position = self._position(wiring, request)
                return wiring.choose(request.phase, request.n_samples, loop.time(), attempts, position)
            except NoReplica:
                at_s = wiring.next_chance_s(loop.time())
                if at_s is None or at_s <= loop.time():
                    raise
                await asyncio.sleep(at_s - loop.time())

    def _position(self, wiring: StageWiring, request: Request) -> float | None:
        """Of a microbatch, if this trainer has fewer in a step than there are replicas to take turns."""
        if request.phase is Phase.EVALUATE or not 0 < self._n_mine < wiring.n_replicas:
            return None
        return position_of(request.microbatch.step, request.microbatch.index, self._n_all)
