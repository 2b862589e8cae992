"""The devices that are here: one open stream each, over which they are asked and answer.

A device that waits costs an open stream and no traffic but a heartbeat; nobody polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from ...protocol.devices import DIGEST_BYTES, UPLINK_BYTES_MAX
from ...protocol.edge_pb2 import Abandonment, Downlink, Hello, Signed, Uplink
from ...protocol.errors import GossamerError, InvalidMessage, NotAdmitted, RemoteFailure
from ...protocol.identity import PeerId
from ...protocol.wire import parse

log = logging.getLogger(__name__)

_UNSENT_MAX = 64
_UNSENT_BYTES_MAX = 4 << 20


class Attendance:
    """One device's open stream."""

    def __init__(self, device: PeerId) -> None:
        self.device = device
        self.known: tuple[int, bytes] | None = None
        """Step and digest of the state that the device holds, as far as is known here."""
        self.assigned: object = None
        """The round that it was last asked for."""
        self.busy_since: int | None = None
        """Index of that round, until the device has answered."""
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._ended: GossamerError | None = None
        self._over = False
        self._changed = asyncio.Event()

    @property
    def over(self) -> bool:
        return self._over

    def send(self, message: Downlink) -> None:
        """Put a message on its way. A device that does not read is parted with."""
        if len(self._unsent) >= _UNSENT_MAX or self._unsent_bytes > _UNSENT_BYTES_MAX:
            self.end(InvalidMessage(f"{self.device} does not read what it is sent: connect again"))
        elif not self._over:
            self._unsent.append(message.SerializeToString())
            self._unsent_bytes += len(self._unsent[-1])
            self._changed.set()

    def end(self, error: GossamerError | None = None) -> None:
        """Close the stream after what is unsent, with an error for the device if there is one."""
        if not self._over:
            self._over, self._ended = True, error
            self._changed.set()

    async def outgoing(self, heartbeat_s: float) -> AsyncIterator[bytes]:
        """What the device is to receive, until the end."""
        heartbeat = Downlink(heartbeat=True).SerializeToString()
        while self._unsent or not self._over:
            if self._unsent:
                word = self._unsent.popleft()
                self._unsent_bytes -= len(word)
                yield word
                continue
            self._changed.clear()
            try:
                async with asyncio.timeout(heartbeat_s):
                    await self._changed.wait()
            except TimeoutError:
                yield heartbeat
        if self._ended is not None:
            raise self._ended


class Hall:
    """All attendances. What devices say goes to `on_submission` and `on_abandonment`."""

    def __init__(
        self,
        *,
        heartbeat_s: float,
        on_submission: Callable[[Attendance, Signed], Awaitable[None]],
        on_abandonment: Callable[[Attendance, Abandonment], None],
        on_change: Callable[[], None],
    ) -> None:
        self.present: dict[PeerId, Attendance] = {}
        self._heartbeat_s = heartbeat_s
        self._on_submission = on_submission
        self._on_abandonment = on_abandonment
        self._on_change = on_change
        self.on_sum: Callable[[Attendance, Uplink], Awaitable[None]] | None = None
        """Takes words about secure sums, where there are any."""
        self._farewell: Callable[[Attendance], Downlink] | None = None
        self._emptied = asyncio.Event()
        self._emptied.set()

    def devices(self) -> list[PeerId]:
        """Who is here, ordered."""
        return sorted(self.present)

    async def attend(self, peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The stream handler."""
        attendance = Attendance(peer)
        reader = asyncio.create_task(self._read(attendance, chunks), name="a device's words")
        try:
            async for chunk in attendance.outgoing(self._heartbeat_s):
                yield chunk
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self._leave(attendance)

    async def emptied(self) -> None:
        """Wait until nobody is here."""
        await self._emptied.wait()

    def expel(self, is_welcome: Callable[[PeerId], bool]) -> None:
        """End the streams of devices that are no longer enrolled."""
        for device in self.devices():
            if not is_welcome(device):
                self.present[device].end(NotAdmitted(f"{device} is not enrolled here any more"))

    def part(self, farewell: Callable[[Attendance], Downlink]) -> None:
        """Send everybody who is here, or comes later, their last word."""
        self._farewell = farewell
        for device in self.devices():
            self.present[device].send(farewell(self.present[device]))

    async def _read(self, attendance: Attendance, chunks: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in chunks:
                await self._take(attendance, parse(Uplink, chunk, bytes_max=UPLINK_BYTES_MAX, what="a device's word"))
        except GossamerError as error:
            attendance.end(error)
        except Exception as error:  # a bug, or a file that is damaged: the device shall not speak to the wall
            log.error("a word of %s could not be dealt with", attendance.device, exc_info=error)
            attendance.end(RemoteFailure("failed while it served a device's word: its log says why"))
        else:
            attendance.end()

    async def _take(self, attendance: Attendance, message: Uplink) -> None:
        match message.WhichOneof("kind"):
            case "hello":
                self._arrive(attendance, message.hello)
            case "submission" if self.present.get(attendance.device) is attendance:
                await self._on_submission(attendance, message.submission)
            case "abandonment" if self.present.get(attendance.device) is attendance:
                self._on_abandonment(attendance, message.abandonment)
            case "sum_keys" | "sum_shares" | "sum_reveal" if self.on_sum is not None:
                if self.present.get(attendance.device) is attendance:
                    await self.on_sum(attendance, message)
            case _:
                raise InvalidMessage(f"{attendance.device} says nothing known here: does it run our version?")

    def _arrive(self, attendance: Attendance, hello: Hello) -> None:
        if len(hello.digest) not in (0, DIGEST_BYTES):
            raise InvalidMessage(f"{attendance.device} holds a state whose digest has {len(hello.digest)} bytes")
        earlier = self.present.get(attendance.device)
        if earlier is not None and earlier is not attendance:
            earlier.end(InvalidMessage(f"{attendance.device} has connected anew: this stream is closed"))
        attendance.known = (hello.step, hello.digest) if hello.digest else None
        attendance.assigned = attendance.busy_since = None
        self.present[attendance.device] = attendance
        self._emptied.clear()
        if self._farewell is not None:
            attendance.send(self._farewell(attendance))
        self._on_change()

    def _leave(self, attendance: Attendance) -> None:
        attendance.end()
        if self.present.get(attendance.device) is attendance:
            del self.present[attendance.device]
            if not self.present:
                self._emptied.set()
            self._on_change()
