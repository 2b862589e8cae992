"""A device's daemon: waits for its gateway's call, measures, answers; rests when its owner's rules say so.

It knows the world through `Client`, its folder and its sensors only, so that the simulator runs it unchanged. It holds
one stream open and polls nothing; when that breaks it connects again, for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..protocol import devices
from ..protocol.devices import Submission, Task
from ..protocol.edge_pb2 import (
    Abandonment,
    Assignment,
    Downlink,
    Finish,
    Hello,
    Receipt,
    RunCard,
    Signed,
    SnapshotHead,
    Step,
    Uplink,
)
from ..protocol.errors import GossamerError, InvalidMessage, NetworkClosed, NotAdmitted, StateError, UsageError
from ..protocol.identity import Identity, PeerId
from ..protocol.network import Client, Cost
from ..protocol.wire import parse
from .data import DeviceData
from .engines import Engines
from .folder import DeviceFolder
from .methods import DeviceWork, open_work
from .model import DeviceModel
from .outbox import Outbox
from .pacing import Pace
from .rules import Rules
from .sensors import Sensors, peak_rss_bytes

if TYPE_CHECKING:
    from .summing import Summing

CHECK_S = 5.0
"""How often the owner's rules are compared with what the sensors say while it computes. Nothing is sent for it."""
IDLE_CHECK_S = 60.0
"""While it waits: every look wakes the processor. A round that begins is a reason to look at once."""
BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 300.0
REFUSED_MAX_S = 900.0
"""A gateway that does not know us may be told of us yet."""
CALL_TIMEOUT_S = 30.0
SILENCE = 3.0
"""A gateway that is silent for so many heartbeats is gone."""
STATUS_EVERY_S = 1.0


class Device:
    """One device of one run.

    Args:
        entropy: for the backoff, so that a thousand devices do not come back in one second.
        engines: what evaluates the network; numpy if nothing is said.
        secret: 32 fresh bytes of the system's; runs with secure sums or privacy need them.
        on_idle: called whenever there is nothing to do any more.
    """

    def __init__(
        self,
        *,
        client: Client,
        identity: Identity,
        gateway: PeerId,
        run_id: str,
        folder: DeviceFolder,
        data: DeviceData,
        rules: Rules,
        sensors: Sensors,
        entropy: random.Random,
        engines: Engines | None = None,
        secret: Callable[[], bytes] | None = None,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._client, self._identity, self._gateway, self._run_id = client, identity, gateway, run_id
        self._folder, self._data, self._rules, self._sensors = folder, data, rules, sensors
        self._entropy, self._engines, self._on_idle = entropy, engines or Engines(), on_idle
        self._secret = secret
        self._outbox = Outbox(folder.outbox, identity.peer_id)
        self._card: RunCard | None = None
        self._work: DeviceWork
        self._model: DeviceModel
        self._uplink: asyncio.Queue[Uplink | None] = asyncio.Queue()
        self._round: asyncio.Task[None] | None = None
        self._summing: Summing | None = None
        self._summed: tuple[int, int] | None = None
        """Round and slot of the last upload to a secure sum."""
        self._resting: str | None = None
        self._begun = asyncio.Event()
        """A round has begun since the rules were last looked at."""
        self._finished = False
        self._state: Literal["starting", "connecting", "waiting", "measuring", "resting", "refused", "finished"] = (
            "starting"
        )
        self._written_s = float("-inf")
        self.counts = {"rounds_counted": 0, "rounds_late": 0, "rounds_refused": 0, "rounds_abandoned": 0, "resyncs": 0}
        self._last_error = ""

    async def run(self) -> None:
        """Take part until the run is finished. Cancel it to stop before."""
        backoff_s = BACKOFF_MIN_S
        try:
            while not self._finished:
                self._resting = self._rules.forbids(self._sensors())
                if self._resting is not None:
                    self._note("resting", self._resting)
                    await asyncio.sleep(CHECK_S)
                    continue
                try:
                    await self._attend()
                    backoff_s = BACKOFF_MIN_S
                except (NetworkClosed, UsageError):
                    raise
                except GossamerError as error:
                    self._note("refused" if isinstance(error, NotAdmitted) else "connecting", str(error))
                    backoff_s = await self._back_off(error, backoff_s)
        finally:
            self._note(self._state, self._last_error, at_once=True)

    async def _back_off(self, error: GossamerError, backoff_s: float) -> float:
        """Wait, and return how long to wait the next time."""
        if self._state == "waiting":
            backoff_s = BACKOFF_MIN_S  # the connection was good before it broke
        await asyncio.sleep(backoff_s * self._entropy.uniform(0.5, 1.0))
        return min(2 * backoff_s, REFUSED_MAX_S if isinstance(error, NotAdmitted) else BACKOFF_MAX_S)

    # -- one connection --------------------------------------------------------------------------

    async def _attend(self) -> None:
        """Until the stream ends, in whatever way; the errors of `Client.stream`."""
        if self._state != "resting":
            self._note("connecting")
        card = await self._open_card()
        self._uplink = asyncio.Queue()
        self._greet()
        for signed in self._outbox.waiting:
            self._say(Uplink(submission=signed))
        watch = asyncio.create_task(self._watch_rules())
        silence_s = max(CALL_TIMEOUT_S, SILENCE * card.heartbeat_s)
        answer = self._client.stream(self._gateway, devices.ATTEND, self._words(), timeout_s=silence_s)
        try:
            async for chunk in answer:
                self._raise_failure(watch)
                await self._take(parse(Downlink, chunk, bytes_max=devices.DOWNLINK_BYTES_MAX, what="a gateway's word"))
        finally:
            await self._stop_round()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            if isinstance(answer, AsyncGenerator):
                await answer.aclose()

    async def _open_card(self) -> RunCard:
        if self._card is None:
            data = await self._client.call(self._gateway, devices.CARD, b"", timeout_s=CALL_TIMEOUT_S)
            card = devices.read_card(data, gateway=self._gateway, run_id=self._run_id)
            work = open_work(card, Pace(self._client, cpu_share=self._rules.cpu_share), self._engines, self._secret)
            work.check_fits(self._data)
            with contextlib.suppress(OSError, StateError):
                self._folder.keep_network(card.network)
            self._work, self._model = work, DeviceModel(work)
            self._card = card
        return self._card

    async def _words(self) -> AsyncIterator[bytes]:
        while (word := await self._uplink.get()) is not None:
            yield word.SerializeToString()

    def _say(self, word: Uplink) -> None:
        self._uplink.put_nowait(word)

    def _greet(self) -> None:
        step, digest = self._model.standing or (0, b"")
        self._say(
            Uplink(
                hello=Hello(
                    step=step,
                    digest=digest,
                    samples=len(self._data),
                    engine=self._work.engine_name,
                    rss_bytes=self._sensors().rss_bytes,
                )
            )
        )

    async def _take(self, word: Downlink) -> None:
        match word.WhichOneof("kind"):
            case "assignment":
                await self._stop_round()
                task = self._read(word.assignment)
                # Updates are applied in the order in which they come, even if the round is given up.
                ready = not word.assignment.resync and await self._follow(
                    list(word.assignment.steps), (task.step, task.base)
                )
                self._summing = self._open_sum(task)
                self._round = asyncio.create_task(self._do(task, ready=ready), name="a round")
                self._begun.set()
            case "receipt":
                self._receive(word.receipt)
            case "sum_roster" | "sum_shares" | "sum_survivors":
                if self._summing is not None:
                    self._summing.hear(word)
            case "finish":
                await self._stop_round()
                await self._finish(word.finish)
            case "heartbeat":
                if self._state == "connecting":
                    self._note("waiting")
            case _:
                raise InvalidMessage(f"{self._gateway} says nothing known here: does it run the same version?")

    def _receive(self, receipt: Receipt) -> None:
        if self._outbox.remove(receipt.round, receipt.slot) or self._summed == (receipt.round, receipt.slot):
            self._summed = None
            names = {Receipt.COUNTED: "rounds_counted", Receipt.STALE: "rounds_late", Receipt.REFUSED: "rounds_refused"}
            name = names.get(receipt.verdict)
            if name is not None:
                self.counts[name] += 1
        self._note("waiting")

    async def _finish(self, finish: Finish) -> None:
        target = (finish.step, finish.digest)
        if finish.resync or not await self._follow(list(finish.steps), target):
            await self._resync()
        self._finished = True
        self._note("finished", at_once=True)
        self._uplink.put_nowait(None)

    # -- a round ---------------------------------------------------------------------------------

    def _read(self, assignment: Assignment) -> Task:
        return devices.read_task(
            assignment.signed, run_id=self._run_id, gateway=self._gateway, device=self._identity.peer_id
        )

    async def _do(self, task: Task, *, ready: bool) -> None:
        """Measure and submit, or say why not.

        Args:
            ready: the model is in the state to measure at.
        """
        try:
            async with asyncio.timeout(task.deadline_s + CALL_TIMEOUT_S):
                await self._answer(task, ready=ready)
        except TimeoutError:
            self._abandon(task, "it took too long")
        except (GossamerError, ValueError, OSError) as error:
            self._abandon(task, str(error))

    async def _answer(self, task: Task, *, ready: bool) -> None:
        if self._summing is not None:
            await self._sum(task, self._summing, ready=ready)
            return
        waiting = self._outbox.find(task.round_index, task.slot, task.base)
        if not ready:
            await self._resync()
            if self._model.standing != (task.step, task.base):
                self._greet()  # the group has moved on meanwhile: the gateway knows what to do with our new state
                return
        if waiting is None:
            waiting = await self._measure(task)
        self._say(Uplink(submission=waiting))

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
                await self._resync()
            if self._model.standing != (task.step, task.base):
                self._greet()
                raise InvalidMessage("the group has moved on meanwhile")
            self._note("measuring")
            seed = devices.round_seed(self._run_id, self._gateway, task.round_index, task.base)
            return await self._work.differences(seed, task, self._data)

        self._summed = (task.round_index, task.slot)
        await summing.run(measure)

    async def _measure(self, task: Task) -> Signed:
        self._note("measuring")
        seed = devices.round_seed(self._run_id, self._gateway, task.round_index, task.base)
        answer = await self._work.answer(seed, task, self._data)
        submission = Submission(
            round_index=task.round_index, slot=task.slot, base=task.base, loss=answer.loss, scalars=answer.scalars
        )
        signed = devices.sign_submission(self._identity, self._run_id, submission)
        await self._client.compute(lambda: self._outbox.add(submission, signed), Cost())
        return signed

    async def _follow(self, steps: list[Step], target: tuple[int, bytes]) -> bool:
        n, n_bytes = self._work.n_weights, sum(len(payload) for step in steps for payload in step.payloads)
        n_scalars = n_bytes * self._work.scalars_per_byte
        return await self._client.compute(
            lambda: self._model.follow(steps, target), Cost(flops=2 * n * n_scalars, memory_bytes=n * n_scalars)
        )

    async def _resync(self) -> None:
        """Fetch the gateway's present state."""
        self.counts["resyncs"] += 1
        expected = self._model.snapshot_bytes
        head: SnapshotHead | None = None
        data = bytearray()
        chunks = self._client.stream(self._gateway, devices.SNAPSHOT, _nothing(), timeout_s=CALL_TIMEOUT_S)
        async for chunk in chunks:
            if head is None:
                head = parse(SnapshotHead, chunk, bytes_max=1024, what="a snapshot's head")
                if head.length != expected:
                    raise InvalidMessage(f"a snapshot of {head.length} bytes is announced: this run's has {expected}")
                continue
            data += chunk
            if len(data) > expected:
                raise InvalidMessage(f"a snapshot is longer than the {expected} bytes announced: cut off")
        if head is None:
            raise InvalidMessage("a snapshot ended before it began: fetch it again")
        standing = (head.step, head.digest)
        await self._client.compute(lambda: self._model.restore(bytes(data), standing), Cost())

    def _abandon(self, task: Task, reason: str) -> None:
        self.counts["rounds_abandoned"] += 1
        self._say(Uplink(abandonment=Abandonment(round=task.round_index, reason=reason[:200])))
        self._note("waiting", reason)

    async def _stop_round(self) -> None:
        task, self._round = self._round, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- the owner's rules -----------------------------------------------------------------------

    async def _watch_rules(self) -> None:
        """When a rule forbids work: give up the round under way, tell the gateway, and close the stream."""
        while (reason := self._rules.forbids(self._sensors())) is None:
            busy = self._round is not None and not self._round.done()
            self._begun.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S if busy else IDLE_CHECK_S):
                    await self._begun.wait()
        self._resting = reason
        if self._round is not None and not self._round.done():
            await self._stop_round()
            self.counts["rounds_abandoned"] += 1
            self._say(Uplink(abandonment=Abandonment(reason=reason)))
        self._note("resting", reason)
        self._uplink.put_nowait(None)

    def _raise_failure(self, watch: asyncio.Task[None]) -> None:
        """A bug in a task beside the stream must not pass unseen."""
        for task in (watch, self._round):
            if task is not None and task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    # -- telling ---------------------------------------------------------------------------------

    def _note(self, state: Any, why: str = "", *, at_once: bool = False) -> None:
        """Remember what this device is doing; it gets to the status file once a second at most."""
        changed = state != self._state
        well = state in ("waiting", "measuring", "finished")
        self._state, self._last_error = state, why or ("" if well else self._last_error)
        if changed and state == "waiting":
            self._on_idle()
        now_s = asyncio.get_running_loop().time()
        if (
            at_once
            or (changed and state in ("resting", "refused", "connecting"))
            or now_s - self._written_s > STATUS_EVERY_S
        ):
            self._written_s = now_s
            with contextlib.suppress(StateError):  # a full disk is survived
                self._folder.write_status(self.status())

    def status(self) -> dict[str, Any]:
        traffic = self._client.traffic
        standing = self._model.standing if self._card is not None else None
        return {
            "device": self._identity.peer_id,
            "gateway": self._gateway,
            "run_id": self._run_id,
            "state": self._state,
            "why": self._resting if self._state == "resting" else self._last_error,
            "step": standing[0] if standing is not None else 0,
            "weights": self._model.weights_digest() if standing is not None else "",
            "outbox": len(self._outbox),
            "samples": len(self._data),
            "engine": self._work.engine_name if self._card is not None else "",
            **self.counts,
            "sent_bytes": dict(traffic.sent),
            "received_bytes": dict(traffic.received),
            "peak_rss_bytes": peak_rss_bytes(),
            "unix_s": self._client.unix_time_s(),
        }


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
