"""A dense contribution as bytes: a vector, what it counts (samples or replicas) behind it, in units of a codec.

fp32: the vector and the count as float32; sums of both are what is reduced. Any other codec: the vector's units, the
last one filled up with zeros, and one more unit that begins with the count as float32. Its sum stays exact as long as
float32 counts one by one, whatever the codec. Of the vector the *mean over the contributors* is reduced, not the sum:
of values that the codec can hold, their mean is one that it can hold as well.

What a codec drops of a contribution, its sender knows and keeps for the next round. What it drops of the reduced mean
is the same for all replicas and is not made up for; it errs, in each value, by the codec's bound (see `codecs.units`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from .clipping import GRADIENT_ABS_MAX
from .codecs import U8, Half, LinearBlocks, TreeBlocks, UnitCodec, UpperHalf
from .errors import BadPart, BadPayload
from .method import F32, float_sum

Aggregate = Callable[[Sequence[F32]], F32]
"""float32 [n_contributors][n] -> float32 [n], each value by itself."""

FP32: Final = "fp32"
_CODECS: Final[Mapping[str, type[UnitCodec]]] = {
    "fp16": Half,
    "bf16": UpperHalf,
    "int8": LinearBlocks,
    "dynamic8": TreeBlocks,
}
CODECS: Final = (FP32, *_CODECS)
CHUNK: Final = 1 << 16
"""Values that are coded in one go: a few of these fit a processor's cache."""
N_COUNTED_MAX: Final = 2**24
"""Above this float32 cannot count one by one."""
_COUNT_BYTES: Final = 4


class DenseFormat(ABC):
    """How vectors of `dim` values travel; counted ones have their count behind them, as one more value.

    Args of both kinds:
        dim: values of the vector.
        counted: whether there is a count.
    """

    unit_bytes: int
    exact: bool
    """Whether `decode` gives back the very vector."""

    def __init__(self, dim: int, *, counted: bool) -> None:
        self.dim = dim
        self.counted = counted
        self.counts = range(N_COUNTED_MAX + 1)
        """What one contribution may count."""

    @property
    @abstractmethod
    def n_bytes(self) -> int:
        """The exact length of a payload."""

    @abstractmethod
    def encode(self, vector: F32) -> bytes:
        """The payload of a float32 [dim, + 1 if counted]. Raises BadVector for NaN and infinity."""

    @abstractmethod
    def decode(self, payload: bytes) -> F32:
        """The float32 [dim, + 1 if counted] of one contribution; to be read only. Raises BadPayload."""

    @abstractmethod
    def reduce(self, parts: Sequence[U8], start: int, aggregate: Aggregate | None = None) -> U8:
        """See `Method.reduce`; `aggregate` is a robust rule in place of sum or mean. Raises BadPart."""

    @abstractmethod
    def mean(self, reduced: bytes, n_contributors: int) -> F32:
        """The sum of what was contributed divided by the sum of what it counts, fresh float32 [dim]."""

    def check(self, payload: bytes) -> None:
        """Raises BadPayload unless it is one contribution, and counts what it may."""
        if len(payload) != self.n_bytes:
            raise BadPayload(f"payload of {len(payload)} bytes, expected {self.n_bytes}")
        vector = self.decode(payload)
        # NaN makes the comparison false. What a codec rounds up is within twice the bound.
        limit = GRADIENT_ABS_MAX if self.exact else 2 * GRADIENT_ABS_MAX
        if not float(np.abs(vector).max(initial=0.0)) <= limit:
            raise BadPayload("payload holds NaN, infinity or values above 2^100")
        if self.counted and (error := self._wrong_with(vector[-1])):
            raise BadPayload(error)

    def _wrong_with(self, count: np.float32) -> str:
        """Empty: nothing."""
        if float(count).is_integer() and int(count) in self.counts:  # NaN is no integer
            return ""
        return f"it counts {count:g}, expected an integer in [{self.counts[0]}, {self.counts[-1]}]"

    def _count_of(self, parts: Sequence[U8]) -> np.float32:
        """The sum of the counts that stand at the ends of these. Raises BadPart."""
        total = np.float32(0)
        for position, part in enumerate(parts):
            count = self._read_count(part)
            if error := self._wrong_with(count):
                raise BadPart(position, error)
            total += count
        return total

    def _read_count(self, units: U8) -> np.float32:
        """Of a contribution, or of its end."""
        last = len(units) - self.unit_bytes
        return np.float32(np.frombuffer(units[last : last + _COUNT_BYTES].tobytes(), "<f4")[0])


class ExactFormat(DenseFormat):
    """fp32. Without a rule the reduced vector is the sum."""

    unit_bytes = 4
    exact = True

    @property
    def n_bytes(self) -> int:
        return 4 * (self.dim + self.counted)

    def encode(self, vector: F32) -> bytes:
        return vector.astype("<f4", copy=False).tobytes()

    def decode(self, payload: bytes) -> F32:
        return np.frombuffer(payload, "<f4")

    def reduce(self, parts: Sequence[U8], start: int, aggregate: Aggregate | None = None) -> U8:
        if self.counted and start + len(parts[0]) // self.unit_bytes > self.dim:
            self._count_of(parts)
        if aggregate is None:
            return float_sum(parts)
        vectors = [part.view(np.float32) for part in parts]
        for position, vector in enumerate(vectors):
            if not np.isfinite(vector).all():
                raise BadPart(position, "NaN or infinity")
        return aggregate(vectors).view(np.uint8)

    def mean(self, reduced: bytes, n_contributors: int) -> F32:
        vector = np.frombuffer(reduced, "<f4")
        if not self.counted:
            return vector.astype(np.float32)
        mean: F32 = np.divide(vector[:-1], max(vector[-1], np.float32(1)), dtype=np.float32)
        return mean


class CodedFormat(DenseFormat):
    """Any other codec. Without a rule the reduced vector is the mean over the contributors, the count still a sum."""

    exact = False

    def __init__(self, dim: int, codec: UnitCodec, *, counted: bool) -> None:
        super().__init__(dim, counted=counted)
        self.unit_bytes = codec.unit_bytes
        self._codec = codec
        self._n_units = codec.n_units(dim)
        """Without the count's."""

    @property
    def n_bytes(self) -> int:
        return self.unit_bytes * (self._n_units + self.counted)

    def encode(self, vector: F32) -> bytes:
        units = np.zeros(self.n_bytes, np.uint8)
        for first, end in self._chunks(self._n_units):
            values = vector[first * self._codec.unit_elements : min(self.dim, end * self._codec.unit_elements)]
            units[first * self.unit_bytes : end * self.unit_bytes] = self._codec.encode(self._filled_up(values))
        if self.counted:
            self._write_count(units, vector[-1])
        return units.tobytes()

    def decode(self, payload: bytes) -> F32:
        if len(payload) != self.n_bytes:
            raise BadPayload(f"payload of {len(payload)} bytes, expected {self.n_bytes}")
        units = np.frombuffer(payload, np.uint8)
        vector = np.empty(self._n_units * self._codec.unit_elements + 1, np.float32)
        for first, end in self._chunks(self._n_units):
            values = self._codec.decode(units[first * self.unit_bytes : end * self.unit_bytes])
            vector[first * self._codec.unit_elements : end * self._codec.unit_elements] = values
        if self.counted:
            vector[self.dim] = self._read_count(units)
        return vector[: self.dim + self.counted]

    def reduce(self, parts: Sequence[U8], start: int, aggregate: Aggregate | None = None) -> U8:
        how = aggregate if aggregate is not None else _mean
        result = np.zeros(len(parts[0]), np.uint8)
        for first, end in self._chunks(min(len(result) // self.unit_bytes, self._n_units - start)):
            piece = slice(first * self.unit_bytes, end * self.unit_bytes)
            values = [self._decode_of(position, part[piece]) for position, part in enumerate(parts)]
            result[piece] = self._codec.encode(how(values))
        if self.counted and start + len(result) // self.unit_bytes > self._n_units:
            self._write_count(result, self._count_of(parts))
        return result

    def mean(self, reduced: bytes, n_contributors: int) -> F32:
        vector = self.decode(reduced)
        if self.counted:
            weight = np.float32(n_contributors) / max(vector[-1], np.float32(1))
            vector = vector[:-1]
            vector *= weight
        return vector

    def _chunks(self, n_units: int) -> Iterator[tuple[int, int]]:
        step = max(1, CHUNK // self._codec.unit_elements)
        for first in range(0, n_units, step):
            yield first, min(n_units, first + step)

    def _filled_up(self, values: F32) -> F32:
        missing = -len(values) % self._codec.unit_elements
        return np.append(values, np.zeros(missing, np.float32)) if missing else values

    def _decode_of(self, position: int, units: U8) -> F32:
        try:
            return self._codec.decode(units)
        except BadPayload as error:
            raise BadPart(position, str(error)) from error

    def _write_count(self, units: U8, count: np.float32) -> None:
        last = len(units) - self.unit_bytes
        units[last : last + _COUNT_BYTES] = np.frombuffer(np.array(count, "<f4").tobytes(), np.uint8)


def dense_format(codec: str, dim: int, *, counted: bool) -> DenseFormat:
    """The format of a codec in `CODECS`."""
    if codec == FP32:
        return ExactFormat(dim, counted=counted)
    return CodedFormat(dim, _CODECS[codec](), counted=counted)


def _mean(vectors: Sequence[F32]) -> F32:
    total = vectors[0]
    for vector in vectors[1:]:
        total += vector
    total /= np.float32(len(vectors))
    return total
