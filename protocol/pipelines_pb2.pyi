from gossamer.protocol import rounds_pb2 as _rounds_pb2
from gossamer.protocol import tensors_pb2 as _tensors_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PassKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PASS_KIND_UNSPECIFIED: _ClassVar[PassKind]
    PASS_FORWARD: _ClassVar[PassKind]
    PASS_BACKWARD: _ClassVar[PassKind]
    PASS_EVALUATE: _ClassVar[PassKind]
PASS_KIND_UNSPECIFIED: PassKind
PASS_FORWARD: PassKind
PASS_BACKWARD: PassKind
PASS_EVALUATE: PassKind

class PassRequest(_message.Message):
    __slots__ = ("step", "index", "take", "version", "stage", "kind", "tensors", "payload")
    STEP_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TAKE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    step: int
    index: int
    take: int
    version: int
    stage: int
    kind: PassKind
    tensors: _containers.RepeatedCompositeFieldContainer[_tensors_pb2.TensorHeader]
    payload: bytes
    def __init__(self, step: _Optional[int] = ..., index: _Optional[int] = ..., take: _Optional[int] = ..., version: _Optional[int] = ..., stage: _Optional[int] = ..., kind: _Optional[_Union[PassKind, str]] = ..., tensors: _Optional[_Iterable[_Union[_tensors_pb2.TensorHeader, _Mapping]]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class PassAnswer(_message.Message):
    __slots__ = ("counted", "loss", "tensors", "accuracy", "seconds", "payload")
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    counted: bool
    loss: float
    tensors: _containers.RepeatedCompositeFieldContainer[_tensors_pb2.TensorHeader]
    accuracy: float
    seconds: float
    payload: bytes
    def __init__(self, counted: _Optional[bool] = ..., loss: _Optional[float] = ..., tensors: _Optional[_Iterable[_Union[_tensors_pb2.TensorHeader, _Mapping]]] = ..., accuracy: _Optional[float] = ..., seconds: _Optional[float] = ..., payload: _Optional[bytes] = ...) -> None: ...

class StepPlan(_message.Message):
    __slots__ = ("lineage", "round", "attempt", "dead", "deals", "counts", "part")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    DEALS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    attempt: int
    dead: _containers.RepeatedScalarFieldContainer[int]
    deals: _containers.RepeatedCompositeFieldContainer[Deal]
    counts: _containers.RepeatedCompositeFieldContainer[_rounds_pb2.Count]
    part: bool
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., dead: _Optional[_Iterable[int]] = ..., deals: _Optional[_Iterable[_Union[Deal, _Mapping]]] = ..., counts: _Optional[_Iterable[_Union[_rounds_pb2.Count, _Mapping]]] = ..., part: _Optional[bool] = ...) -> None: ...

class Deal(_message.Message):
    __slots__ = ("index", "slot")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    index: int
    slot: int
    def __init__(self, index: _Optional[int] = ..., slot: _Optional[int] = ...) -> None: ...

class LentHeader(_message.Message):
    __slots__ = ("lineage", "round", "attempt")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    attempt: int
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class Borrow(_message.Message):
    __slots__ = ("version", "names", "hash")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    version: int
    names: _containers.RepeatedScalarFieldContainer[str]
    hash: bytes
    def __init__(self, version: _Optional[int] = ..., names: _Optional[_Iterable[str]] = ..., hash: _Optional[bytes] = ...) -> None: ...

class StageRecord(_message.Message):
    __slots__ = ("stage", "version", "n_waiting", "samples_per_s", "incarnation", "rested_s")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    N_WAITING_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_PER_S_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    RESTED_S_FIELD_NUMBER: _ClassVar[int]
    stage: int
    version: int
    n_waiting: int
    samples_per_s: float
    incarnation: int
    rested_s: float
    def __init__(self, stage: _Optional[int] = ..., version: _Optional[int] = ..., n_waiting: _Optional[int] = ..., samples_per_s: _Optional[float] = ..., incarnation: _Optional[int] = ..., rested_s: _Optional[float] = ...) -> None: ...
