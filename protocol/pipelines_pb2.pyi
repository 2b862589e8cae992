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
PASS_KIND_UNSPECIFIED: PassKind
PASS_FORWARD: PassKind
PASS_BACKWARD: PassKind

class PassRequest(_message.Message):
    __slots__ = ("step", "index", "take", "version", "stage", "kind", "tensors")
    STEP_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TAKE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    step: int
    index: int
    take: int
    version: int
    stage: int
    kind: PassKind
    tensors: _containers.RepeatedCompositeFieldContainer[_tensors_pb2.TensorHeader]
    def __init__(self, step: _Optional[int] = ..., index: _Optional[int] = ..., take: _Optional[int] = ..., version: _Optional[int] = ..., stage: _Optional[int] = ..., kind: _Optional[_Union[PassKind, str]] = ..., tensors: _Optional[_Iterable[_Union[_tensors_pb2.TensorHeader, _Mapping]]] = ...) -> None: ...

class PassAnswer(_message.Message):
    __slots__ = ("counted", "loss", "tensors")
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    counted: bool
    loss: float
    tensors: _containers.RepeatedCompositeFieldContainer[_tensors_pb2.TensorHeader]
    def __init__(self, counted: _Optional[bool] = ..., loss: _Optional[float] = ..., tensors: _Optional[_Iterable[_Union[_tensors_pb2.TensorHeader, _Mapping]]] = ...) -> None: ...
