"""A device's daemon: waits for its gateway's call, measures, answers; rests when its owner's rules say so.

It knows the world through `Client`, its folder and its sensors only, so that the simulator runs it unchanged. It holds
one stream open and polls nothing; when that breaks it connects again, for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from ..protocol import devices
from ..protocol.edge_pb2 import Abandonment, Assignment, Downlink, Finish, Hello, Receipt, RunCard, Uplink
from ..protocol.errors import GossamerError, InvalidMessage, NetworkClosed, NotAdmitted, StateError, UsageError
from ..protocol.identity import Identity, PeerId
from ..protocol.network import Client
from ..protocol.wire import parse
from .data import DeviceData
from .diary import Diary
from .engines import Engines
from .folder import DeviceFolder
from .following import Follower
from .methods import DeviceWork, open_work
from .outbox import Outbox
from .pacing import Pace
from .rounds import Rounds
from .rules import Rules
from .sending import Sender
from .sensors import Sensors, peak_rss_bytes

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
VERDICTS = {Receipt.COUNTED: "rounds_counted", Receipt.STALE: "rounds_late", Receipt.REFUSED: "rounds_refused"}


class Device:
    """One device of one run.

    Args:
        entropy: for the backoff, so that a thousand devices do not come back in one second.
        engines: what evaluates the network; numpy if nothing is said.
        secret: 32 fresh bytes of the system's; runs with secure sums or privacy need them.
        on_idle: called whenever there is nothing to do any more.
        tell: called with a line for the owner whenever something keeps it from working, and when that is over.
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
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._client, self._identity, self._gateway, self._run_id = client, identity, gateway, run_id
        self._folder, self._data, self._rules, self._sensors = folder, data, rules, sensors
        self._entropy, self._engines, self._secret = entropy, engines or Engines(), secret
        self._diary = Diary(folder, status=self.status, on_idle=on_idle, tell=tell)
        self._outbox = Outbox(folder.outbox, identity.peer_id)
        self._sender = Sender(
            client=client,
            gateway=gateway,
            outbox=self._outbox,
            say=self._say,
            received=self._receive,
            failed=lambda why: self._diary.note(self._diary.state, why),
        )
        self._card: RunCard | None = None
        self._work: DeviceWork
        self._follower: Follower
        self._rounds: Rounds
        self._uplink: asyncio.Queue[Uplink | None] = asyncio.Queue()
        self._begun = asyncio.Event()
        """A round has begun since the rules were last looked at."""
        self._finished = False

    @property
    def counts(self) -> dict[str, int]:
        """What became of its rounds, and how often it fetched the whole state."""
        return {**self._diary.counts, "resyncs": self._follower.n_resyncs if self._card is not None else 0}

    async def run(self) -> None:
        """Take part until the run is finished. Cancel it to stop before."""
        backoff_s = BACKOFF_MIN_S
        try:
            while not self._finished:
                forbidden = self._rules.forbids(self._sensors())
                if forbidden is not None:
                    self._diary.note("resting", forbidden)
                    await asyncio.sleep(CHECK_S)
                    continue
                try:
                    await self._attend()
                    backoff_s = BACKOFF_MIN_S
                except (NetworkClosed, UsageError):
                    raise
                except GossamerError as error:
                    backoff_s = await self._back_off(error, backoff_s)
        finally:
            self._diary.note(self._diary.state, self._diary.why, at_once=True)

    async def _back_off(self, error: GossamerError, backoff_s: float) -> float:
        """Wait, and return how long to wait the next time."""
        if self._diary.state in ("waiting", "measuring"):
            backoff_s = BACKOFF_MIN_S  # the connection was good before it broke
        self._diary.note("refused" if isinstance(error, NotAdmitted) else "connecting", str(error))
        await asyncio.sleep(backoff_s * self._entropy.uniform(0.5, 1.0))
        return min(2 * backoff_s, REFUSED_MAX_S if isinstance(error, NotAdmitted) else BACKOFF_MAX_S)

    # -- one connection --------------------------------------------------------------------------

    async def _attend(self) -> None:
        """Until the stream ends, in whatever way; the errors of `Client.stream`."""
        if self._diary.state != "resting":
            self._diary.note("connecting")
        card = await self._open_card()
        self._uplink = asyncio.Queue()
        self._greet()
        self._sender.offer_all()
        watch = asyncio.create_task(self._watch_rules())
        silence_s = max(CALL_TIMEOUT_S, SILENCE * card.heartbeat_s)
        answer = self._client.stream(self._gateway, devices.ATTEND, self._words(), timeout_s=silence_s)
        try:
            async for chunk in answer:
                self._raise_failure(watch)
                await self._take(parse(Downlink, chunk, bytes_max=devices.DOWNLINK_BYTES_MAX, what="a gateway's word"))
        finally:
            await self._rounds.stop()
            await self._sender.stop()
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
            self._work, self._follower = work, Follower(self._client, self._gateway, work)
            self._rounds = self._open_rounds(work)
            self._card = card
        return self._card

    def _open_rounds(self, work: DeviceWork) -> Rounds:
        return Rounds(
            client=self._client,
            identity=self._identity,
            gateway=self._gateway,
            run_id=self._run_id,
            data=self._data,
            work=work,
            follower=self._follower,
            outbox=self._outbox,
            sender=self._sender,
            diary=self._diary,
            secret=self._secret,
            say=self._say,
            greet=self._greet,
        )

    async def _words(self) -> AsyncIterator[bytes]:
        while (word := await self._uplink.get()) is not None:
            yield word.SerializeToString()

    def _say(self, word: Uplink) -> None:
        self._uplink.put_nowait(word)

    def _greet(self) -> None:
        step, digest = self._follower.standing or (0, b"")
        hello = Hello(
            step=step,
            digest=digest,
            samples=len(self._data),
            engine=self._work.engine_name,
            rss_bytes=self._sensors().rss_bytes,
        )
        self._say(Uplink(hello=hello))

    async def _take(self, word: Downlink) -> None:
        match word.WhichOneof("kind"):
            case "assignment":
                await self._begin(word.assignment)
            case "receipt":
                self._receive(word.receipt)
            case "sum_roster" | "sum_shares" | "sum_survivors":
                self._rounds.hear(word)
            case "finish":
                await self._rounds.stop()
                await self._finish(word.finish)
            case "heartbeat":
                if self._diary.state == "connecting":
                    self._diary.note("waiting")
            case _:
                raise InvalidMessage(f"{self._gateway} says nothing known here: does it run the same version?")

    async def _begin(self, assignment: Assignment) -> None:
        await self._rounds.stop()
        task = devices.read_task(
            assignment.signed, run_id=self._run_id, gateway=self._gateway, device=self._identity.peer_id
        )
        # Updates are applied in the order in which they come, even if the round is given up.
        target = (task.step, task.base)
        ready = not assignment.resync and await self._follower.follow(assignment.steps, target)
        self._rounds.begin(task, ready=ready)
        self._begun.set()

    def _receive(self, receipt: Receipt) -> None:
        mine = self._outbox.remove(receipt.round, receipt.slot)
        if (mine or self._rounds.was_summed(receipt.round, receipt.slot)) and receipt.verdict in VERDICTS:
            self._diary.counts[VERDICTS[receipt.verdict]] += 1
        self._diary.note("waiting")

    async def _finish(self, finish: Finish) -> None:
        target = (finish.step, finish.digest)
        if finish.resync or not await self._follower.follow(finish.steps, target):
            await self._follower.fetch()
        self._finished = True
        self._diary.note("finished", at_once=True)
        self._uplink.put_nowait(None)

    # -- the owner's rules -----------------------------------------------------------------------

    async def _watch_rules(self) -> None:
        """When a rule forbids work: give up the round under way, tell the gateway, and close the stream."""
        while (reason := self._rules.forbids(self._sensors())) is None:
            self._begun.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S if self._busy else IDLE_CHECK_S):
                    await self._begun.wait()
        if self._busy:
            await self._rounds.stop()
            await self._sender.stop()
            self._diary.counts["rounds_abandoned"] += 1
            self._say(Uplink(abandonment=Abandonment(reason=reason)))
        self._diary.note("resting", reason)
        self._uplink.put_nowait(None)

    @property
    def _busy(self) -> bool:
        return self._rounds.busy or self._sender.busy

    def _raise_failure(self, watch: asyncio.Task[None]) -> None:
        """A bug in a task beside the stream must not pass unseen."""
        for task in (watch, self._rounds.task, *self._sender.tasks):
            if task is not None and task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def status(self) -> dict[str, Any]:
        """What `gossamer edge status` shows."""
        traffic, opened = self._client.traffic, self._card is not None
        standing = self._follower.standing if opened else None
        return {
            "device": self._identity.peer_id,
            "gateway": self._gateway,
            "run_id": self._run_id,
            "state": self._diary.state,
            "why": self._diary.why,
            "step": standing[0] if standing is not None else 0,
            "weights": self._follower.model.weights_digest() if standing is not None else "",
            "outbox": len(self._outbox),
            "samples": len(self._data),
            "engine": self._work.engine_name if opened else "",
            **self.counts,
            "sent_bytes": dict(traffic.sent),
            "received_bytes": dict(traffic.received),
            "peak_rss_bytes": peak_rss_bytes(),
            "unix_s": self._client.unix_time_s(),
        }
