"""A device's work in the rounds of one run: measure, keep what was measured, and put it on its way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..protocol import devices
from ..protocol.devices import SCALARS_BYTES_MAX, Submission, Task
from ..protocol.edge_pb2 import Abandonment, Downlink, Signed, Uplink
from ..protocol.errors import GossamerError, InvalidMessage
from ..protocol.identity import Identity, PeerId
from ..protocol.network import Client, Cost
from .data import DeviceData
from .diary import Diary
from .following import Follower
from .methods import DeviceWork
from .methods.work import Answer
from .outbox import Outbox
from .sending import Sender

if TYPE_CHECKING:
    from .summing import Summing

LATE_S = 30.0
"""How long after its deadline a round is still worth working for: late answers may count."""


class Rounds:
    """One round at a time.

    Args:
        secret: 32 fresh bytes of the system's; secure sums need them.
        say: puts a word on the attendance stream.
        greet: tells the gateway where we stand.
    """

    def __init__(
        self,
        *,
        client: Client,
        identity: Identity,
        gateway: PeerId,
        run_id: str,
        data: DeviceData,
        work: DeviceWork,
        follower: Follower,
        outbox: Outbox,
        sender: Sender,
        diary: Diary,
        secret: Callable[[], bytes] | None,
        say: Callable[[Uplink], None],
        greet: Callable[[], None],
    ) -> None:
        self._client, self._identity, self._gateway, self._run_id = client, identity, gateway, run_id
        self._data, self._work, self._follower = data, work, follower
        self._outbox, self._sender, self._diary = outbox, sender, diary
        self._secret, self._say, self._greet = secret, say, greet
        self._summing: Summing | None = None
        self._summed: tuple[int, int] | None = None
        """Round and slot of the last upload to a secure sum."""
        self.task: asyncio.Task[None] | None = None
        """The round under way, or the last one."""

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()

    def begin(self, task: Task, *, ready: bool) -> None:
        """Start a round. Args: ready: the model is in the state to measure at."""
        self._summing = self._open_sum(task)
        self.task = asyncio.create_task(self._do(task, ready=ready), name="a round")

    def hear(self, word: Downlink) -> None:
        """A word about the secure sum."""
        if self._summing is not None:
            self._summing.hear(word)

    def was_summed(self, round_index: int, slot: int) -> bool:
        """Whether a receipt is for the last upload to a secure sum; it is over then."""
        mine = self._summed == (round_index, slot)
        self._summed = None if mine else self._summed
        return mine

    async def stop(self) -> None:
        """Give the round under way up."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _do(self, task: Task, *, ready: bool) -> None:
        """Measure and submit, or say why not."""
        try:
            async with asyncio.timeout(task.deadline_s + LATE_S):
                await self._answer(task, ready=ready)
        except TimeoutError:
            self._abandon(task, "it took too long")
        except (GossamerError, ValueError, OSError) as error:
            self._abandon(task, str(error))

    def _abandon(self, task: Task, reason: str) -> None:
        self._diary.counts["rounds_abandoned"] += 1
        self._say(Uplink(abandonment=Abandonment(round=task.round_index, reason=reason[:200])))
        self._diary.note("waiting", reason)

    async def _answer(self, task: Task, *, ready: bool) -> None:
        if self._summing is not None:
            await self._sum(task, self._summing, ready=ready)
            return
        waiting = self._outbox.find(task.round_index, task.slot, task.base)
        if not ready:
            await self._follower.fetch()
            if self._follower.standing != (task.step, task.base):
                self._greet()  # the group has moved on meanwhile: the gateway knows what to do with our new state
                return
        if waiting is None:
            waiting = await self._measure(task)
        self._sender.offer(*waiting)

    async def _measure(self, task: Task) -> tuple[Submission, Signed]:
        self._diary.note("measuring")
        seed = devices.round_seed(self._run_id, self._gateway, task.round_index, task.base)
        answer = await self._work.answer(seed, task, self._data)

        def keep() -> tuple[Submission, Signed]:
            submission = submission_of(task, answer)
            signed = devices.sign_submission(self._identity, self._run_id, submission)
            self._outbox.add(submission, signed, answer.scalars)
            return submission, signed

        return await self._client.compute(keep, Cost())

    # -- secure sums -----------------------------------------------------------------------------

    def _open_sum(self, task: Task) -> Summing | None:
        """What takes part in a secure sum, if this run's answers are summed."""
        options = self._work.sums
        if options is None or self._secret is None:
            return None
        from .summing import Summing  # only runs with secure sums need its cryptography

        return Summing(
            client=self._client,
            identity=self._identity,
            run_id=self._run_id,
            options=options,
            task=task,
            secret=self._secret,
            say=self._say,
        )

    async def _sum(self, task: Task, summing: Summing, *, ready: bool) -> None:
        """Keys and shares travel while this device fetches the model, if it has to, and measures."""

        async def measure() -> npt.NDArray[np.float32]:
            if not ready:
                await self._follower.fetch()
            if self._follower.standing != (task.step, task.base):
                self._greet()
                raise InvalidMessage("the group has moved on meanwhile")
            self._diary.note("measuring")
            seed = devices.round_seed(self._run_id, self._gateway, task.round_index, task.base)
            return await self._work.differences(seed, task, self._data)

        self._summed = (task.round_index, task.slot)
        await summing.run(measure)


def submission_of(task: Task, answer: Answer) -> Submission:
    """What goes to the gateway; of a long answer its name, since its scalars travel apart."""
    short = len(answer.scalars) <= SCALARS_BYTES_MAX
    return Submission(
        round_index=task.round_index,
        slot=task.slot,
        base=task.base,
        loss=answer.loss,
        scalars=bytes(answer.scalars) if short else b"",
        digest=b"" if short else hashlib.sha256(answer.scalars).digest(),
        length=0 if short else len(answer.scalars),
    )
