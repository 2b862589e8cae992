"""Passes on the wire: a header that is checked first, with the tensors' bytes in it, or after it if they are many."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

from blake3 import blake3
from torch import Tensor

from ...protocol import pipelines_pb2 as pb
from ...protocol.errors import InvalidMessage, MessageTooLarge
from ...protocol.identity import PeerId
from ...protocol.network import MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES, Client
from ...protocol.wire import parse
from ...tasks import Evaluation
from .activations import Codec, Parcel, check_announced, wire_bytes
from .backlog import Phase
from .microbatches import Boundaries, Boundary, MicrobatchId

T = TypeVar("T")
METHOD, LONG_METHOD = "stage/pass", "stage/pass-stream"
SHORT_BYTES_MAX = 32 << 10
"""A pass is a call if the tensors that it brings, and those that it gives, are no more than this; else it is a stream,
which is watched for progress and may take as long as it gets on."""
KINDS = {
    Phase.FORWARD: pb.PASS_FORWARD,
    Phase.BACKWARD: pb.PASS_BACKWARD,
    Phase.EVALUATE: pb.PASS_EVALUATE,
}
Local = Callable[[PeerId, AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Answers passes of the peer that asks itself."""


@dataclass(frozen=True, kw_only=True)
class Answer(Generic[T]):
    """What a pass gave."""

    result: T
    told_s: float
    """Seconds that computing it took, by the replica's word; 0: it says nothing."""


@dataclass(frozen=True, kw_only=True)
class Returned:
    """Result of a backward pass, as it came from a replica."""

    input_gradient: Parcel | None
    """For the stage before; None at the first stage."""
    loss: float | None
    """Mean over the microbatch; None but at the last stage."""
    counted: bool
    """False: this microbatch's gradient was held there already."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A pass that a trainer asks for."""

    phase: Phase
    microbatch: MicrobatchId
    version: int
    stage: int
    parcels: tuple[Parcel, ...]
    """Forward: the input. Backward: the input, then the gradient of the output, or the targets."""

    @property
    def n_samples(self) -> int:
        return self.parcels[0].n_samples


@dataclass(frozen=True, kw_only=True)
class Received:
    """A request as it has come to a replica."""

    phase: Phase
    microbatch: MicrobatchId
    version: int
    tensors: tuple[Tensor, ...]
    content: bytes | None
    """Tells these tensors from others under the same name, in a backward pass."""

    @property
    def n_samples(self) -> int:
        return self.tensors[0].shape[0]


class StageClient:
    """Asks replicas of a stage for passes.

    Args:
        n_samples_max: of one microbatch.
        local: answers what is asked of this peer itself.
    """

    def __init__(self, network: Client, codec: Codec, *, n_samples_max: int, local: Local | None = None) -> None:
        self._network = network
        self._local = local
        self._codec = codec
        self._n_samples_max = n_samples_max

    def encode(self, tensor: Tensor) -> Parcel:
        """What a pass is asked with: the same bytes, however often it is asked for. Raises BadTensor."""
        return self._codec.encode(tensor)

    async def forward(self, peer: PeerId, request: Request, output: Boundary, *, timeout_s: float) -> Answer[Parcel]:
        """The stage's output. Raises: as `Client.stream`, and whatever the replica refuses with."""
        answer, parcels = await self._ask(peer, request, (output,), timeout_s)
        return Answer(result=parcels[0], told_s=_told_s(answer))

    async def backward(self, peer: PeerId, request: Request, *, is_first: bool, timeout_s: float) -> Answer[Returned]:
        """What a backward pass gives, at the first stage without a gradient. Raises: as `forward`."""
        wanted = () if is_first else (request.parcels[0].kind,)
        answer, parcels = await self._ask(peer, request, wanted, timeout_s)
        loss = answer.loss if answer.HasField("loss") else None
        returned = Returned(input_gradient=parcels[0] if parcels else None, loss=loss, counted=answer.counted)
        return Answer(result=returned, told_s=_told_s(answer))

    async def evaluate(
        self, peer: PeerId, request: Request, output: Boundary, *, is_last: bool, timeout_s: float
    ) -> Answer[Parcel | Evaluation]:
        """The stage's output, at the last stage how good it is. Raises: as `forward`."""
        answer, parcels = await self._ask(peer, request, () if is_last else (output,), timeout_s)
        accuracy = answer.accuracy if answer.HasField("accuracy") else None
        result = Evaluation(loss=answer.loss, accuracy=accuracy) if is_last else parcels[0]
        return Answer(result=result, told_s=_told_s(answer))

    async def _ask(
        self, peer: PeerId, request: Request, wanted: Sequence[Boundary], timeout_s: float
    ) -> tuple[pb.PassAnswer, list[Parcel]]:
        message = pb.PassRequest(
            step=request.microbatch.step,
            index=request.microbatch.index,
            take=request.microbatch.take,
            version=request.version,
            stage=request.stage,
            kind=KINDS[request.phase],
            tensors=[parcel.header for parcel in request.parcels],
        )
        chunks = framed(message, [parcel.payload for parcel in request.parcels])
        n_bytes_there = sum(len(parcel.payload) for parcel in request.parcels)
        n_bytes_back = sum(wire_bytes(kind, self._codec.compression, request.n_samples) for kind in wanted)
        answers: AsyncIterator[bytes] | None = None
        if peer == self._network.peer_id and self._local is not None:
            answers = self._local(peer, streamed(chunks))
        elif n_bytes_there > SHORT_BYTES_MAX or n_bytes_back > SHORT_BYTES_MAX:
            answers = self._network.stream(peer, LONG_METHOD, streamed(chunks), timeout_s=timeout_s)
        if answers is None:
            first = await self._network.call(peer, METHOD, next(chunks), timeout_s=timeout_s)
        else:
            first = await anext(answers, b"")
        answer = parse(pb.PassAnswer, first, bytes_max=MAX_MESSAGE_BYTES, what="a pass's answer")
        payloads = await read_payloads(answer, answers, wanted, n_samples_max=request.n_samples)
        if any(header.shape[0] != request.n_samples for header in answer.tensors):
            raise InvalidMessage(f"{peer} answers {request.n_samples} samples with another number: ask another replica")
        pairs = zip(answer.tensors, payloads, strict=True)
        return answer, [self._codec.receive(header, payload) for header, payload in pairs]


async def read_request(
    first: bytes,
    rest: AsyncIterator[bytes] | None,
    stage: int,
    boundaries: Boundaries,
    codec: Codec,
    *,
    is_last: bool,
    n_samples_max: int,
) -> Received:
    """A request that came from outside, for this stage.

    Args:
        rest: what follows the first chunk; None: that is all.
    Raises: InvalidMessage, BadTensor, ChecksumMismatch, MessageTooLarge.
    """
    message = parse(pb.PassRequest, first, bytes_max=MAX_MESSAGE_BYTES, what="a pass's request")
    if message.stage != stage:
        raise InvalidMessage(f"a pass for stage {message.stage} came to stage {stage}: look its replicas up again")
    phase = next((phase for phase, kind in KINDS.items() if kind == message.kind), None)
    if phase is None:
        raise InvalidMessage(f"a pass of unknown kind {message.kind} came: upgrade one of both sides")
    brings_both = phase is Phase.BACKWARD or (phase is Phase.EVALUATE and is_last)
    expected = (boundaries.input, boundaries.output) if brings_both else (boundaries.input,)
    payloads = await read_payloads(message, rest, expected, n_samples_max=n_samples_max)
    tensors = [codec.decode(header, payload) for header, payload in zip(message.tensors, payloads, strict=True)]
    return Received(
        phase=phase,
        microbatch=MicrobatchId(step=message.step, index=message.index, take=message.take),
        version=message.version,
        tensors=tuple(tensors),
        content=_content(message) if phase is Phase.BACKWARD else None,
    )


def _content(message: pb.PassRequest) -> bytes:
    """From the hashes of the payloads, which were checked: tensors that are as long as they are hashed once only."""
    digest = blake3()
    for header in message.tensors:
        digest.update(repr((header.codec, tuple(header.shape))).encode() + header.blake3)
    return digest.digest()


async def read_payloads(
    message: pb.PassRequest | pb.PassAnswer,
    rest: AsyncIterator[bytes] | None,
    expected: Sequence[Boundary],
    *,
    n_samples_max: int,
) -> list[bytes | memoryview]:
    """The bytes of the tensors that a message announces: exactly these kinds. Nothing longer than that is awaited.

    Raises: BadTensor, MessageTooLarge, InvalidMessage.
    """
    if len(message.tensors) != len(expected):
        raise InvalidMessage(f"a pass came with {len(message.tensors)} tensors, expected {len(expected)}: refused")
    kinds = zip(message.tensors, expected, strict=True)
    lengths = [check_announced(header, boundary, n_samples_max=n_samples_max) for header, boundary in kinds]
    received = [message.payload] if message.payload else []
    missing = sum(lengths) - len(message.payload)
    if missing < 0:
        raise _too_many(lengths)
    if rest is not None:
        async for chunk in rest:
            missing -= len(chunk)
            if missing < 0:
                raise _too_many(lengths)
            received.append(chunk)
    return _cut(received, lengths)


def _too_many(lengths: Sequence[int]) -> MessageTooLarge:
    return MessageTooLarge(f"a pass brings more than the {sum(lengths)} bytes that it announced: cut off")


def _cut(received: list[bytes], lengths: Sequence[int]) -> list[bytes | memoryview]:
    """One piece of each length; what came in pieces of these lengths is not copied. Too few bytes make short ones."""
    if [len(chunk) for chunk in received] == list(lengths):
        return list(received)
    whole = received[0] if len(received) == 1 else b"".join(received)
    ends = list(accumulate(lengths))
    view = memoryview(whole)
    return [view[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def answer_of(
    *,
    tensors: Sequence[Tensor],
    counted: bool,
    loss: float | None,
    codec: Codec,
    seconds: float,
    accuracy: float | None = None,
) -> tuple[pb.PassAnswer, list[bytes]]:
    """An answer and the payloads that follow it."""
    parcels = [codec.encode(tensor) for tensor in tensors]
    message = pb.PassAnswer(counted=counted, seconds=seconds, tensors=[parcel.header for parcel in parcels])
    if loss is not None:
        message.loss = loss
    if accuracy is not None:
        message.accuracy = accuracy
    return message, [parcel.payload for parcel in parcels]


def _told_s(answer: pb.PassAnswer) -> float:
    return answer.seconds if math.isfinite(answer.seconds) and answer.seconds > 0 else 0.0


def framed(message: pb.PassRequest | pb.PassAnswer, payloads: Sequence[bytes]) -> Iterator[bytes]:
    """The chunks of a message with its tensors: a single one, if they are few bytes, else a tensor each and more."""
    if sum(map(len, payloads)) <= SHORT_BYTES_MAX:
        message.payload, payloads = b"".join(payloads), ()
    yield message.SerializeToString()
    for payload in payloads:
        for start in range(0, len(payload), MAX_CHUNK_BYTES):
            yield payload[start : start + MAX_CHUNK_BYTES]


async def streamed(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Chunks for a stream, each made when it is wanted."""
    for chunk in chunks:
        yield chunk
