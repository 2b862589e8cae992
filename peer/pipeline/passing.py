"""Passes on the wire: a header that is checked first, with the tensors' bytes in it, or after it if they are many."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from ...protocol import pipelines_pb2 as pb
from ...protocol.errors import InvalidMessage, MessageTooLarge
from ...protocol.identity import PeerId
from ...protocol.network import MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES, Client
from ...protocol.wire import parse
from ...tasks import Evaluation
from ..rounds.gather import read_payload
from .activations import Codec, check_announced, wire_bytes
from .backlog import Phase
from .microbatches import Boundaries, Boundary, MicrobatchId
from .stage import Passed

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
class Request:
    """A pass that a trainer asks for."""

    phase: Phase
    microbatch: MicrobatchId
    version: int
    stage: int
    tensors: tuple[Tensor, ...]
    """Forward: the input. Backward: the input, then the gradient of the output, or the targets."""
    content: bytes | None = None
    """Tells these tensors from others under the same name; None: not known yet."""

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

    async def forward(self, peer: PeerId, request: Request, output: Boundary, *, timeout_s: float) -> Answer[Tensor]:
        """The stage's output. Raises: as `Client.stream`, and whatever the replica refuses with."""
        answer, tensors = await self._ask(peer, request, (output,), timeout_s)
        return Answer(result=tensors[0], told_s=_told_s(answer))

    async def backward(self, peer: PeerId, request: Request, *, is_first: bool, timeout_s: float) -> Answer[Passed]:
        """What a backward pass gives, at the first stage without a gradient. Raises: as `forward`."""
        x = request.tensors[0]
        wanted = () if is_first else (Boundary(shape=tuple(x.shape[1:]), dtype=x.dtype),)
        answer, tensors = await self._ask(peer, request, wanted, timeout_s)
        loss = answer.loss if answer.HasField("loss") else None
        passed = Passed(input_gradient=tensors[0] if tensors else None, loss=loss, counted=answer.counted)
        return Answer(result=passed, told_s=_told_s(answer))

    async def evaluate(
        self, peer: PeerId, request: Request, output: Boundary, *, is_last: bool, timeout_s: float
    ) -> Answer[Tensor | Evaluation]:
        """The stage's output, at the last stage how good it is. Raises: as `forward`."""
        answer, tensors = await self._ask(peer, request, () if is_last else (output,), timeout_s)
        accuracy = answer.accuracy if answer.HasField("accuracy") else None
        result = Evaluation(loss=answer.loss, accuracy=accuracy) if is_last else tensors[0]
        return Answer(result=result, told_s=_told_s(answer))

    async def _ask(
        self, peer: PeerId, request: Request, wanted: Sequence[Boundary], timeout_s: float
    ) -> tuple[pb.PassAnswer, list[Tensor]]:
        message = pb.PassRequest(
            step=request.microbatch.step,
            index=request.microbatch.index,
            take=request.microbatch.take,
            version=request.version,
            stage=request.stage,
            kind=KINDS[request.phase],
        )
        payload = _append(message, request.tensors, self._codec)
        chunks = framed(message, payload)
        n_bytes_back = sum(wire_bytes(kind, self._codec.compression, request.n_samples) for kind in wanted)
        if peer == self._network.peer_id and self._local is not None:
            answers = self._local(peer, chunks)
        elif len(payload) <= SHORT_BYTES_MAX and n_bytes_back <= SHORT_BYTES_MAX:
            whole = await self._network.call(peer, METHOD, await anext(chunks), timeout_s=timeout_s)
            answers = alone(whole)
        else:
            answers = self._network.stream(peer, LONG_METHOD, chunks, timeout_s=timeout_s)
        answer = parse(pb.PassAnswer, await anext(answers, b""), bytes_max=MAX_MESSAGE_BYTES, what="a pass's answer")
        tensors = await read_tensors(answer, answers, wanted, self._codec, n_samples_max=request.n_samples)
        if any(tensor.shape[0] != request.n_samples for tensor in tensors):
            raise InvalidMessage(f"{peer} answers {request.n_samples} samples with another number: ask another replica")
        return answer, tensors


async def read_request(
    chunks: AsyncIterator[bytes], stage: int, boundaries: Boundaries, codec: Codec, *, is_last: bool, n_samples_max: int
) -> Request:
    """A request that came from outside, for this stage. Raises InvalidMessage."""
    message = parse(pb.PassRequest, await anext(chunks, b""), bytes_max=MAX_MESSAGE_BYTES, what="a pass's request")
    if message.stage != stage:
        raise InvalidMessage(f"a pass for stage {message.stage} came to stage {stage}: look its replicas up again")
    phase = next((phase for phase, kind in KINDS.items() if kind == message.kind), None)
    if phase is None:
        raise InvalidMessage(f"a pass of unknown kind {message.kind} came: upgrade one of both sides")
    brings_both = phase is Phase.BACKWARD or (phase is Phase.EVALUATE and is_last)
    expected = (boundaries.input, boundaries.output) if brings_both else (boundaries.input,)
    tensors = await read_tensors(message, chunks, expected, codec, n_samples_max=n_samples_max)
    return Request(
        phase=phase,
        microbatch=MicrobatchId(step=message.step, index=message.index, take=message.take),
        version=message.version,
        stage=stage,
        tensors=tuple(tensors),
        content=_content(message) if phase is Phase.BACKWARD else None,
    )


def _content(message: pb.PassRequest) -> bytes:
    """From the hashes of the payloads, which were checked: tensors that are as long as they are hashed once only."""
    digest = hashlib.sha256()
    for header in message.tensors:
        digest.update(repr((header.codec, tuple(header.shape))).encode() + header.sha256)
    return digest.digest()


async def read_tensors(
    message: pb.PassRequest | pb.PassAnswer,
    chunks: AsyncIterator[bytes],
    expected: Sequence[Boundary],
    codec: Codec,
    *,
    n_samples_max: int,
) -> list[Tensor]:
    """The tensors that a message announces: exactly these kinds. Nothing longer than announced is awaited.

    Raises: BadTensor, ChecksumMismatch, MessageTooLarge, InvalidMessage.
    """
    if len(message.tensors) != len(expected):
        raise InvalidMessage(f"a pass came with {len(message.tensors)} tensors, expected {len(expected)}: refused")
    kinds = list(zip(message.tensors, expected, strict=True))
    lengths = [check_announced(header, boundary, n_samples_max=n_samples_max) for header, boundary in kinds]
    n_bytes = sum(lengths) - len(message.payload)
    if n_bytes < 0:
        raise MessageTooLarge(f"a pass brings {len(message.payload)} bytes and announces {sum(lengths)}: refused")
    payload = memoryview(message.payload + await read_payload(chunks, n_bytes))
    tensors, start = [], 0
    for (header, _), length in zip(kinds, lengths, strict=True):
        tensors.append(codec.decode(header, payload[start : start + length]))
        start += length
    return tensors


def answer_of(
    *,
    tensors: Sequence[Tensor],
    counted: bool,
    loss: float | None,
    codec: Codec,
    seconds: float,
    accuracy: float | None = None,
) -> tuple[pb.PassAnswer, bytes]:
    """An answer and the payload that follows it."""
    message = pb.PassAnswer(counted=counted, seconds=seconds)
    if loss is not None:
        message.loss = loss
    if accuracy is not None:
        message.accuracy = accuracy
    return message, _append(message, tensors, codec)


def _told_s(answer: pb.PassAnswer) -> float:
    return answer.seconds if math.isfinite(answer.seconds) and answer.seconds > 0 else 0.0


async def framed(message: pb.PassRequest | pb.PassAnswer, payload: bytes) -> AsyncIterator[bytes]:
    """The chunks of a message with its tensors: a single one, if they are few bytes."""
    if len(payload) <= SHORT_BYTES_MAX:
        message.payload, payload = payload, b""
    yield message.SerializeToString()
    for start in range(0, len(payload), MAX_CHUNK_BYTES):
        yield payload[start : start + MAX_CHUNK_BYTES]


async def alone(chunk: bytes) -> AsyncIterator[bytes]:
    """A single chunk."""
    yield chunk


def _append(message: pb.PassRequest | pb.PassAnswer, tensors: Sequence[Tensor], codec: Codec) -> bytes:
    payloads = []
    for tensor in tensors:
        header, payload = codec.encode(tensor)
        message.tensors.append(header)
        payloads.append(payload)
    return payloads[0] if len(payloads) == 1 else b"".join(payloads)
