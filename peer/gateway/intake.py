"""Long answers on their way in: a stream for each, in pieces, from where the last one broke off.

The device shows its signed submission first, and sends nothing more before the gateway has said that it wants it: only
what a device was asked for, in a round that is still of use, comes to the disk. The stream's own flow control bounds
what is under way; a piece at a time is in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial

from ...protocol.devices import LONG_ANSWER, UPLINK_BYTES_MAX, Submission, read_submission
from ...protocol.edge_pb2 import LongAnswerWord, Receipt, Signed
from ...protocol.errors import InvalidMessage, NotAdmitted, StateError
from ...protocol.identity import PeerId
from ...protocol.network import Cost, Network, Server
from ...protocol.wire import parse
from .answers import Answers
from .spool import Spool, name_of
from .streams import few_streams


class Intake:
    """Serves `front`.

    Args:
        heard: told of a device whose answer was judged, and of the answer's round.
    """

    def __init__(
        self,
        front: Server,
        *,
        run_id: str,
        network: Network,
        answers: Answers,
        spool: Spool,
        is_enrolled: Callable[[PeerId], bool],
        heard: Callable[[PeerId, int], None],
    ) -> None:
        self._run_id, self._network, self._answers, self._spool = run_id, network, answers, spool
        self._is_enrolled, self._heard = is_enrolled, heard
        self._under_way: dict[tuple[int, int], tuple[str, object]] = {}
        """By round and slot: what is being received, and the stream that it comes on."""
        front.serve_stream(LONG_ANSWER, few_streams(self._receive))

    async def _receive(self, device: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        head = await anext(chunks, b"")
        signed = parse(Signed, head, bytes_max=UPLINK_BYTES_MAX, what="a long answer's head")
        submission = read_submission(signed, run_id=self._run_id, device=device)
        if not submission.is_long:
            raise InvalidMessage(f"{device} opens a stream for an answer that is not long: send it with the others")
        verdict = self._answers.first_look(device, submission)
        if verdict is None:
            name, stream = name_of(submission), object()
            self._begin(submission, name, stream)
            try:
                received = submission.length if self._spool.has(name) else self._spool.received(name)
                yield LongAnswerWord(offset=received).SerializeToString()
                await self._take_in(submission, stream, received, chunks)
                if not self._is_enrolled(device):
                    raise NotAdmitted(f"{device} is not enrolled here any more")
                verdict = await self._answers.judge(device, signed, submission)
            finally:
                del self._answers.held[stream]
            if verdict != Receipt.COUNTED:
                self._answers.sweep()
        self._heard(device, submission.round_index)
        if verdict is None:
            raise StateError(f"the answer of {device} could not be kept here: offer it again")
        receipt = Receipt(round=submission.round_index, slot=submission.slot, verdict=verdict)
        yield LongAnswerWord(receipt=receipt).SerializeToString()

    def _begin(self, submission: Submission, name: str, stream: object) -> None:
        """From now on this is where the slot's answer comes from. What nobody goes on with is removed."""
        self._under_way[submission.round_index, submission.slot] = name, stream
        self._answers.held[stream] = name
        self._answers.sweep()
        for slot in [slot for slot in self._under_way if self._answers.is_past(slot[0])]:
            del self._under_way[slot]
        self._spool.keep_parts({wanted for wanted, _ in self._under_way.values()})

    def _is_mine(self, submission: Submission, stream: object) -> bool:
        _, last = self._under_way.get((submission.round_index, submission.slot), ("", None))
        return last is stream

    async def _take_in(
        self, submission: Submission, stream: object, received: int, chunks: AsyncIterator[bytes]
    ) -> None:
        name, digest, length = name_of(submission), submission.digest, submission.length
        while received < length:
            piece, at = await anext(chunks, b""), received
            if not self._is_mine(submission, stream):
                raise InvalidMessage("the same answer comes on a newer stream: this one is closed")
            received += len(piece)
            if not piece or received > length:
                raise InvalidMessage(f"{at} of {length} bytes came, and then {len(piece)}: cut off")
            await self._network.compute(partial(self._spool.write, name, at, piece), Cost())
        if not self._spool.has(name):
            await self._network.compute(lambda: self._spool.complete(name, digest, length), Cost())
